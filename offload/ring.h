/* offload/ring.h -- a ring of bytes: pieces of any size, taken and given back in order.
 *
 * Positions only grow; byte `position % bytes` of the ring is meant.  A piece never
 * wraps: one that does not fit before the end begins at the start, and the bytes it
 * skipped come back with it.
 *
 *     tail <= head <= tail + bytes        [tail, head) is taken
 *
 * Knows offsets only, not the memory.  Every piece begins at a multiple of DEV_ALIGN.
 */
#ifndef REFINE_RING_H
#define REFINE_RING_H

#include "kernels/device.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct ring {
    uint64_t bytes, head, tail;
} ring;

static inline void ring_open(ring *r, size_t bytes)
{
    *r = (ring){ .bytes = bytes / DEV_ALIGN * DEV_ALIGN };
}

/* Takes `n` bytes: *at is their offset, *end the position to give back.  False, and
 * nothing taken: no room now. */
bool ring_alloc(ring *r, size_t n, size_t *at, uint64_t *end);

/* Gives back everything up to `end`, which some ring_alloc returned. */
void ring_free(ring *r, uint64_t end);

/* Bytes a ring must have so that a run of pieces fits wherever its first one lies: `sum` bytes
 * together, each rounded up to DEV_ALIGN, none of more than `biggest`. */
size_t ring_min(size_t sum, size_t biggest);

#endif
