/* tools/batch/work_list.h -- which images a run makes: inputs named one by one, a directory's,
 * or a manifest's. */
#ifndef REFINE_WORK_LIST_H
#define REFINE_WORK_LIST_H

#include <refine/status.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct work_item {
    char *input, *output;    /* owned; output NULL: not yet named */
    char *prompt, *negative; /* owned; NULL: the command line's */
    uint64_t seed;
    bool seeded; /* by the manifest */
} work_item;

typedef struct work_list {
    work_item *item; /* owned */
    int n;
    size_t room;
    bool several; /* a directory or a manifest was named, or more than one input */
} work_list;

enum { WORK_MAX = 1 << 20 }; /* items */

/* A file, '-', or a directory, whose images and latents come in the order of their names.
 * REFINE_EIO, REFINE_EFORMAT: an empty directory. */
refine_status work_list_add(work_list *l, const char *input, refine_error *err);

/* Lines of JSON objects: "input", and if wanted "output", "prompt", "negative", "seed".  Relative
 * paths are resolved against the manifest's directory.  REFINE_EFORMAT names the line. */
refine_status work_list_add_manifest(work_list *l, const char *path, refine_error *err);

/* Gives every item that has none the name DIR/<stem of input>.png.  REFINE_EINVAL, dir NULL: an
 * item has no output. */
refine_status work_list_name_outputs(work_list *l, const char *dir, refine_error *err);

void work_list_free(work_list *l); /* a zeroed one is fine */

#endif
