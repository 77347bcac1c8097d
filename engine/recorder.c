/* engine/recorder.c -- notes the order in which weights are touched, how many bytes are
 * inside at once, and what is computed with each chunk. */
#include "engine/recorder.h"

#include "engine/base/num.h"

#include <stdint.h>

static const void *record_enter(weights *w, int chunk)
{
    recorder *r = (recorder *)w;
    const pack_chunk *c = pack_chunk_at(r->p, chunk);
    const bool first_of_segment = chunk == 0 ||
                                  pack_chunk_at(r->p, chunk - 1)->segment != c->segment;

    if (chunk != r->next && !first_of_segment)
        r->in_order = false;
    r->next = chunk + 1;
    r->inside += num_align(c->bytes, 256);
    r->inside_peak = num_max(r->inside_peak, r->inside);
    r->macs_at_enter = dev_plan_macs(r->plan);
    return NULL;
}

static void record_leave(weights *w, int chunk)
{
    recorder *r = (recorder *)w;
    r->inside -= num_align(pack_chunk_at(r->p, chunk)->bytes, 256);
    if (r->macs)
        r->macs[chunk] = dev_plan_macs(r->plan) - r->macs_at_enter;
}

void recorder_open(recorder *r, const pack *p, const dev *plan, uint64_t *macs)
{
    *r = (recorder){ .w = { record_enter, record_leave },
                     .p = p,
                     .plan = plan,
                     .next = -1,
                     .in_order = true,
                     .macs = macs };
}
