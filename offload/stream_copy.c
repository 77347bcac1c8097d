/* offload/stream_copy.c -- the copy thread: DECODED -> COPYING -> FREE.
 *
 * It alone takes room in the ring and gives it back, in the order of transfers, behind what compute
 * has released.  Invariants by number: the head of offload/stream.c.
 */
#include "offload/stream_state.h"

#include "engine/base/clock.h"

#include <assert.h>
#include <inttypes.h>

/* The slot of the next transfer, once it is decoded. */
static slot *ready_to_copy(stream *s)
{
    if (s->shared.failed || s->shared.pause || !schedule_to_transfer(&s->schedule, &s->copy.next))
        return NULL;
    slot *sl = &s->slots[s->shared.n_copied % (uint64_t)s->n_slots];
    return sl->state == DECODED && sl->transfer == s->shared.n_copied ? sl : NULL; /* (3) */
}

/* Reserves room for a chunk, reclaiming what compute has released as far as needed.  False: there
 * is none yet; the copy thread then waits for the next release. */
static bool make_room(stream *s, int chunk, transfer_slot *f)
{
    const bool resident = s->schedule.resident[chunk];
    size_t at;
    if (resident && !stream_may_settle(s, chunk)) /* (10) */
        return false;
    for (;;) {
        if (s->shared.n_copied - s->shared.n_reclaimed < STREAM_IN_FLIGHT_MAX) {
            if (resident) {
                f->at = s->residents[chunk_list_pack(&s->chunks, chunk)] + s->place[chunk];
                f->ring_end = 0;
                return true;
            }
            if (ring_alloc(&s->copy.ring, stream_span(stream_chunk(s, chunk)->bytes), &at,
                           &f->ring_end)) {
                f->at = s->ring_base + at;
                return true;
            }
        }
        if (s->shared.n_reclaimed == s->shared.n_released) /* (4) */
            return false;
        const transfer_slot *oldest = stream_slot_of(s, s->shared.n_reclaimed++);
        if (oldest->ring_end)
            ring_free(&s->copy.ring, oldest->ring_end);
        s->copy.fence = oldest->done;
    }
}

static void enqueue_copy(stream *s, slot *sl, const transfer_slot *f)
{
    const size_t bytes = stream_chunk(s, sl->chunk)->bytes;
    const bool epoch_due = s->copy.epoch_due;
    dev_event *fence = s->copy.fence;

    s->copy.epoch_due = false;
    s->copy.fence = NULL;
    pthread_mutex_unlock(&s->lock);
    if (epoch_due)
        dev_wait(s->d, DEV_COPY, s->compute.epoch); /* (5), (10) */
    if (fence)
        dev_wait(s->d, DEV_COPY, fence); /* (5) */
    sl->since = clock_seconds();
    stream_let_in(s, f->at, bytes);
    dev_copy_in(s->d, f->at, sl->out, bytes);
    pace_send(&s->copy.pace, bytes);
    pace_drain(&s->copy.pace); /* a copy has not passed before the line has carried it */
    dev_record(s->d, f->ready, DEV_COPY);
    pthread_mutex_lock(&s->lock);
    assert(sl->state == DECODED);
    sl->state = COPYING;
    if (s->shared.n_copied++ == s->shared.n_retired)
        s->copy.busy_since = clock_seconds();
    s->shared.stats.copied_bytes += bytes;
    schedule_next(&s->schedule, &s->copy.next);
    stream_signal_compute(s, sl->transfer);
}

/* Waits for the oldest copy and frees its slot. */
static void retire_copy(stream *s)
{
    dev_event *ready = stream_slot_of(s, s->shared.n_retired)->ready;
    slot *sl = &s->slots[s->shared.n_retired % (uint64_t)s->n_slots];

    pthread_mutex_unlock(&s->lock);
    dev_sync(s->d, ready); /* (1) */
    pthread_mutex_lock(&s->lock);
    assert(sl->state == COPYING && sl->transfer == s->shared.n_retired);
    sl->state = FREE;
    trace_add(s->t, REFINE_LANE_COPY, sl->chunk, sl->since, clock_seconds(),
              stream_chunk(s, sl->chunk)->bytes);
    if (++s->shared.n_retired == s->shared.n_copied)
        s->shared.stats.copy_busy += clock_seconds() - s->copy.busy_since;
    stream_signal(s, IO);
}

/* Compute waits for the next transfer, everything it could release it has released, and there is
 * still no room: nobody will ever make any. */
static void check_ring(stream *s)
{
    if (s->shared.waiting && s->shared.awaited == s->shared.n_copied)
        stream_fail(s, REFINE_EINVAL,
                    "a ring of %zu bytes is too small for the chunks that are inside at once "
                    "(chunk %d has %" PRIu32 "): a bug in the plan, please report it",
                    s->ring_bytes, s->copy.next.chunk, stream_chunk(s, s->copy.next.chunk)->bytes);
}

/* True if it enqueued one. */
static bool copy_next(stream *s)
{
    slot *sl = s->shared.n_copied - s->shared.n_retired < COPIES ? ready_to_copy(s) : NULL;
    if (!sl)
        return false;
    transfer_slot *f = stream_slot_of(s, s->shared.n_copied);
    if (!make_room(s, sl->chunk, f)) {
        check_ring(s);
        return false;
    }
    enqueue_copy(s, sl, f);
    return true;
}

void stream_run_copy(void *context)
{
    stream *s = context;
    pthread_mutex_lock(&s->lock);
    while (!s->shared.stop) {
        if (copy_next(s))
            continue;
        if (s->shared.n_retired < s->shared.n_copied)
            retire_copy(s);
        else if (s->shared.pause)
            stream_wait_paused(s, COPY);
        else
            stream_wait(s, COPY);
    }
    while (s->shared.n_retired < s->shared.n_copied)
        retire_copy(s);
    pthread_mutex_unlock(&s->lock);
}
