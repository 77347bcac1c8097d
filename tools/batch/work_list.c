/* tools/batch/work_list.c -- a growing array; names made from names. */
#define _XOPEN_SOURCE 700 /* S_IFMT */
#include "tools/batch/work_list.h"

#include "engine/base/mem.h"
#include "engine/base/try.h"
#include "tools/files/input_file.h"
#include "tools/files/json_values.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

static refine_status work_list_out_of_memory(refine_error *err)
{
    return refine_fail(err, REFINE_ENOMEM, "out of memory");
}

refine_status work_list_append(work_list *l, work_item **out, refine_error *err)
{
    *out = NULL;
    if (l->n == WORK_MAX)
        return refine_fail(err, REFINE_EINVAL, "more than %d inputs in one run", WORK_MAX);
    work_item *grown = mem_grow(l->item, (size_t)l->n, &l->room, sizeof *grown);
    if (!grown)
        return work_list_out_of_memory(err);
    l->item = grown;
    *out = &l->item[l->n++];
    **out = (work_item){ .strength = (double)NAN, .guidance = (double)NAN };
    return REFINE_OK;
}

char *work_list_join(const char *dir, size_t dir_len, const char *name)
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
    TRY(work_list_append(l, &item, err));
    item->input = work_list_join(dir, dir_len, name);
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

/* Names of what is left out of a directory, as far as they are told. */
enum { LEFTOVERS_TOLD = 6 };
typedef struct leftovers {
    int n;
    char names[256];
} leftovers;

/* 0: it cannot be told. */
static mode_t kind_of_entry(const char *dir, const char *name)
{
    struct stat st;
    char *path = work_list_join(dir, strlen(dir), name);
    const bool known = path && stat(path, &st) == 0;
    mem_free(path);
    return known ? st.st_mode & S_IFMT : 0;
}

static void add_leftover(leftovers *left, const char *dir, const char *name)
{
    const size_t at = strlen(left->names);
    const bool inner = kind_of_entry(dir, name) == S_IFDIR;
    if (left->n++ < LEFTOVERS_TOLD)
        (void)snprintf(left->names + at, sizeof left->names - at, "%s%.32s%s", at ? ", " : "", name,
                       inner ? "/" : "");
}

static refine_status note_leftovers(work_list *l, const char *dir, const leftovers *left,
                                    refine_error *err)
{
    if (left->n == 0)
        return REFINE_OK;
    if (!l->notes)
        l->notes = json_array();
    if (!l->notes)
        return work_list_out_of_memory(err);
    append_json_note(l->notes,
                     "%s: only PNG, JPEG and latents are read; %d left out, convert to PNG or JPEG "
                     "what is wanted: %s%s",
                     dir, left->n, left->names, left->n > LEFTOVERS_TOLD ? ", ..." : "");
    return REFINE_OK;
}

/* Nobody may ever write into a pipe that only lies there. */
static bool is_wanted_entry(const char *dir, const char *name)
{
    const mode_t kind = has_known_ending(name) ? kind_of_entry(dir, name) : S_IFDIR;
    return kind == S_IFREG || kind == 0;
}

static int by_input(const void *a, const void *b)
{
    return strcmp(((const work_item *)a)->input, ((const work_item *)b)->input);
}

static refine_status add_input_directory(work_list *l, const char *dir, refine_error *err)
{
    const int first = l->n;
    refine_status st = REFINE_OK;
    leftovers left = { 0 };
    size_t len = strlen(dir);
    DIR *d = opendir(dir);

    if (!d)
        return refine_fail(err, REFINE_EIO, "%s: cannot be read: %s", dir, strerror(errno));
    while (len > 1 && dir[len - 1] == '/')
        len--;
    for (struct dirent *e = readdir(d); e && st == REFINE_OK; e = readdir(d))
        if (is_wanted_entry(dir, e->d_name))
            st = add_input_file(l, dir, len, e->d_name, err);
        else if (e->d_name[0] != '.')
            add_leftover(&left, dir, e->d_name);
    (void)closedir(d);
    TRY(st);
    TRY(note_leftovers(l, dir, &left, err));
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

/* ---- several of each ---- */

/* What is read once, and has nothing left the second time. */
static bool is_read_once(const char *input) { return input && input_file_is_pipe(input); }

static bool copy_text(char **out, const char *text)
{
    *out = text ? mem_strdup(text) : NULL;
    return !text || *out;
}

/* The texts in `to` are its own, or NULL. */
static bool copy_work_item(work_item *to, const work_item *from)
{
    *to = *from;
    to->input = to->output = to->prompt = to->negative = to->prompt_2 = to->negative_2 = NULL;
    return copy_text(&to->input, from->input) && copy_text(&to->output, from->output) &&
           copy_text(&to->prompt, from->prompt) && copy_text(&to->negative, from->negative) &&
           copy_text(&to->prompt_2, from->prompt_2) && copy_text(&to->negative_2, from->negative_2);
}

refine_status work_list_repeat(work_list *l, int count, refine_error *err)
{
    const work_list once = *l;
    refine_status st = REFINE_OK;
    if (count < 2)
        return REFINE_OK;
    *l = (work_list){ .notes = once.notes, .several = true };
    for (int i = 0; i < once.n && st == REFINE_OK; i++) {
        if (is_read_once(once.item[i].input))
            st = refine_fail(err, REFINE_EINVAL, "%s is read only once: for --count, name a file",
                             once.item[i].input);
        for (int k = 0; k < count && st == REFINE_OK; k++) {
            work_item *item;
            st = work_list_append(l, &item, err);
            if (st == REFINE_OK && !copy_work_item(item, &once.item[i]))
                st = work_list_out_of_memory(err);
            if (st == REFINE_OK)
                item->copy = k + 1;
        }
    }
    work_list_free(&(work_list){ .item = once.item, .n = once.n });
    return st;
}

/* ---- outputs ---- */

enum { NUMBER_DIGITS = 4, NUMBER_TEXT = 24 };

static int count_digits(int v) { return v < 10 ? 1 : 1 + count_digits(v / 10); }

/* Where the ending of a file's name begins. */
static size_t ending_at(const char *path)
{
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
    const char *dot = strrchr(base, '.');
    return dot && dot > base ? (size_t)(dot - path) : strlen(path);
}

/* Of a copy, "-N" of as many digits as the last has; else nothing. */
static void number_copy(char text[NUMBER_TEXT], const work_item *item, int copies)
{
    text[0] = '\0';
    if (item->copy > 0)
        (void)snprintf(text, NUMBER_TEXT, "-%.*s%d",
                       count_digits(copies) - count_digits(item->copy), "000000000", item->copy);
}

/* A name that is there, with the copy's number in it. */
static char *number_name(const char *name, const char *number)
{
    const size_t stem = ending_at(name), n = strlen(name) + strlen(number) + 1;
    char *path = mem_alloc(n);
    if (path)
        (void)snprintf(path, n, "%.*s%s%s", (int)stem, name, number, name + stem);
    return path;
}

/* dir/STEM-N.png; without an input, dir/PLACE.png. */
static char *name_after(const char *dir, const char *input, const char *number, int place)
{
    const char *between = dir[0] && dir[strlen(dir) - 1] == '/' ? "" : "/";
    const char *slash = input ? strrchr(input, '/') : NULL, *base = slash ? slash + 1 : input;
    const size_t n = strlen(dir) + (base ? strlen(base) : 0) + strlen(number) + 32;
    char *path = mem_alloc(n);
    if (path && base)
        (void)snprintf(path, n, "%s%s%.*s%s.png", dir, between, (int)ending_at(base), base, number);
    else if (path)
        (void)snprintf(path, n, "%s%s%0*d.png", dir, between, NUMBER_DIGITS, place);
    return path;
}

static refine_status name_output(work_item *item, const char *dir, int copies, int place,
                                 refine_error *err)
{
    char number[NUMBER_TEXT], *name;
    number_copy(number, item, copies);
    if (item->output)
        name = number_name(item->output, number);
    else if (dir)
        name = name_after(dir, item->input, number, place);
    else
        return refine_fail(err, REFINE_EINVAL, "no output for %s: give -o DIRECTORY",
                           item->input ? item->input : "an image from text");
    mem_free(item->output);
    item->output = name;
    return name ? REFINE_OK : work_list_out_of_memory(err);
}

static int by_output(const void *one, const void *other)
{
    return strcmp((*(work_item *const *)one)->output, (*(work_item *const *)other)->output);
}

/* Of inputs that differ in their directories or endings alone. */
static refine_status check_outputs_apart(const work_list *l, refine_error *err)
{
    const work_item **sorted = mem_alloc((size_t)(l->n + 1) * sizeof(work_item *));
    refine_status st = REFINE_OK;
    if (!sorted)
        return work_list_out_of_memory(err);
    for (int i = 0; i < l->n; i++)
        sorted[i] = &l->item[i];
    if (l->n > 1)
        qsort(sorted, (size_t)l->n, sizeof *sorted, by_output);
    for (int i = 1; i < l->n && st == REFINE_OK; i++) {
        const work_item *a = sorted[i - 1], *b = sorted[i];
        if (a->input && b->input && !a->line && !b->line && strcmp(a->output, b->output) == 0)
            st = refine_fail(err, REFINE_EINVAL,
                             "%.120s and %.120s would both become %.120s; give one of them another "
                             "name, or name outputs in a --manifest",
                             a->input, b->input, a->output);
    }
    mem_free(sorted);
    return st;
}

refine_status work_list_name_outputs(work_list *l, const char *dir, refine_error *err)
{
    int copies = 0;
    for (int i = 0; i < l->n; i++)
        copies = l->item[i].copy > copies ? l->item[i].copy : copies;
    for (int i = 0; i < l->n; i++)
        TRY(name_output(&l->item[i], dir, copies, i + 1, err));
    return check_outputs_apart(l, err);
}

/* ---- kinds ---- */

/* What an engine is opened for, as far as the list tells. */
static int compare_kinds(const work_item *a, const work_item *b)
{
    const double pairs[][2] = {
        { !a->input, !b->input },
        { a->steps, b->steps },
        { isnan(a->strength) ? -1 : a->strength, isnan(b->strength) ? -1 : b->strength },
        { a->guidance <= 1, b->guidance <= 1 },
        { a->sized, b->sized },
        { a->size.kind, b->size.kind },
        { a->size.width, b->size.width },
        { a->size.height, b->size.height },
        { a->size.megapixels, b->size.megapixels },
    };
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++)
        if (pairs[i][0] < pairs[i][1] || pairs[i][0] > pairs[i][1])
            return pairs[i][0] < pairs[i][1] ? -1 : 1;
    return 0;
}

static int by_kind_and_place(const void *one, const void *other)
{
    const work_item *a = one, *b = other;
    const int kinds = compare_kinds(a, b);
    return kinds ? kinds : (a->place > b->place) - (a->place < b->place);
}

bool work_list_group(work_list *l)
{
    bool moved = false;
    for (int i = 0; i < l->n; i++)
        l->item[i].place = i;
    if (l->n > 1)
        qsort(l->item, (size_t)l->n, sizeof *l->item, by_kind_and_place);
    for (int i = 0; i < l->n; i++)
        moved = moved || l->item[i].place != i;
    return moved;
}

void work_list_free(work_list *l)
{
    for (int i = 0; i < l->n; i++) {
        mem_free(l->item[i].input);
        mem_free(l->item[i].output);
        mem_free(l->item[i].prompt);
        mem_free(l->item[i].negative);
        mem_free(l->item[i].prompt_2);
        mem_free(l->item[i].negative_2);
    }
    mem_free(l->item);
    json_decref(l->notes);
    *l = (work_list){ 0 };
}
