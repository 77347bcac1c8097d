/* engine/model/model.h -- a pack understood as a model: which chunks hold which weight.
 *
 * The parts declare their weights (weight_list.h) as the pack's configuration has them, and
 * model_open compares the pack's index, entry by entry, with that list.  After that a weight is
 * the reference that its block keeps, and no name or shape from the file is looked at again.
 */
#ifndef REFINE_MODEL_H
#define REFINE_MODEL_H

#include "engine/model/text_encoder.h"
#include "engine/model/unet.h"
#include "engine/model/vae.h"
#include "offload/pack.h"

typedef struct model {
    pack *p;                   /* owned */
    weight_list l;             /* owned */
    text_encoder text, text_l; /* the latter of a base alone */
    unet *unet;                /* owned; its transformers hold the prompt of a run */
    vae vae;
    char source_name[256];
    size_t vector_bytes; /* of all vector chunks, each at a multiple of PACK_VECTOR_ALIGN */
    uint64_t hash; /* of all in the pack that results depend on: not of its chunks or its name */
} model;

refine_status model_open(model *out, const char *pack_path, refine_error *err);
void model_close(model *m); /* a zeroed model is fine */

/* What the list and what the pack say of a weight; w: present. */
const weight_entry *model_entry(const model *m, wref w);
const pack_tensor *model_tensor(const model *m, wref w);

/* Where a vector lies inside the block of all vectors. */
size_t model_vector_at(const model *m, wref w);

/* Are any weights int8? */
bool model_quantised(const model *m);

/* A chunk's rows as a tensor of weights at `p`. */
tensor model_rows(const model *m, int chunk, const void *p);

#endif
