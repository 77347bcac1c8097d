/* offload/stream.c -- the threads between the pack and the ring; of them, the compute thread.
 *
 * Transfers (offload/schedule.h) are numbered from 0 in the order of the schedule.  Transfer t uses
 * staging slot t % slots, and transfer slot t % in flight (STREAM_IN_FLIGHT_MAX), a pair of events.
 * A staging slot goes round:
 *
 *            I/O thread        last request       last frame        copy thread
 *     FREE ------------> READING --------> READ --------> DECODED -------------> COPYING
 *      ^                                  (workers)                                 |
 *      +------------------------ copy thread: the copy has passed ------------------+
 *
 * Coded chunks are read into one part of the slot and decoded into the other; raw ones are
 * read to where they will be copied from, and only their hashes are looked at.
 *
 * Counters only grow during a run:
 *
 *     n_reclaimed <= n_released <= n_copied <= n_begun
 *     n_retired <= n_copied
 *     n_begun <= n_retired + slots
 *     n_copied <= n_reclaimed + in flight
 *
 * Invariants, each kept by exactly one wait, on the condition that the numbered line checks:
 *  (1) a slot is read into only after the copy out of it has finished
 *                          (copy thread syncs with `ready` before the slot is FREE, in retire_copy)
 *  (2) a chunk is decoded only after all its bytes have come
 *                          (workers wait until take_frame finds a READ slot)
 *  (3) a chunk is copied only after all its frames are decoded
 *                          (copy thread waits until ready_to_copy finds it DECODED)
 *  (4) a `done` is waited for, and a slot used again, only after compute has released, so that
 *      `done` has been recorded
 *                          (copy thread waits until make_room finds n_released far enough)
 *  (5) ring bytes are overwritten only after the compute that read them has finished, and
 *      everything, in a new run, only after all the compute before it
 *                          (copy queue waits on `fence` or `epoch`, in enqueue_copy)
 *  (6) a `ready` is waited for only after it has been recorded
 *                          (compute thread waits for n_copied, in wait_for_copied)
 *  (7) compute starts only after its weights have arrived
 *                          (compute queue waits on `ready`, in acquire_transferred)
 *  (8) a run is reset only when every thread stands still
 *                          (compute thread waits for n_paused, in stream_restart)
 *  (9) a place in the cache is filled by one transfer, and not read before, nor filled before
 *      compute has come to the chunk's pack and the copies out of it have finished
 *                          (I/O thread waits for kept, entered and FREE, in begin_transfer)
 * (10) a place for residents is written to after compute has come to the chunk's pack, and after
 *      all the compute before
 *                          (copy thread waits for entered, in make_room, then as in (5))
 *
 * A resident chunk needs no wait after its first use: (7) then made the compute queue
 * wait, and the queue keeps its order.
 *
 * Failure.  Whoever meets one puts it in the device, which makes its work no-ops, sets
 * `failed` and signals everybody; nothing advances any more and stream_close still drains.
 * A ring too small for what is inside at once would wait for ever in (4): the copy
 * thread sees that compute waits for the very chunk that does not fit, and fails.
 */
#include "offload/stream_state.h"

#include "engine/base/clock.h"
#include "engine/base/try.h"

#include <assert.h>
#include <string.h>

/* ---- the compute thread ---- */

/* A chunk of the pack that compute has come to, by its number. */
static int chunk_number(const stream *s, int chunk)
{
    return s->chunks.first[s->compute.pack] + chunk;
}

/* What compute waits for when it waits for transfer t. */
static refine_lane cause_of_stall(const stream *s, uint64_t t)
{
    const slot *sl = &s->slots[t % (uint64_t)s->n_slots];
    if (sl->state == FREE || (sl->transfer == t && sl->state == READING))
        return REFINE_LANE_STALL_DISK;
    return sl->transfer == t && sl->state == READ ? REFINE_LANE_STALL_DECODE
                                                  : REFINE_LANE_STALL_COPY;
}

/* A use's compute is one span of the trace, whatever its kinds. */
static void count_compute(stream *s, queue_stretch q, double begin, double end)
{
    s->compute.kinds[q.kind] += end - begin;
    s->compute.times[q.chunk].seconds += end - begin;
    if (s->compute.use_began < 0)
        s->compute.use_began = begin;
    if (!q.ends)
        return;
    s->compute.times[q.chunk].uses++;
    trace_add(s->t, REFINE_LANE_COMPUTE, q.chunk, s->compute.use_began, end, 0);
    s->compute.use_began = -1;
}

/* A stretch of the compute queue is over. */
void stream_record_stretch(void *stream_, queue_stretch q, double begin, double end)
{
    stream *s = stream_;
    double *const stall[] = { &s->shared.stats.stall_disk, &s->shared.stats.stall_decode,
                              &s->shared.stats.stall_copy };
    if (q.lane == REFINE_LANE_COMPUTE) {
        count_compute(s, q, begin, end);
        return;
    }
    trace_add(s->t, q.lane, q.chunk, begin, end, 0);
    pthread_mutex_lock(&s->lock);
    *stall[q.lane - REFINE_LANE_STALL_DISK] += end - begin;
    pthread_mutex_unlock(&s->lock);
}

static void mark_stall(stream *s, refine_lane cause, int chunk)
{
    queue_clock_mark(&s->compute.clock, (queue_stretch){ .lane = cause, .chunk = chunk });
}

static void mark_compute(stream *s, bool ends)
{
    const queue_stretch q = { REFINE_LANE_COMPUTE, s->compute.inside, s->compute.kind, ends };
    queue_clock_mark(&s->compute.clock, q);
}

/* What has been enqueued since the last mark was of another kind than what comes. */
void stream_set_kind(void *stream_, dev_kind now)
{
    stream *s = stream_;
    if (s->compute.inside >= 0)
        mark_compute(s, false);
    s->compute.kind = now;
}

/* Waits, if transfer t has not been copied, for something to change; *cause says for what. */
static bool wait_for_copied(stream *s, uint64_t t, refine_lane *cause)
{
    pthread_mutex_lock(&s->lock);
    s->shared.awaited = t;
    s->shared.waiting = s->shared.n_copied <= t && !s->shared.failed; /* (6) */
    const bool waits = s->shared.waiting;
    if (waits) {
        stream_signal(s, COPY);
        *cause = cause_of_stall(s, t);
        stream_wait(s, COMPUTE);
    } else {
        s->shared.stats.chunks++;
    }
    pthread_mutex_unlock(&s->lock);
    return waits;
}

static const void *acquire_transferred(stream *s, uint64_t t)
{
    const transfer_slot *f = stream_slot_of(s, t);
    const int chunk = s->compute.acquiring.chunk;
    refine_lane cause;

    while (wait_for_copied(s, t, &cause))
        mark_stall(s, cause, chunk);
    if (dev_status(s->d) != REFINE_OK)
        return NULL;
    dev_wait(s->d, DEV_COMPUTE, f->ready); /* (7) */
    mark_stall(s, REFINE_LANE_STALL_COPY, chunk);
    return f->at;
}

static const void *acquire_resident(stream *s, int chunk)
{
    pthread_mutex_lock(&s->lock);
    s->shared.stats.resident_hits++;
    pthread_mutex_unlock(&s->lock);
    return s->residents[s->compute.pack] + s->place[chunk];
}

/* The time up to now was the compute of the chunk acquired last. */
static void end_use(stream *s)
{
    mark_compute(s, true);
    s->compute.inside = -1;
}

void stream_settle_times(stream *s)
{
    end_use(s);
    queue_clock_settle(&s->compute.clock);
    stream_check_zones(s);
}

double stream_compute_seconds(const stream *s, int chunk)
{
    const use_time *v = &s->compute.times[chunk_number(s, chunk)];
    return v->uses ? v->seconds / (double)v->uses : 0.0;
}

double stream_kind_seconds(const stream *s, dev_kind k) { return s->compute.kinds[k]; }

int stream_position(const stream *s)
{
    return s->compute.inside < 0 ? -1 : s->compute.inside - s->chunks.first[s->compute.pack];
}

const void *stream_acquire(weights *w, int of_pack)
{
    stream *s = (stream *)w;
    const int chunk = chunk_number(s, of_pack);
    end_use(s);
    if (dev_status(s->d) != REFINE_OK)
        return NULL;
    assert(!schedule_at_end(&s->schedule, &s->compute.acquiring) &&
           "more uses than the schedule has");
    assert(s->compute.acquiring.chunk == chunk && "used out of order");

    const void *at = schedule_is_transfer(&s->schedule, &s->compute.acquiring)
                         ? acquire_transferred(s, s->compute.acquiring.transfer)
                         : acquire_resident(s, chunk);
    schedule_next(&s->schedule, &s->compute.acquiring);
    s->compute.inside = chunk;
    return dev_status(s->d) == REFINE_OK ? at : NULL;
}

void stream_release(weights *w, int of_pack)
{
    stream *s = (stream *)w;
    const int chunk = chunk_number(s, of_pack);
    if (dev_status(s->d) != REFINE_OK)
        return;
    assert(s->compute.releasing.use < s->compute.acquiring.use &&
           s->compute.releasing.chunk == chunk && "released in another order than acquired");

    if (schedule_is_transfer(&s->schedule, &s->compute.releasing)) {
        const transfer_slot *f = stream_slot_of(s, s->compute.releasing.transfer);
        if (f->ring_end)
            stream_shut_out(s, f->at, stream_chunk(s, chunk)->bytes);
        dev_record(s->d, f->done, DEV_COMPUTE);
        pthread_mutex_lock(&s->lock);
        s->shared.n_released++;
        stream_signal(s, COPY);
        pthread_mutex_unlock(&s->lock);
    }
    schedule_next(&s->schedule, &s->compute.releasing);
}

/* ---- a run's beginning ---- */

void stream_reset(stream *s)
{
    s->io.next = s->copy.next = s->compute.acquiring = s->compute.releasing = schedule_begin(
        &s->schedule);
    s->shared.n_begun = s->shared.n_copied = s->shared.n_retired = s->shared.n_released =
        s->shared.n_reclaimed = 0;
    s->compute.pack = s->shared.entered = 0;
    s->io.filling = NULL;
    ring_open(&s->copy.ring, s->ring_bytes);
    stream_shut_out(s, s->ring_base, s->ring_bytes);
    for (slot *sl = s->slots; sl < s->slots + s->n_slots; sl++)
        sl->state = FREE;
}

refine_status stream_restart(stream *s)
{
    TRY(dev_status(s->d));
    assert(s->compute.acquiring.use == s->compute.releasing.use && "restarted with chunks inside");

    dev_record(s->d, s->compute.epoch, DEV_COMPUTE);
    pthread_mutex_lock(&s->lock);
    s->shared.pause = true;
    stream_signal_all(s);
    while (s->shared.n_paused < 2 + s->decode.n_workers) /* (8) */
        stream_wait(s, COMPUTE);
    if (s->chunks.n_packs > 1) /* places are the first pack's again, which finds nothing there */
        memset(s->shared.kept, 0, (size_t)n_listed_chunks(&s->chunks) * sizeof *s->shared.kept);
    else if (!s->compute.dropped)
        schedule_hold_before(&s->schedule, &s->copy.next);
    s->compute.dropped = false;
    stream_reset(s);
    s->copy.epoch_due = true;
    s->copy.fence = NULL;
    s->shared.pause = false;
    stream_signal_all(s);
    pthread_mutex_unlock(&s->lock);
    return dev_status(s->d);
}

void stream_enter_pack(stream *s, int next)
{
    if (next == s->compute.pack || dev_status(s->d) != REFINE_OK)
        return;
    assert(s->compute.acquiring.use == s->compute.releasing.use &&
           "left a pack with chunks inside");
    assert(next > s->compute.pack && next < s->chunks.n_packs);
    dev_record(s->d, s->compute.epoch, DEV_COMPUTE);
    s->compute.pack = next;
    pthread_mutex_lock(&s->lock);
    s->copy.epoch_due = true; /* (10) */
    s->shared.entered = next;
    stream_signal(s, IO);
    stream_signal(s, COPY);
    pthread_mutex_unlock(&s->lock);
}

void stream_drop_residents(stream *s)
{
    assert((dev_status(s->d) != REFINE_OK ||
            !schedule_needs_residents(&s->schedule, &s->compute.acquiring,
                                      s->chunks.first[s->compute.pack + 1])) &&
           "dropped residents that are still needed");
    s->compute.dropped = true;
}

/* ---- what others ask ---- */

weights *stream_weights(stream *s) { return &s->w; }

stream_stats stream_get_stats(stream *s)
{
    pthread_mutex_lock(&s->lock);
    stream_stats out = s->shared.stats;
    const double now = clock_seconds();
    if (s->io.in_flight > 0)
        out.disk_busy += now - s->io.busy_since;
    if (s->shared.n_retired < s->shared.n_copied)
        out.copy_busy += now - s->copy.busy_since;
    pthread_mutex_unlock(&s->lock);
    return out;
}

stream_stats stream_stats_since(stream_stats then, stream_stats now)
{
    now.disk_bytes -= then.disk_bytes;
    now.decoded_bytes -= then.decoded_bytes;
    now.copied_bytes -= then.copied_bytes;
    now.chunks -= then.chunks;
    now.resident_hits -= then.resident_hits;
    now.cache_hits -= then.cache_hits;
    now.disk_busy -= then.disk_busy;
    now.decode_busy -= then.decode_busy;
    now.copy_busy -= then.copy_busy;
    now.stall_disk -= then.stall_disk;
    now.stall_decode -= then.stall_decode;
    now.stall_copy -= then.stall_copy;
    return now;
}

const char *stream_reader_name(const stream *s) { return s->io.rd->name; }
const char *stream_note(const stream *s) { return s->note; }
