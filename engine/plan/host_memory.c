/* engine/plan/host_memory.c -- staging that fits, and what is left for spill and cache. */
#include "engine/plan/host_memory.h"

#include "engine/base/num.h"
#include "engine/model/scratch.h"
#include "offload/stream.h"

enum { DEFAULT_SLOTS = 8, SMALLEST_SLOTS = 2, DEFAULT_WORKERS = 2 };

int host_memory_workers(const refine_options *o)
{
    return o->decode_threads > 0 ? o->decode_threads : DEFAULT_WORKERS;
}

host_memory host_memory_fit(const chunk_list *l, const refine_options *o, size_t taken,
                            uint64_t limit, bool guards)
{
    const bool asked = o->decode_threads > 0;
    const size_t caller = (size_t)o->caller_bytes, fixed = taken + caller;
    int slots = DEFAULT_SLOTS, workers = host_memory_workers(o);

    while (slots > SMALLEST_SLOTS && fixed + stream_host_bytes(l, slots, workers, guards) > limit)
        slots--;
    if (!asked && fixed + stream_host_bytes(l, slots, workers, guards) > limit)
        workers = 1;
    const int fewest = asked ? workers : 1;
    return (host_memory){
        .bytes = fixed + stream_host_bytes(l, slots, workers, guards),
        .staging = stream_staging_bytes(l, slots, guards),
        .caller = caller,
        .smallest = fixed + stream_host_bytes(l, SMALLEST_SLOTS, fewest, guards),
        .slots = slots,
        .workers = workers,
    };
}

static size_t host_left(const host_memory *h, uint64_t limit)
{
    return h->bytes < limit ? (size_t)limit - h->bytes : 0;
}

host_memory host_memory_with_spill(host_memory h, size_t bytes, uint64_t limit)
{
    h.spill_host = num_min(bytes, host_left(&h, limit));
    h.spill_host -= h.spill_host % SCRATCH_ALIGN;
    h.spill_file = bytes - h.spill_host;
    h.bytes += h.spill_host;
    return h;
}

size_t host_memory_cache_room(const host_memory *h, uint64_t wanted, uint64_t limit)
{
    const size_t left = host_left(h, limit);
    if (wanted == UINT64_MAX)
        return 0;
    return wanted ? (size_t)num_min(left, wanted) : left;
}

host_memory host_memory_with_cache(host_memory h, size_t cached)
{
    h.cached = cached;
    h.bytes += cached;
    return h;
}
