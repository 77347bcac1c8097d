/* engine/model/model.h -- a pack understood as a model: which chunks hold which weight.
 *
 * model_open compares the pack's index, entry by entry, with the layout computed
 * from its configuration.  After that a weight is an index into the layout, and no
 * name or shape from the file is looked at again.
 */
#ifndef REFINE_MODEL_H
#define REFINE_MODEL_H

#include "engine/model/weight_list.h"
#include "kernels/tensor.h"
#include "offload/pack.h"

typedef int wref; /* an entry of the layout; NO_WEIGHT: absent */
enum { NO_WEIGHT = -1 };

typedef struct model {
    pack *p;       /* owned */
    weight_list l; /* owned */
    char source_name[256];
    size_t vector_bytes; /* of all vector chunks, each at a multiple of PACK_VECTOR_ALIGN */
} model;

refine_status model_open(model *out, const char *pack_path, refine_error *err);
void model_close(model *m); /* a zeroed model is fine */

/* By layout name.  A name the layout lacks is our bug. */
wref model_weight(const model *m, const char *name);

/* Where a vector lies inside the block of all vectors. */
size_t model_vector_at(const model *m, wref w);

/* Are any weights int8? */
bool model_quantised(const model *m);

/* A chunk's rows as a tensor of weights at `p`. */
tensor model_rows(const model *m, int chunk, const void *p);

#endif
