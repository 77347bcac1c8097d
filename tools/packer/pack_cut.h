/* tools/packer/pack_cut.h -- how a model is cut into tensors, chunks, frames and tiles.
 *
 * Depends on the layout, the kind of weights and the chunk size alone: not on the weights'
 * values, the codec or the number of threads.
 */
#ifndef REFINE_PACK_CUT_H
#define REFINE_PACK_CUT_H

#include "engine/model/weight_list.h"
#include "offload/pack_format.h"
#include "tools/packer/weights_policy.h"

#include <stddef.h>

typedef struct pack_cut {
    int n_tensors, n_chunks; /* tensor i is entry i of the layout */
    uint32_t n_frames, n_tiles;
    pack_tensor *tensor;  /* sqnr is still zero */
    pack_chunk *chunk;    /* file_at and stored_bytes are still zero */
    uint32_t *first_tile; /* of each chunk */
    char *names;
    size_t names_bytes;
    uint64_t bytes;       /* of all chunks, decoded */
    size_t biggest;       /* bytes of the largest chunk */
    size_t biggest_dense; /* and before any becomes int8 */
    size_t biggest_tile;  /* of those that become int8, in f32; 0: none does */
} pack_cut;

/* chunk_bytes: PACK_CHUNK_MIN .. PACK_CHUNK_MAX.  REFINE_ENOMEM, or REFINE_EFORMAT when a
 * tile alone does not fit the format. */
refine_status pack_cut_build(pack_cut *out, const weight_list *l, weights_kind kind,
                             size_t chunk_bytes, refine_error *err);
void pack_cut_free(pack_cut *c); /* a zeroed cut is fine */

#endif
