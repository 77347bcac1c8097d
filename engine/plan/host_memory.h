/* engine/plan/host_memory.h -- who gets what of the host's memory.
 *
 *     ceiling:  heap | caller | threads, staging | spill | cache
 *
 * In this order: what is behind takes what is left.  Values go in and come out; nothing is taken.
 */
#ifndef REFINE_HOST_MEMORY_H
#define REFINE_HOST_MEMORY_H

#include "offload/chunk_list.h"
#include <refine/refine.h>

typedef struct host_memory {
    size_t bytes;                   /* heap and staging at their peak, the arena apart */
    size_t staging, cached, caller; /* of them; the last for the caller */
    size_t spill_host, spill_file;  /* for feature maps off the device; the first is of `bytes` */
    size_t smallest;                /* a ceiling that would do */
    int slots, workers;             /* of the stream */
} host_memory;

/* Decode threads, where memory allows them. */
int host_memory_workers(const refine_options *o);

/* The stream beside the caller's memory and what is `taken` by others: as many slots as fit, then
 * fewer workers if their number was not asked for.  The smallest stream may still be too large:
 * then `bytes` is above `limit`. */
host_memory host_memory_fit(const chunk_list *l, const refine_options *o, size_t taken,
                            uint64_t limit, bool guards);

/* So many bytes of feature maps go to host memory as far as it reaches, then to a file. */
host_memory host_memory_with_spill(host_memory h, size_t bytes, uint64_t limit);

/* What weights in host memory may take at most.  wanted: refine_options.cached_bytes. */
size_t host_memory_cache_room(const host_memory *h, uint64_t wanted, uint64_t limit);
host_memory host_memory_with_cache(host_memory h, size_t cached);

#endif
