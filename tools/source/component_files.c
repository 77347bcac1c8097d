/* tools/source/component_files.c -- names taken apart; the names of others' files known. */
#define _XOPEN_SOURCE 700
#include "tools/source/component_files.h"

#include "engine/base/mem.h"
#include "engine/base/num.h"
#include "engine/base/try.h"
#include "tools/files/file_kind.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { PATH_BYTES = 4096 };

static const char WHOLE[] = ".safetensors", INDEX[] = ".safetensors.index";

static bool has_ending(const char *name, const char *end)
{
    const size_t n = strlen(name), m = strlen(end);
    return n >= m && strcmp(name + n - m, end) == 0;
}

/* ".VARIANT" at `at`: its length, dot and all; 0 when it is none. */
static size_t copy_variant(char out[COMPONENT_VARIANT], const char *at)
{
    const size_t n = at[0] == '.' ? strcspn(at + 1, ".") : 0;
    if (n == 0 || n >= COMPONENT_VARIANT)
        return 0;
    memcpy(out, at + 1, n);
    out[n] = 0;
    return n + 1;
}

static bool parse_component_name(component_file *f, const char *name, const char *stem)
{
    const size_t n = strlen(stem);
    const char *at = name + n;

    *f = (component_file){ 0 };
    if (strncmp(name, stem, n) != 0 || strlen(name) >= COMPONENT_NAME)
        return false;
    memcpy(f->name, name, strlen(name) + 1);
    if (strncmp(at, WHOLE, strlen(WHOLE)) != 0)
        at += copy_variant(f->variant, at);
    if (strcmp(at, WHOLE) == 0)
        return true;
    if (strncmp(at, INDEX, strlen(INDEX)) != 0)
        return false;
    f->sharded = true;
    at += strlen(INDEX);
    if (!f->variant[0] && strcmp(at, ".json") != 0)
        at += copy_variant(f->variant, at);
    return strcmp(at, ".json") == 0;
}

/* ---- the names in a directory ---- */

typedef struct name_list {
    char (*name)[COMPONENT_NAME]; /* owned; sorted */
    int n;
    size_t room;
} name_list;

static int compare_listed_names(const void *a, const void *b) { return strcmp(a, b); }

static refine_status list_names(name_list *l, const char *dir, refine_error *err)
{
    refine_status st = REFINE_OK;
    DIR *d = opendir(dir);
    if (!d)
        return fail_to_open(dir, err);
    for (const struct dirent *e; st == REFINE_OK && (e = readdir(d));) {
        const size_t len = strlen(e->d_name);
        if (len >= COMPONENT_NAME)
            continue;
        char(*grown)[COMPONENT_NAME] = mem_grow(l->name, (size_t)l->n, &l->room, sizeof *grown);
        if (grown) {
            l->name = grown;
            memcpy(l->name[l->n++], e->d_name, len + 1);
        } else {
            st = refine_fail(err, REFINE_ENOMEM, "out of memory");
        }
    }
    (void)closedir(d);
    if (l->n)
        qsort(l->name, (size_t)l->n, sizeof *l->name, compare_listed_names);
    return st;
}

/* ---- nothing to read ---- */

static const struct {
    const char *part; /* of the name; its end, where it begins with a dot */
    const char *is;   /* what such a file means */
} OTHERS[] = {
    { ".incomplete", "a download that is not finished" },
    { ".part", "a download that is not finished" },
    { ".crdownload", "a download that is not finished" },
    { ".aria2", "a download that is not finished" },
    { "-of-", "shards, but not their index" },
    { ".safetensors", "weights, but under another name" },
    { "openvino", "weights for OpenVINO" },
    { ".onnx", "weights for ONNX" },
    { ".onnx_data", "weights for ONNX" },
    { ".msgpack", "weights for Flax" },
    { ".h5", "weights for TensorFlow" },
    { ".gguf", "weights for GGUF" },
    { ".bin", "pickled weights" },
    { ".pt", "pickled weights" },
    { ".pth", "pickled weights" },
    { ".ckpt", "pickled weights" },
};

static refine_status refuse_component(const name_list *l, const char *dir, const char *stem,
                                      refine_error *err)
{
    for (size_t i = 0; i < sizeof OTHERS / sizeof OTHERS[0]; i++)
        for (int k = 0; k < l->n; k++) {
            const char *part = OTHERS[i].part, *name = l->name[k];
            if (part[0] == '.' ? has_ending(name, part) : strstr(name, part) != NULL)
                return refine_fail(err, REFINE_EFORMAT,
                                   "%s: has %s (%.100s) only; get its %s.safetensors", dir,
                                   OTHERS[i].is, name, stem);
        }
    return refine_fail(err, REFINE_EFORMAT, "%s: has no %s.safetensors", dir, stem);
}

/* ---- the choice ---- */

static bool is_there(const char *dir, const char *name)
{
    char path[PATH_BYTES];
    struct stat s;
    return snprintf(path, sizeof path, "%s/%s", dir, name) < PATH_BYTES && stat(path, &s) == 0;
}

/* Is `a` to be read rather than `b`, of which it may be the first? */
static bool is_better(const component_file *a, const component_file *b, const char *variant)
{
    if (!b->name[0] || a->there != b->there)
        return !b->name[0] || a->there;
    const bool asked = variant && strcmp(a->variant, variant) == 0;
    if (asked != (variant && strcmp(b->variant, variant) == 0))
        return asked;
    if (!a->variant[0] != !b->variant[0])
        return !a->variant[0];
    return b->sharded && !a->sharded && strcmp(a->variant, b->variant) == 0;
}

/* Another variant than the chosen one, where nothing says which of them is meant. */
static refine_status refuse_variants(const component_file *a, const char *b, const char *dir,
                                     refine_error *err)
{
    return refine_fail(err, REFINE_EFORMAT,
                       "%s: its weights are there as %s and as %s: choose with --variant %s", dir,
                       a->variant, b, a->variant);
}

static refine_status choose_among(component_file *out, const name_list *l, const char *dir,
                                  const char *stem, const char *variant, refine_error *err)
{
    component_file f;
    char other[COMPONENT_VARIANT] = "";

    for (int i = 0; i < l->n; i++)
        if (parse_component_name(&f, l->name[i], stem)) {
            f.there = is_there(dir, f.name);
            if (is_better(&f, out, variant))
                *out = f;
        }
    if (!out->name[0])
        return refuse_component(l, dir, stem, err);
    for (int i = 0; i < l->n; i++)
        if (parse_component_name(&f, l->name[i], stem) && strcmp(f.variant, out->variant) != 0 &&
            is_there(dir, f.name) == out->there)
            memcpy(other, f.variant, sizeof other);
    const bool asked = variant && strcmp(out->variant, variant) == 0;
    if (out->variant[0] && other[0] && !asked)
        return refuse_variants(out, other, dir, err);
    return REFINE_OK;
}

refine_status component_files_choose(component_file *out, const char *dir, const char *stem,
                                     const char *variant, refine_error *err)
{
    name_list l = { 0 };
    *out = (component_file){ 0 };
    refine_status st = list_names(&l, dir, err);
    if (st == REFINE_OK)
        st = choose_among(out, &l, dir, stem, variant, err);
    mem_free(l.name);
    return st;
}
