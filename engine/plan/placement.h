/* engine/plan/placement.h -- which weights of a step stay on the device, or in host memory.
 *
 * Residents are chosen in one of two ways, of which the caller simulates both (docs/residents.md):
 *
 *     ranked   least compute for each byte first: such chunks are the ones whose transfer cannot
 *              hide.  Best where little fits
 *     spread   the same share of every stretch of the step.  Best where much fits, as the link then
 *              never starves long
 */
#ifndef REFINE_PLACEMENT_H
#define REFINE_PLACEMENT_H

#include "kernels/device.h"
#include "offload/pack.h"

/* Chunks of a pack that a step touches, in its order. */
typedef struct chunk_range {
    const pack *p;
    int first, end;
} chunk_range;

typedef struct ranked_chunk {
    int chunk;
    uint64_t macs, bytes;
} ranked_chunk;

typedef enum placement_order { PLACEMENT_RANKED, PLACEMENT_SPREAD } placement_order;

/* Least compute for each byte first.  work: per chunk of the pack; `out` has room for the range. */
void placement_rank(ranked_chunk *out, const chunk_range *step, const dev_work *work);

/* Each fills in `chosen` (per chunk of the pack; those of the step) with as many as fit `room`, and
 * returns their bytes where they will lie.  ranked: of the step; for PLACEMENT_RANKED alone. */
size_t placement_residents(bool *chosen, const chunk_range *step, placement_order order,
                           const ranked_chunk *ranked, uint64_t room);
/* Spread over those that are read in a step, so that the disk is asked evenly too. */
size_t placement_cache(bool *chosen, const chunk_range *step, const bool *resident, uint64_t room);

#endif
