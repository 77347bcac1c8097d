/* tools/source/tensor_index.h -- a checkpoint's tensors under their canonical names.
 *
 * A part is a view of one tensor of one file: all of it, some of its rows, or its
 * transpose.  Canonical names are diffusers' behind "unet.", "vae.", "text." or "text_l.".
 */
#ifndef REFINE_TENSOR_INDEX_H
#define REFINE_TENSOR_INDEX_H

#include "engine/model/weight_list.h"
#include "tools/files/safetensors.h"

#include <stdbool.h>

enum { PART_DIMS = 4 };

typedef struct tensor_part {
    char name[WEIGHT_NAME];
    const safetensors *file; /* borrowed */
    const safetensor *tensor;
    int n_dims;
    uint64_t dim[PART_DIMS]; /* of the view */
    uint64_t elements;       /* of the view */
    uint64_t skip;           /* elements of the tensor before the view */
    bool transposed;         /* stored as (dim[1], dim[0]) */
} tensor_part;

typedef struct tensor_index {
    int n;
    size_t room;
    tensor_part *part; /* owned; sorted by name once sealed */
} tensor_index;

/* Of the single-file layout.  What ldm_translate does not know is left out. */
refine_status tensor_index_ldm(tensor_index *ix, const safetensors *f, refine_error *err);

/* Of one component of the diffusers layout: prefix "unet.", "vae.", "text." or "text_l.". */
refine_status tensor_index_diffusers(tensor_index *ix, const safetensors *f, const char *prefix,
                                     refine_error *err);

/* A VAE in either layout's names, or a single file's, of which only the VAE is taken. */
refine_status tensor_index_vae(tensor_index *ix, const safetensors *f, refine_error *err);

/* Is there a part, and away with all parts, whose name begins with `prefix`. */
bool tensor_index_has(const tensor_index *ix, const char *prefix);
void tensor_index_drop(tensor_index *ix, const char *prefix);

/* Sorts; REFINE_EFORMAT when two parts have one name. */
refine_status tensor_index_seal(tensor_index *ix, refine_error *err);
void tensor_index_free(tensor_index *ix);

/* REFINE_EFORMAT: of a type that no weight is read from; the text names it. */
refine_status tensor_part_check_type(const tensor_part *p, refine_error *err);

/* NULL: no such part. */
const tensor_part *tensor_index_find(const tensor_index *ix, const char *name);

#endif
