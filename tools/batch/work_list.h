/* tools/batch/work_list.h -- which images a run makes: of inputs named one by one, a directory's,
 * or a manifest's (tools/batch/manifest.h), or from text alone. */
#ifndef REFINE_WORK_LIST_H
#define REFINE_WORK_LIST_H

#include "tools/batch/size_wish.h"
#include <refine/status.h>

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum seed_source { SEED_OF_COMMAND, SEED_GIVEN, SEED_DRAWN } seed_source;

/* What a manifest does not say is the command line's. */
typedef struct work_item {
    char *input, *output; /* owned; no input: from text alone; no output: not yet named */
    char *prompt, *negative, *prompt_2, *negative_2; /* owned; NULL: not said */
    seed_source seed_from;
    uint64_t seed;             /* SEED_GIVEN */
    int steps;                 /* 0: not said */
    double strength, guidance; /* NaN: not said */
    size_wish size;            /* where sized; `fit` is the command line's */
    bool sized;
    int copy;  /* 1, 2, ... of work_list_repeat, each with the next seed; 0: the only one */
    int line;  /* of the manifest; 0: of none */
    int place; /* in the list, before it was grouped */
} work_item;

typedef struct work_list {
    work_item *item; /* owned */
    int n;
    size_t room;
    json_t *notes; /* owned, texts: what of a directory was left out; NULL: nothing */
    bool several; /* a directory or a manifest was named, or there is more than one */
} work_list;

enum { WORK_MAX = 1 << 20 }; /* items */

/* A file, '-', or a directory, whose images and latents come in the order of their names.
 * REFINE_EIO, REFINE_EFORMAT: an empty directory. */
refine_status work_list_add(work_list *l, const char *input, refine_error *err);

/* An item that says nothing.  *out is good until the next one. */
refine_status work_list_append(work_list *l, work_item **out, refine_error *err);

/* dir/name, or name alone where it is absolute or there is no dir; NULL: out of memory. */
char *work_list_join(const char *dir, size_t dir_len, const char *name);

/* So many of each item, one after the other.  REFINE_EINVAL: an input can be read only once. */
refine_status work_list_repeat(work_list *l, int count, refine_error *err);

/* Gives every item that has none the name DIR/<stem of input>.png, or DIR/<number in the list>.png
 * where it has no input, and adds a copy's number to its name.  REFINE_EINVAL, dir NULL: an item
 * has no output. */
refine_status work_list_name_outputs(work_list *l, const char *dir, refine_error *err);

/* Brings items together that one engine may serve, otherwise in their order.  Whether that has
 * changed. */
bool work_list_group(work_list *l);

void work_list_free(work_list *l); /* a zeroed one is fine */

#endif
