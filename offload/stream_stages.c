/* offload/stream_stages.c -- the threads that bring weights: I/O, workers, copy.
 *
 * Invariants by number: the head of offload/stream.c.
 */
#include "offload/stream_state.h"

#include "engine/base/clock.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* ---- what any of them may do; all with the lock held ---- */

/* Transfer t moved on: compute may be waiting for it. */
static void wake_compute(stream *s, uint64_t t)
{
    if (s->waiting && s->awaited == t)
        stream_wake(s, COMPUTE);
}

__attribute__((format(printf, 3, 4))) static void fail_stream(stream *s, refine_status st,
                                                              const char *fmt, ...)
{
    char why[256];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(why, sizeof why, fmt, ap);
    va_end(ap);
    dev_fail(s->d, st, why);
    s->failed = true;
    stream_wake_all(s);
}

static const char *file_name(const stream *s)
{
    const char *slash = strrchr(pack_path(s->p), '/');
    return slash ? slash + 1 : pack_path(s->p);
}

static const char *weight_of(const stream *s, int chunk)
{
    return pack_tensor_name(s->p, (int)pack_chunk_at(s->p, chunk)->tensor);
}

/* Stands still while the run is being reset. */
static void park_thread(stream *s, int who)
{
    s->n_parked++;
    stream_wake(s, COMPUTE);
    while (s->pause && !s->stop)
        stream_wait(s, who);
    s->n_parked--;
}

/* ---- the I/O thread: FREE -> READING -> READ ---- */

typedef struct request {
    uint64_t slot, at;
    char *dst;
    size_t bytes;
} request;

static bool is_raw(const stream *s, const pack_chunk *c)
{
    for (uint32_t i = 0; i < c->n_frames; i++)
        if (pack_frame_at(s->p, (int)(c->first_frame + i))->codec != PACK_RAW)
            return false;
    return true;
}

/* Waits until the line has carried what was sent before, and sends so many bytes more. */
static void pace_send(pace *p, size_t bytes)
{
    if (p->rate <= 0)
        return;
    const double now = clock_seconds();
    if (p->free_at > now)
        clock_sleep_until(p->free_at);
    else
        p->free_at = now;
    p->free_at += (double)bytes / p->rate; /* waking up late is made up for */
}

/* A chunk that lies in host memory is as good as decoded. */
static void take_from_cache(stream *s, slot *sl)
{
    sl->state = DECODED;
    sl->undecoded = 0;
    s->stats.cache_hits++;
    stream_wake(s, COPY);
    wake_compute(s, sl->transfer);
}

/* Is an earlier transfer of this chunk still filling its place in the cache? */
static bool is_arriving(const stream *s, int chunk)
{
    for (const slot *sl = s->slots; sl < s->slots + s->n_slots; sl++)
        if ((sl->state == READING || sl->state == READ) && sl->chunk == chunk)
            return true;
    return false;
}

static bool begin_transfer(stream *s)
{
    if (!schedule_to_transfer(&s->schedule, &s->reading))
        return false;
    slot *sl = &s->slots[s->n_begun % (uint64_t)s->n_slots];
    if (sl->state != FREE)
        return false;
    if (stream_is_cached(s, s->reading.chunk) && is_arriving(s, s->reading.chunk)) /* (9) */
        return false;
    const pack_chunk *c = pack_chunk_at(s->p, s->reading.chunk);
    sl->state = READING;
    sl->transfer = s->n_begun++;
    sl->chunk = s->reading.chunk;
    sl->out = stream_is_cached(s, sl->chunk) ? s->cache + s->place[sl->chunk] : sl->plain;
    sl->in = is_raw(s, c) ? sl->out : sl->coded;
    sl->requests = (int)((stream_padded(c) + REQUEST - 1) / REQUEST);
    sl->taken = 0;
    sl->undecoded = (int)c->n_frames;
    sl->in_at = sl->plain_at = 0;
    sl->since = clock_seconds();
    schedule_next(&s->schedule, &s->reading);
    if (stream_is_cached(s, sl->chunk) && s->kept[sl->chunk]) {
        take_from_cache(s, sl);
    } else {
        s->filling = sl;
        s->filled = 0;
    }
    return true;
}

static bool next_request(stream *s, request *q)
{
    /* A limited disk is asked for little at a time: what has come is taken in between. */
    if (s->in_flight == (s->disk.rate > 0 ? LIMITED_DEPTH : DEPTH))
        return false;
    while (!s->filling)
        if (!begin_transfer(s))
            return false;
    slot *sl = s->filling;
    const pack_chunk *c = pack_chunk_at(s->p, sl->chunk);
    const size_t n = num_min(REQUEST, stream_padded(c) - s->filled);
    *q = (request){ (uint64_t)(sl - s->slots), c->file_at + s->filled, sl->in + s->filled, n };
    s->filled += n;
    if (s->filled == stream_padded(c))
        s->filling = NULL;
    if (s->in_flight++ == 0)
        s->disk_since = clock_seconds();
    return true;
}

static void read_failed(stream *s, int chunk, int error)
{
    fail_stream(s, REFINE_EIO, "%.40s: chunk %d ('%.96s') cannot be read: %s; check the disk",
                file_name(s), chunk, weight_of(s, chunk),
                error ? strerror(error) : "the file ended");
}

static void finish_request(stream *s, slot *sl)
{
    const double now = clock_seconds();
    if (--s->in_flight == 0)
        s->stats.disk_busy += now - s->disk_since;
    assert(sl->state == READING);
    if (--sl->requests > 0)
        return;
    sl->state = READ;
    trace_add(s->t, REFINE_LANE_DISK, sl->chunk, sl->since, now,
              stream_padded(pack_chunk_at(s->p, sl->chunk)));
    sl->since = now;
    s->stats.disk_bytes += stream_padded(pack_chunk_at(s->p, sl->chunk));
    stream_wake(s, WORK);
    wake_compute(s, sl->transfer);
}

static void submit_all(stream *s)
{
    request q;
    while (!s->failed && next_request(s, &q)) {
        pthread_mutex_unlock(&s->lock);
        pace_send(&s->disk, q.bytes);
        const refine_status st = s->rd->submit(s->rd, q.slot, q.dst, q.at, q.bytes);
        pthread_mutex_lock(&s->lock);
        if (st != REFINE_OK) {
            s->in_flight--;
            read_failed(s, s->slots[q.slot].chunk, 0);
        }
    }
}

static void reap_reads(stream *s)
{
    read_done done[DEPTH];
    pthread_mutex_unlock(&s->lock);
    const int n = s->rd->reap(s->rd, done, DEPTH, 1);
    pthread_mutex_lock(&s->lock);
    for (int i = 0; i < n; i++) {
        slot *sl = &s->slots[done[i].ticket];
        finish_request(s, sl);
        if (done[i].status != REFINE_OK)
            read_failed(s, sl->chunk, done[i].error);
    }
}

void stream_io(void *context)
{
    stream *s = context;
    pthread_mutex_lock(&s->lock);
    while (!s->stop) {
        if (!s->pause)
            submit_all(s);
        if (s->in_flight > 0)
            reap_reads(s);
        else if (s->pause)
            park_thread(s, IO);
        else
            stream_wait(s, IO);
    }
    pthread_mutex_unlock(&s->lock);
}

/* ---- the workers: READ -> DECODED ---- */

typedef struct job {
    slot *slot;
    const pack_frame *frame;
    int number; /* of the frame in its chunk */
    char *dst;
    const char *src;
} job;

/* The earliest transfer first: compute waits for that. */
static slot *next_to_decode(stream *s)
{
    slot *best = NULL;
    for (slot *sl = s->slots; sl < s->slots + s->n_slots; sl++) {
        if (sl->state != READ) /* (2) */
            continue;
        if (sl->taken == (int)pack_chunk_at(s->p, sl->chunk)->n_frames)
            continue;
        if (!best || sl->transfer < best->transfer)
            best = sl;
    }
    return best;
}

static bool take_frame(stream *s, job *j)
{
    slot *sl = s->failed || s->pause ? NULL : next_to_decode(s);
    if (!sl)
        return false;
    const pack_chunk *c = pack_chunk_at(s->p, sl->chunk);
    const pack_frame *f = pack_frame_at(s->p, (int)c->first_frame + sl->taken);
    *j = (job){ sl, f, sl->taken, sl->out + sl->plain_at, sl->in + sl->in_at };
    sl->taken++;
    sl->plain_at += f->bytes;
    sl->in_at += f->stored_bytes;
    return true;
}

static void finish_frame(stream *s, const job *j, refine_status st)
{
    slot *sl = j->slot;
    assert(sl->state == READ);
    if (st != REFINE_OK) {
        fail_stream(s, st, "%.40s: chunk %d ('%.96s') is damaged; run refine-pack --verify",
                    file_name(s), sl->chunk, weight_of(s, sl->chunk));
        return;
    }
    s->stats.decoded_bytes += j->frame->bytes;
    if (--sl->undecoded > 0)
        return;
    sl->state = DECODED;
    if (stream_is_cached(s, sl->chunk)) {
        s->kept[sl->chunk] = true;
        stream_wake(s, IO);
    }
    trace_add(s->t, REFINE_LANE_DECODE, sl->chunk, sl->since, clock_seconds(),
              pack_chunk_at(s->p, sl->chunk)->bytes);
    stream_wake(s, COPY);
    wake_compute(s, sl->transfer);
}

static void run_decode_job(decode_worker *w, const job *j)
{
    stream *s = w->s;
    int bad;
    pthread_mutex_unlock(&s->lock);
    const double t = clock_seconds();
    const refine_status st = codec_decode(w->c, j->dst, j->src, j->frame, 1, &bad);
    const double seconds = clock_seconds() - t;
    pthread_mutex_lock(&s->lock);
    s->stats.decode_busy += seconds;
    finish_frame(s, j, st);
}

void stream_work(void *context)
{
    decode_worker *w = context;
    stream *s = w->s;
    job j;
    pthread_mutex_lock(&s->lock);
    while (!s->stop) {
        if (take_frame(s, &j))
            run_decode_job(w, &j);
        else if (s->pause)
            park_thread(s, WORK);
        else
            stream_wait(s, WORK);
    }
    pthread_mutex_unlock(&s->lock);
}

/* ---- the copy thread: DECODED -> COPYING -> FREE ---- */

/* The slot of the next transfer, once it is decoded. */
static slot *ready_to_copy(stream *s)
{
    if (s->failed || s->pause || !schedule_to_transfer(&s->schedule, &s->copying))
        return NULL;
    slot *sl = &s->slots[s->n_copied % (uint64_t)s->n_slots];
    return sl->state == DECODED && sl->transfer == s->n_copied ? sl : NULL; /* (3) */
}

/* Takes the place of a chunk, giving back what compute has released as far as needed. */
static bool make_room(stream *s, int chunk, transfer_slot *f)
{
    const bool resident = s->schedule.resident[chunk];
    size_t at;
    for (;;) {
        if (s->n_copied - s->popped < STREAM_IN_FLIGHT_MAX) {
            if (resident) {
                f->at = s->residents + s->place[chunk];
                f->ring_end = 0;
                return true;
            }
            if (ring_alloc(&s->ring, stream_span(pack_chunk_at(s->p, chunk)->bytes), &at,
                           &f->ring_end)) {
                f->at = s->ring_base + at;
                return true;
            }
        }
        if (s->popped == s->n_released) /* (4) */
            return false;
        const transfer_slot *oldest = stream_slot_of(s, s->popped++);
        if (oldest->ring_end)
            ring_free(&s->ring, oldest->ring_end);
        s->gate = oldest->done;
    }
}

static void enqueue_copy(stream *s, slot *sl, const transfer_slot *f)
{
    const size_t bytes = pack_chunk_at(s->p, sl->chunk)->bytes;
    dev_event *gate = s->gate;

    s->gate = NULL;
    pthread_mutex_unlock(&s->lock);
    if (gate)
        dev_wait(s->d, DEV_COPY, gate); /* (5) */
    sl->since = clock_seconds();
    stream_let_in(s, f->at, bytes);
    dev_copy_in(s->d, f->at, sl->out, bytes);
    pace_send(&s->copy, bytes);
    if (s->copy.rate > 0) /* it has not passed before the line has carried it */
        clock_sleep_until(s->copy.free_at);
    dev_record(s->d, f->ready, DEV_COPY);
    pthread_mutex_lock(&s->lock);
    assert(sl->state == DECODED);
    sl->state = COPYING;
    if (s->n_copied++ == s->n_retired)
        s->copy_since = clock_seconds();
    s->stats.copied_bytes += bytes;
    schedule_next(&s->schedule, &s->copying);
    wake_compute(s, sl->transfer);
}

/* Waits for the oldest copy and frees its slot. */
static void retire_copy(stream *s)
{
    dev_event *ready = stream_slot_of(s, s->n_retired)->ready;
    slot *sl = &s->slots[s->n_retired % (uint64_t)s->n_slots];

    pthread_mutex_unlock(&s->lock);
    dev_sync(s->d, ready); /* (1) */
    pthread_mutex_lock(&s->lock);
    assert(sl->state == COPYING && sl->transfer == s->n_retired);
    sl->state = FREE;
    trace_add(s->t, REFINE_LANE_COPY, sl->chunk, sl->since, clock_seconds(),
              pack_chunk_at(s->p, sl->chunk)->bytes);
    if (++s->n_retired == s->n_copied)
        s->stats.copy_busy += clock_seconds() - s->copy_since;
    stream_wake(s, IO);
}

/* Compute waits for the next transfer, everything it could release it has released, and there is
 * still no room: nobody will ever make any. */
static void check_ring(stream *s)
{
    if (s->waiting && s->awaited == s->n_copied)
        fail_stream(s, REFINE_EINVAL,
                    "a ring of %zu bytes is too small for the chunks that are inside at once "
                    "(chunk %d has %" PRIu32 "): a bug in the plan, please report it",
                    s->ring_bytes, s->copying.chunk, pack_chunk_at(s->p, s->copying.chunk)->bytes);
}

/* True if it enqueued one. */
static bool copy_next(stream *s)
{
    slot *sl = s->n_copied - s->n_retired < COPIES ? ready_to_copy(s) : NULL;
    if (!sl)
        return false;
    transfer_slot *f = stream_slot_of(s, s->n_copied);
    if (!make_room(s, sl->chunk, f)) {
        check_ring(s);
        return false;
    }
    enqueue_copy(s, sl, f);
    return true;
}

void stream_copy(void *context)
{
    stream *s = context;
    pthread_mutex_lock(&s->lock);
    while (!s->stop) {
        if (copy_next(s))
            continue;
        if (s->n_retired < s->n_copied)
            retire_copy(s);
        else if (s->pause)
            park_thread(s, COPY);
        else
            stream_wait(s, COPY);
    }
    while (s->n_retired < s->n_copied)
        retire_copy(s);
    pthread_mutex_unlock(&s->lock);
}
