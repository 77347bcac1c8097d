/* engine/plan/placement.c -- chunks ranked by compute per byte, or spread evenly. */
#include "engine/plan/placement.h"

#include "engine/base/num.h"
#include "engine/model/scratch.h"
#include "offload/stream.h"

#include <stdlib.h>

static int compare_ranked(const void *pa, const void *pb)
{
    const ranked_chunk *a = pa, *b = pb;
    const double ra = (double)a->macs / (double)a->bytes, rb = (double)b->macs / (double)b->bytes;
    if (ra != rb)
        return ra < rb ? -1 : 1;
    return (a->chunk > b->chunk) - (a->chunk < b->chunk);
}

static size_t resident_bytes(const pack_chunk *c) { return num_align(c->bytes, SCRATCH_ALIGN); }

void placement_rank(ranked_chunk *out, const chunk_range *step, const dev_work *work)
{
    for (int i = step->first; i < step->end; i++)
        out[i - step->first] = (ranked_chunk){ i, dev_work_macs(work[i]),
                                               resident_bytes(pack_chunk_at(step->p, i)) };
    qsort(out, (size_t)(step->end - step->first), sizeof *out, compare_ranked);
}

static size_t take_ranked(bool *chosen, const chunk_range *step, const ranked_chunk *ranked,
                          uint64_t room)
{
    size_t sum = 0;
    for (int i = 0; i < step->end - step->first; i++) {
        const bool fits = sum + ranked[i].bytes <= room;
        chosen[ranked[i].chunk] = fits;
        sum += fits ? (size_t)ranked[i].bytes : 0;
    }
    return sum;
}

/* Those that are not in `without` (NULL: all), evenly (Bresenham). */
static size_t take_spread(bool *chosen, const chunk_range *step, const bool *without, uint64_t room,
                          size_t (*bytes_of)(const pack_chunk *))
{
    double all = 0, due = 0;
    size_t sum = 0;

    for (int i = step->first; i < step->end; i++)
        all += without && without[i] ? 0.0 : (double)bytes_of(pack_chunk_at(step->p, i));
    for (int i = step->first; i < step->end; i++) {
        const size_t bytes = bytes_of(pack_chunk_at(step->p, i));
        chosen[i] = false;
        if (without && without[i])
            continue;
        due += (double)bytes * ((double)room / all);
        if (due < (double)bytes || sum + bytes > room)
            continue;
        due -= (double)bytes;
        chosen[i] = true;
        sum += bytes;
    }
    return sum;
}

size_t placement_residents(bool *chosen, const chunk_range *step, placement_order order,
                           const ranked_chunk *ranked, uint64_t room)
{
    return order == PLACEMENT_RANKED ? take_ranked(chosen, step, ranked, room)
                                     : take_spread(chosen, step, NULL, room, resident_bytes);
}

size_t placement_cache(bool *chosen, const chunk_range *step, const bool *resident, uint64_t room)
{
    return take_spread(chosen, step, resident, room, stream_cached_bytes);
}
