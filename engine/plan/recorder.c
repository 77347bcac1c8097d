/* engine/plan/recorder.c -- notes the order in which weights are touched, how many bytes are
 * inside at once, and what is computed from one entry to the next. */
#include "engine/plan/recorder.h"

#include "engine/base/num.h"
#include "offload/stream.h"

#include <stdint.h>

void recorder_flush(recorder *r)
{
    const dev_work now = dev_plan_work(r->plan), then = r->at_acquire;
    if (r->work && r->last >= 0)
        r->work[r->last] = (dev_work){ now.linear - then.linear, now.conv - then.conv,
                                       now.attention - then.attention, now.bytes - then.bytes };
    r->at_acquire = now;
    r->last = -1;
}

static const void *record_acquire(weights *w, int chunk)
{
    recorder *r = (recorder *)w;
    const pack_chunk *c = pack_chunk_at(r->p, chunk);
    const bool first_of_segment = chunk == 0 ||
                                  pack_chunk_at(r->p, chunk - 1)->segment != c->segment;

    if (chunk != r->next && !first_of_segment)
        r->in_order = false;
    r->next = chunk + 1;
    r->inside += stream_span(c->bytes);
    r->inside_peak = num_max(r->inside_peak, r->inside);
    recorder_flush(r);
    r->last = chunk;
    return NULL;
}

static void record_release(weights *w, int chunk)
{
    recorder *r = (recorder *)w;
    r->inside -= stream_span(pack_chunk_at(r->p, chunk)->bytes);
}

void recorder_open(recorder *r, const pack *p, const dev *plan, dev_work *work)
{
    *r = (recorder){ .w = { record_acquire, record_release },
                     .p = p,
                     .plan = plan,
                     .next = -1,
                     .in_order = true,
                     .last = -1,
                     .work = work };
}
