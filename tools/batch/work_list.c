/* tools/batch/work_list.c -- a growing array; names made from names. */
#define _GNU_SOURCE /* getline */
#include "tools/batch/work_list.h"

#include "engine/base/mem.h"
#include "engine/base/try.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

enum { LINE_BYTES_MAX = 1 << 20 };

static refine_status work_list_out_of_memory(refine_error *err)
{
    return refine_fail(err, REFINE_ENOMEM, "out of memory");
}

static refine_status append_work_item(work_list *l, work_item **out, refine_error *err)
{
    *out = NULL;
    if (l->n == WORK_MAX)
        return refine_fail(err, REFINE_EINVAL, "more than %d inputs in one run", WORK_MAX);
    work_item *grown = mem_grow(l->item, (size_t)l->n, &l->room, sizeof *grown);
    if (!grown)
        return work_list_out_of_memory(err);
    l->item = grown;
    *out = &l->item[l->n++];
    **out = (work_item){ 0 };
    return REFINE_OK;
}

/* dir/name, or name alone where it is absolute or there is no dir. */
static char *join_input_path(const char *dir, size_t dir_len, const char *name)
{
    const bool alone = name[0] == '/' || dir_len == 0;
    const size_t n = (alone ? 0 : dir_len + 1) + strlen(name) + 1;
    char *path = mem_alloc(n);
    if (path)
        (void)snprintf(path, n, "%.*s%s%s", alone ? 0 : (int)dir_len, dir, alone ? "" : "/", name);
    return path;
}

static refine_status add_input_file(work_list *l, const char *dir, size_t dir_len, const char *name,
                                    refine_error *err)
{
    work_item *item;
    TRY(append_work_item(l, &item, err));
    item->input = join_input_path(dir, dir_len, name);
    return item->input ? REFINE_OK : work_list_out_of_memory(err);
}

/* ---- directories ---- */

static bool has_known_ending(const char *name)
{
    static const char *const ENDINGS[] = { ".png",  ".jpg", ".jpeg",        ".jpe",
                                           ".jfif", ".npy", ".safetensors", ".latent" };
    const size_t n = strlen(name);
    for (size_t i = 0; i < sizeof ENDINGS / sizeof ENDINGS[0]; i++) {
        const size_t m = strlen(ENDINGS[i]);
        if (n > m && strcasecmp(name + n - m, ENDINGS[i]) == 0)
            return name[0] != '.';
    }
    return false;
}

static int by_input(const void *a, const void *b)
{
    return strcmp(((const work_item *)a)->input, ((const work_item *)b)->input);
}

static refine_status add_input_directory(work_list *l, const char *dir, refine_error *err)
{
    const int first = l->n;
    refine_status st = REFINE_OK;
    size_t len = strlen(dir);
    DIR *d = opendir(dir);

    if (!d)
        return refine_fail(err, REFINE_EIO, "%s: cannot be read: %s", dir, strerror(errno));
    while (len > 1 && dir[len - 1] == '/')
        len--;
    for (struct dirent *e = readdir(d); e && st == REFINE_OK; e = readdir(d))
        if (has_known_ending(e->d_name))
            st = add_input_file(l, dir, len, e->d_name, err);
    (void)closedir(d);
    TRY(st);
    if (l->n == first)
        return refine_fail(err, REFINE_EFORMAT, "%s: holds no PNG, JPEG or latents", dir);
    qsort(l->item + first, (size_t)(l->n - first), sizeof *l->item, by_input);
    return REFINE_OK;
}

refine_status work_list_add(work_list *l, const char *input, refine_error *err)
{
    struct stat st;
    l->several = l->several || l->n > 0;
    if (strcmp(input, "-") != 0 && stat(input, &st) == 0 && S_ISDIR(st.st_mode)) {
        l->several = true;
        return add_input_directory(l, input, err);
    }
    return add_input_file(l, "", 0, input, err);
}

/* ---- manifests ---- */

/* A string member, if it is there: *out is then a copy. */
static bool take_string(const json_t *o, const char *key, char **out)
{
    const json_t *v = json_object_get(o, key);
    if (!v)
        return true;
    *out = json_is_string(v) ? mem_strdup(json_string_value(v)) : NULL;
    return *out != NULL;
}

static bool take_seed(const json_t *o, work_item *item)
{
    const json_t *v = json_object_get(o, "seed");
    if (!v)
        return true;
    item->seeded = json_is_integer(v) && json_integer_value(v) >= 0;
    item->seed = item->seeded ? (uint64_t)json_integer_value(v) : 0;
    return item->seeded;
}

/* Replaces a name by the path from the manifest's directory. */
static bool from_directory(char **name, const char *dir, size_t dir_len)
{
    if (!*name)
        return true;
    char *path = join_input_path(dir, dir_len, *name);
    mem_free(*name);
    *name = path;
    return path != NULL;
}

static refine_status add_line(work_list *l, const char *manifest, const char *text, int line,
                              refine_error *err)
{
    const char *slash = strrchr(manifest, '/');
    const size_t dir_len = slash ? (size_t)(slash - manifest) + (slash == manifest) : 0;
    work_item *item;
    json_t *o = json_loads(text, JSON_REJECT_DUPLICATES, NULL);

    if (!json_is_object(o)) {
        json_decref(o);
        return refine_fail(err, REFINE_EFORMAT, "%s: line %d is no JSON object", manifest, line);
    }
    refine_status st = append_work_item(l, &item, err);
    if (st == REFINE_OK &&
        !(take_string(o, "input", &item->input) && take_string(o, "output", &item->output) &&
          take_string(o, "prompt", &item->prompt) && take_string(o, "negative", &item->negative) &&
          take_seed(o, item) && item->input))
        st = refine_fail(err, REFINE_EFORMAT,
                         "%s: line %d: \"input\" must be there, texts be strings and \"seed\" a "
                         "whole number",
                         manifest, line);
    json_decref(o);
    TRY(st);
    if (!from_directory(&item->input, manifest, dir_len) ||
        !from_directory(&item->output, manifest, dir_len))
        return work_list_out_of_memory(err);
    return REFINE_OK;
}

static bool is_blank(const char *s) { return s[strspn(s, " \t\r\n")] == 0; }

refine_status work_list_add_manifest(work_list *l, const char *path, refine_error *err)
{
    const int first = l->n;
    refine_status st = REFINE_OK;
    char *text = NULL;
    size_t room = 0;
    FILE *f = fopen(path, "re");

    l->several = true;
    if (!f)
        return refine_fail(err, REFINE_EIO, "%s: cannot be opened: %s", path, strerror(errno));
    for (int line = 1; st == REFINE_OK && getline(&text, &room, f) >= 0; line++) {
        if (room > LINE_BYTES_MAX)
            st = refine_fail(err, REFINE_EFORMAT, "%s: line %d is too long", path, line);
        else if (!is_blank(text))
            st = add_line(l, path, text, line, err);
    }
    if (st == REFINE_OK && ferror(f))
        st = refine_fail(err, REFINE_EIO, "%s: cannot be read: %s", path, strerror(errno));
    if (st == REFINE_OK && l->n == first)
        st = refine_fail(err, REFINE_EFORMAT, "%s: names no input", path);
    free(text); /* getline's own */
    (void)fclose(f);
    return st;
}

/* ---- outputs ---- */

static char *name_after(const char *dir, const char *input)
{
    const char *slash = strrchr(input, '/'), *base = slash ? slash + 1 : input;
    const char *dot = strrchr(base, '.');
    const size_t stem = dot && dot > base ? (size_t)(dot - base) : strlen(base);
    const size_t n = strlen(dir) + stem + 6;
    char *path = mem_alloc(n);
    if (path)
        (void)snprintf(path, n, "%s%s%.*s.png", dir,
                       dir[0] && dir[strlen(dir) - 1] == '/' ? "" : "/", (int)stem, base);
    return path;
}

refine_status work_list_name_outputs(work_list *l, const char *dir, refine_error *err)
{
    for (int i = 0; i < l->n; i++) {
        work_item *item = &l->item[i];
        if (item->output)
            continue;
        if (!dir)
            return refine_fail(err, REFINE_EINVAL, "no output for %s: give -o DIRECTORY",
                               item->input);
        item->output = name_after(dir, item->input);
        if (!item->output)
            return work_list_out_of_memory(err);
    }
    return REFINE_OK;
}

void work_list_free(work_list *l)
{
    for (int i = 0; i < l->n; i++) {
        mem_free(l->item[i].input);
        mem_free(l->item[i].output);
        mem_free(l->item[i].prompt);
        mem_free(l->item[i].negative);
    }
    mem_free(l->item);
    *l = (work_list){ 0 };
}
