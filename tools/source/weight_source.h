/* tools/source/weight_source.h -- where the packer gets its weights from.
 *
 * Behind the one call is a checkpoint (tools/source/checkpoint.h) or a generator of random
 * numbers (tools/source/synthetic.h).  Both answer for the source tensors that the layout
 * (engine/model/weight_list.h) names, in the shapes and the order of elements of diffusers.
 */
#ifndef REFINE_WEIGHT_SOURCE_H
#define REFINE_WEIGHT_SOURCE_H

#include "engine/model/weight_list.h"
#include "kernels/tensor.h"

#include <stddef.h>
#include <stdint.h>

typedef struct weight_source weight_source;

struct weight_source {
    const char *name; /* what the user gave, without its directory */
    const char *vae;  /* the same of its VAE, where that was given by itself; else NULL */
    const char *kind; /* "single-file", "diffusers", "synthetic" */
    const char *title;             /* what it calls itself; NULL: nothing */
    const char *types, *vae_types; /* of its numbers, such as "F16, F32"; NULL: it has no files */
    uint64_t bytes;                /* of the source's files; 0 when it has none */
    weight_list list;              /* of its model; the source's */

    /* Elements [first, first + n) of source tensor `part` of list.entry[entry], flat in
     * diffusers' order, as DT_F16 or DT_F32.  Rounds to nearest; a finite value that
     * does not fit is an error.  May be called from several threads at once. */
    refine_status (*read)(const weight_source *s, int entry, int part, uint64_t first, size_t n,
                          dtype to, void *dst, refine_error *err);
    /* Says that these elements will be read soon.  Never fails, never waits. */
    void (*expect)(const weight_source *s, int entry, int part, uint64_t first, size_t n);
    void (*close)(weight_source *s);
};

#endif
