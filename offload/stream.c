/* offload/stream.c -- the threads between the pack and the ring.
 *
 * Trips (offload/script.h) are numbered from 0 in the order of the script.  Trip t uses
 * staging slot t % slots and flight t % FLIGHTS, a pair of events.  A slot goes round:
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
 *     popped <= n_left <= n_copied <= n_begun       n_retired <= n_copied
 *     n_begun <= n_retired + slots                  n_copied <= popped + FLIGHTS
 *
 * Invariants, each kept by exactly one numbered wait:
 *  (1) a slot is read into only after the copy out of it has finished
 *                          (copy thread syncs with `ready` before the slot is FREE, in retire)
 *  (2) a chunk is decoded only after all its bytes have come
 *                          (workers wait for READ, in take_frame)
 *  (3) a chunk is copied only after all its frames are decoded
 *                          (copy thread waits for DECODED, in ready_to_copy)
 *  (4) a `done` is waited for, and a flight used again, only after compute has left, so that
 *      `done` has been recorded
 *                          (copy thread waits for n_left, in make_room)
 *  (5) ring bytes are overwritten only after the compute that read them has finished, and
 *      everything, in a new run, only after all the compute before it
 *                          (copy queue waits on `gate`, in enqueue_copy)
 *  (6) a `ready` is waited for only after it has been recorded
 *                          (compute thread waits for n_copied, in await_copied)
 *  (7) compute starts only after its weights have arrived
 *                          (compute queue waits on `ready`, in enter)
 *  (8) a run is reset only when every thread stands still
 *                          (compute thread waits for n_parked, in stream_restart)
 *  (9) a place in the cache is filled by one trip, and not read before
 *                          (I/O thread waits for kept, in begin_trip)
 *
 * A resident chunk needs no wait after its first visit: (7) then made the compute queue
 * wait, and the queue keeps its order.
 *
 * Failure.  Whoever meets one puts it in the device, which makes its work no-ops, sets
 * `failed` and wakes everybody; nothing advances any more and stream_close still drains.
 * A ring too small for what is inside at once would wait for ever in (4): the copy
 * thread sees that compute waits for the very chunk that does not fit, and fails.
 */
#include "offload/stream.h"

#include "engine/base/clock.h"
#include "engine/base/mem.h"
#include "engine/base/num.h"
#include "engine/base/thread.h"
#include "engine/base/try.h"
#include "offload/codec.h"
#include "offload/ring.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum {
    DEPTH = 16,        /* requests in flight, */
    LIMITED_DEPTH = 2, /* with a limit on the disk's rate */
    REQUEST = 1 << 20, /* bytes of one; so a 4 MiB chunk is read four ways at once */
    COPIES = 2,        /* copies enqueued and not yet waited for */
    FLIGHTS = 256,     /* chunks in the ring; more are inside only if tiny */
    PASSES = 64,       /* of a script, for stream_host_bytes */
    EVENT = 64,        /* bytes of an event, likewise */
    NOTE = 256
};

typedef enum slot_state { FREE, READING, READ, DECODED, COPYING } slot_state;

typedef struct slot {
    slot_state state;
    uint64_t trip;
    int chunk;
    char *coded, *plain;    /* the two parts; the same when the pack is raw */
    char *out;              /* where this chunk is decoded to: plain, or its place in the cache */
    char *in;               /* where it is read to: coded, or out if it is raw */
    double since;           /* when reading, then decoding, began */
    int requests;           /* unfinished */
    int taken, undecoded;   /* frames: given to workers; not yet decoded */
    size_t in_at, plain_at; /* of the next frame to take */
} slot;

/* What a trip leaves behind on its way through the device. */
typedef struct flight {
    dev_event *ready;  /* its copy has finished */
    dev_event *done;   /* the compute that used it has finished */
    char *at;          /* on the device */
    uint64_t ring_end; /* to give back to the ring; 0: a resident took nothing */
} flight;

/* The time that a rate limit takes: bytes follow each other on an imagined line. */
typedef struct pace {
    double rate, free_at; /* rate 0: no limit */
} pace;

/* What a chunk's compute took. */
typedef struct visit_time {
    double seconds;
    uint64_t visits;
} visit_time;

typedef struct worker {
    stream *s;
    codec *c;
    thread t;
} worker;

enum { IO, WORK, COPY, COMPUTE, CONDITIONS };

struct stream {
    weights w; /* first: what the engine holds is a pointer to it */
    dev *d;
    const pack *p;
    script script;
    char *ring_base, *residents;
    size_t ring_bytes;
    size_t *place;      /* of a resident chunk, in `residents`; of a cached one, in `cache` */
    const bool *cached; /* the caller's; or NULL */
    bool *kept;         /* cached chunks that are in their place; the I/O thread and workers' */
    char *cache;
    reader *rd;
    char *staging;
    size_t staging_bytes;
    slot *slots;
    int n_slots;
    flight flights[FLIGHTS];
    dev_event *fresh; /* all compute before this run */
    thread io, copier;
    worker *workers;
    int n_workers;
    char note[NOTE];
    trace *t;
    pace disk, copy;   /* of the I/O thread; of the copy thread */
    visit_time *times; /* per chunk; the compute thread's, as is */
    double entered;    /* when the last chunk was entered, after its stall */
    int inside;        /* that chunk; -1: none yet */

    bool has_lock;
    int n_conditions;
    pthread_mutex_t lock;             /* of everything below */
    pthread_cond_t moved[CONDITIONS]; /* something the named thread may be waiting for */
    bool stop, pause, failed;
    bool dropped; /* the compute thread's alone */
    int n_parked;

    cursor reading, copying;  /* the next trip of the I/O and the copy thread */
    cursor entering, leaving; /* the compute thread's alone; no lock */
    uint64_t n_begun, n_copied, n_retired, n_left, popped; /* trips */
    ring ring;
    dev_event *gate; /* (5); NULL: nothing new to wait for */
    slot *filling;   /* whose requests are being made, and */
    size_t filled;   /* how many bytes they cover so far */
    int in_flight;   /* requests */
    bool waiting;    /* compute waits for trip `awaited` */
    uint64_t awaited;
    stream_stats stats;
    double disk_since, copy_since; /* start of the current busy time */
};

/* ---- talking to each other; all with the lock held ---- */

static void wait_for(stream *s, int who) { pthread_cond_wait(&s->moved[who], &s->lock); }
static void wake(stream *s, int who) { pthread_cond_broadcast(&s->moved[who]); }

static void wake_all(stream *s)
{
    for (int i = 0; i < CONDITIONS; i++)
        wake(s, i);
}

/* Trip t moved on: compute may be waiting for it. */
static void tell_compute(stream *s, uint64_t t)
{
    if (s->waiting && s->awaited == t)
        wake(s, COMPUTE);
}

__attribute__((format(printf, 3, 4))) static void fail(stream *s, refine_status st, const char *fmt,
                                                       ...)
{
    char why[256];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(why, sizeof why, fmt, ap);
    va_end(ap);
    dev_fail(s->d, st, why);
    s->failed = true;
    wake_all(s);
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
static void park(stream *s, int who)
{
    s->n_parked++;
    wake(s, COMPUTE);
    while (s->pause && !s->stop)
        wait_for(s, who);
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

static size_t padded(const pack_chunk *c) { return num_align(c->stored_bytes, PACK_ALIGN); }

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

static bool is_cached(const stream *s, int chunk) { return s->cached && s->cached[chunk]; }

/* A chunk that lies in host memory is as good as decoded. */
static void take_from_cache(stream *s, slot *sl)
{
    sl->state = DECODED;
    sl->undecoded = 0;
    s->stats.cache_hits++;
    wake(s, COPY);
    tell_compute(s, sl->trip);
}

/* Is an earlier trip of this chunk still filling its place in the cache? */
static bool is_arriving(const stream *s, int chunk)
{
    for (const slot *sl = s->slots; sl < s->slots + s->n_slots; sl++)
        if ((sl->state == READING || sl->state == READ) && sl->chunk == chunk)
            return true;
    return false;
}

static bool begin_trip(stream *s)
{
    if (!script_to_trip(&s->script, &s->reading))
        return false;
    slot *sl = &s->slots[s->n_begun % (uint64_t)s->n_slots];
    if (sl->state != FREE)
        return false;
    if (is_cached(s, s->reading.chunk) && is_arriving(s, s->reading.chunk)) /* (9) */
        return false;
    const pack_chunk *c = pack_chunk_at(s->p, s->reading.chunk);
    sl->state = READING;
    sl->trip = s->n_begun++;
    sl->chunk = s->reading.chunk;
    sl->out = is_cached(s, sl->chunk) ? s->cache + s->place[sl->chunk] : sl->plain;
    sl->in = is_raw(s, c) ? sl->out : sl->coded;
    sl->requests = (int)((padded(c) + REQUEST - 1) / REQUEST);
    sl->taken = 0;
    sl->undecoded = (int)c->n_frames;
    sl->in_at = sl->plain_at = 0;
    sl->since = clock_seconds();
    script_next(&s->script, &s->reading);
    if (is_cached(s, sl->chunk) && s->kept[sl->chunk]) {
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
        if (!begin_trip(s))
            return false;
    slot *sl = s->filling;
    const pack_chunk *c = pack_chunk_at(s->p, sl->chunk);
    const size_t n = num_min(REQUEST, padded(c) - s->filled);
    *q = (request){ (uint64_t)(sl - s->slots), c->file_at + s->filled, sl->in + s->filled, n };
    s->filled += n;
    if (s->filled == padded(c))
        s->filling = NULL;
    if (s->in_flight++ == 0)
        s->disk_since = clock_seconds();
    return true;
}

static void read_failed(stream *s, int chunk, int error)
{
    fail(s, REFINE_EIO, "%.40s: chunk %d ('%.96s') cannot be read: %s; check the disk",
         file_name(s), chunk, weight_of(s, chunk), error ? strerror(error) : "the file ended");
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
              padded(pack_chunk_at(s->p, sl->chunk)));
    sl->since = now;
    s->stats.disk_bytes += padded(pack_chunk_at(s->p, sl->chunk));
    wake(s, WORK);
    tell_compute(s, sl->trip);
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

static void reap(stream *s)
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

static void io_body(void *context)
{
    stream *s = context;
    pthread_mutex_lock(&s->lock);
    while (!s->stop) {
        if (!s->pause)
            submit_all(s);
        if (s->in_flight > 0)
            reap(s);
        else if (s->pause)
            park(s, IO);
        else
            wait_for(s, IO);
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

/* The earliest trip first: compute waits for that. */
static slot *next_to_decode(stream *s)
{
    slot *best = NULL;
    for (slot *sl = s->slots; sl < s->slots + s->n_slots; sl++) {
        if (sl->state != READ) /* (2) */
            continue;
        if (sl->taken == (int)pack_chunk_at(s->p, sl->chunk)->n_frames)
            continue;
        if (!best || sl->trip < best->trip)
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
        fail(s, st, "%.40s: chunk %d ('%.96s') is damaged; run refine-pack --verify", file_name(s),
             sl->chunk, weight_of(s, sl->chunk));
        return;
    }
    s->stats.decoded_bytes += j->frame->bytes;
    if (--sl->undecoded > 0)
        return;
    sl->state = DECODED;
    if (is_cached(s, sl->chunk)) {
        s->kept[sl->chunk] = true;
        wake(s, IO);
    }
    trace_add(s->t, REFINE_LANE_DECODE, sl->chunk, sl->since, clock_seconds(),
              pack_chunk_at(s->p, sl->chunk)->bytes);
    wake(s, COPY);
    tell_compute(s, sl->trip);
}

static void decode(worker *w, const job *j)
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

static void work_body(void *context)
{
    worker *w = context;
    stream *s = w->s;
    job j;
    pthread_mutex_lock(&s->lock);
    while (!s->stop) {
        if (take_frame(s, &j))
            decode(w, &j);
        else if (s->pause)
            park(s, WORK);
        else
            wait_for(s, WORK);
    }
    pthread_mutex_unlock(&s->lock);
}

/* ---- the copy thread: DECODED -> COPYING -> FREE ---- */

static flight *flight_of(stream *s, uint64_t trip) { return &s->flights[trip % FLIGHTS]; }

/* The slot of the next trip, once it is decoded. */
static slot *ready_to_copy(stream *s)
{
    if (s->failed || s->pause || !script_to_trip(&s->script, &s->copying))
        return NULL;
    slot *sl = &s->slots[s->n_copied % (uint64_t)s->n_slots];
    return sl->state == DECODED && sl->trip == s->n_copied ? sl : NULL; /* (3) */
}

/* Takes the place of a chunk, giving back what compute has left as far as needed. */
static bool make_room(stream *s, int chunk, flight *f)
{
    const bool resident = s->script.resident[chunk];
    size_t at;
    for (;;) {
        if (s->n_copied - s->popped < FLIGHTS) {
            if (resident) {
                f->at = s->residents + s->place[chunk];
                f->ring_end = 0;
                return true;
            }
            if (ring_take(&s->ring, pack_chunk_at(s->p, chunk)->bytes, &at, &f->ring_end)) {
                f->at = s->ring_base + at;
                return true;
            }
        }
        if (s->popped == s->n_left) /* (4) */
            return false;
        const flight *oldest = flight_of(s, s->popped++);
        if (oldest->ring_end)
            ring_give(&s->ring, oldest->ring_end);
        s->gate = oldest->done;
    }
}

static void enqueue_copy(stream *s, slot *sl, const flight *f)
{
    const size_t bytes = pack_chunk_at(s->p, sl->chunk)->bytes;
    dev_event *gate = s->gate;

    s->gate = NULL;
    pthread_mutex_unlock(&s->lock);
    if (gate)
        dev_wait(s->d, DEV_COPY, gate); /* (5) */
    sl->since = clock_seconds();
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
    script_next(&s->script, &s->copying);
    tell_compute(s, sl->trip);
}

/* Waits for the oldest copy and frees its slot. */
static void retire(stream *s)
{
    dev_event *ready = flight_of(s, s->n_retired)->ready;
    slot *sl = &s->slots[s->n_retired % (uint64_t)s->n_slots];

    pthread_mutex_unlock(&s->lock);
    dev_sync(s->d, ready); /* (1) */
    pthread_mutex_lock(&s->lock);
    assert(sl->state == COPYING && sl->trip == s->n_retired);
    sl->state = FREE;
    trace_add(s->t, REFINE_LANE_COPY, sl->chunk, sl->since, clock_seconds(),
              pack_chunk_at(s->p, sl->chunk)->bytes);
    if (++s->n_retired == s->n_copied)
        s->stats.copy_busy += clock_seconds() - s->copy_since;
    wake(s, IO);
}

/* Compute waits for the next trip, everything it could leave it has left, and there is
 * still no room: nobody will ever make any. */
static void check_ring(stream *s)
{
    if (s->waiting && s->awaited == s->n_copied)
        fail(s, REFINE_EINVAL,
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
    flight *f = flight_of(s, s->n_copied);
    if (!make_room(s, sl->chunk, f)) {
        check_ring(s);
        return false;
    }
    enqueue_copy(s, sl, f);
    return true;
}

static void copy_body(void *context)
{
    stream *s = context;
    pthread_mutex_lock(&s->lock);
    while (!s->stop) {
        if (copy_next(s))
            continue;
        if (s->n_retired < s->n_copied)
            retire(s);
        else if (s->pause)
            park(s, COPY);
        else
            wait_for(s, COPY);
    }
    while (s->n_retired < s->n_copied)
        retire(s);
    pthread_mutex_unlock(&s->lock);
}

/* ---- the compute thread ---- */

/* What compute waits for when it waits for trip t. */
static refine_lane cause_of_stall(const stream *s, uint64_t t)
{
    const slot *sl = &s->slots[t % (uint64_t)s->n_slots];
    if (sl->state == FREE || (sl->trip == t && sl->state == READING))
        return REFINE_LANE_STALL_DISK;
    return sl->trip == t && sl->state == READ ? REFINE_LANE_STALL_DECODE : REFINE_LANE_STALL_COPY;
}

/* Compute has waited since then. */
static void count_stall(stream *s, refine_lane cause, int chunk, double since)
{
    const double now = clock_seconds();
    double *const sum[] = { &s->stats.stall_disk, &s->stats.stall_decode, &s->stats.stall_copy };
    *sum[cause - REFINE_LANE_STALL_DISK] += now - since;
    trace_add(s->t, cause, chunk, since, now, 0);
}

static void await_copied(stream *s, uint64_t t)
{
    pthread_mutex_lock(&s->lock);
    s->awaited = t;
    while (s->n_copied <= t && !s->failed) { /* (6) */
        s->waiting = true;
        wake(s, COPY);
        const refine_lane cause = cause_of_stall(s, t);
        const double since = clock_seconds();
        wait_for(s, COMPUTE);
        count_stall(s, cause, s->entering.chunk, since);
    }
    s->waiting = false;
    s->stats.chunks++;
    pthread_mutex_unlock(&s->lock);
}

static const void *enter_trip(stream *s, uint64_t t)
{
    const flight *f = flight_of(s, t);

    await_copied(s, t);
    if (dev_status(s->d) != REFINE_OK)
        return NULL;
    const double since = clock_seconds();
    dev_wait(s->d, DEV_COMPUTE, f->ready); /* (7) */
    pthread_mutex_lock(&s->lock);
    count_stall(s, REFINE_LANE_STALL_COPY, s->entering.chunk, since);
    pthread_mutex_unlock(&s->lock);
    return f->at;
}

static const void *enter_resident(stream *s, int chunk)
{
    pthread_mutex_lock(&s->lock);
    s->stats.resident_hits++;
    pthread_mutex_unlock(&s->lock);
    return s->residents + s->place[chunk];
}

/* The time up to now was the compute of the chunk entered last. */
static void end_visit(stream *s)
{
    const double now = clock_seconds();
    if (s->inside < 0)
        return;
    s->times[s->inside].seconds += now - s->entered;
    s->times[s->inside].visits++;
    trace_add(s->t, REFINE_LANE_COMPUTE, s->inside, s->entered, now, 0);
    s->inside = -1;
}

static void begin_visit(stream *s, int chunk)
{
    s->entered = clock_seconds();
    s->inside = chunk;
}

void stream_end_phase(stream *s) { end_visit(s); }

double stream_compute_seconds(const stream *s, int chunk)
{
    const visit_time *v = &s->times[chunk];
    return v->visits ? v->seconds / (double)v->visits : 0.0;
}

static const void *enter(weights *w, int chunk)
{
    stream *s = (stream *)w;
    end_visit(s);
    if (dev_status(s->d) != REFINE_OK)
        return NULL;
    assert(!script_at_end(&s->script, &s->entering) && "more visits than the script has");
    assert(s->entering.chunk == chunk && "visited out of order");

    const void *at = script_is_trip(&s->script, &s->entering) ? enter_trip(s, s->entering.trip)
                                                              : enter_resident(s, chunk);
    script_next(&s->script, &s->entering);
    begin_visit(s, chunk);
    return dev_status(s->d) == REFINE_OK ? at : NULL;
}

static void leave(weights *w, int chunk)
{
    stream *s = (stream *)w;
    if (dev_status(s->d) != REFINE_OK)
        return;
    assert(s->leaving.visit < s->entering.visit && s->leaving.chunk == chunk &&
           "left in another order than entered");

    if (script_is_trip(&s->script, &s->leaving)) {
        dev_record(s->d, flight_of(s, s->leaving.trip)->done, DEV_COMPUTE);
        pthread_mutex_lock(&s->lock);
        s->n_left++;
        wake(s, COPY);
        pthread_mutex_unlock(&s->lock);
    }
    script_next(&s->script, &s->leaving);
}

/* ---- a run's beginning ---- */

static void reset(stream *s)
{
    s->reading = s->copying = s->entering = s->leaving = script_begin(&s->script);
    s->n_begun = s->n_copied = s->n_retired = s->n_left = s->popped = 0;
    s->filling = NULL;
    ring_open(&s->ring, s->ring_bytes);
    for (slot *sl = s->slots; sl < s->slots + s->n_slots; sl++)
        sl->state = FREE;
}

refine_status stream_restart(stream *s)
{
    TRY(dev_status(s->d));
    assert(s->entering.visit == s->leaving.visit && "restarted with chunks inside");

    dev_record(s->d, s->fresh, DEV_COMPUTE);
    pthread_mutex_lock(&s->lock);
    s->pause = true;
    wake_all(s);
    while (s->n_parked < 2 + s->n_workers) /* (8) */
        wait_for(s, COMPUTE);
    if (!s->dropped)
        script_hold_before(&s->script, &s->copying);
    s->dropped = false;
    reset(s);
    s->gate = s->fresh;
    s->pause = false;
    wake_all(s);
    pthread_mutex_unlock(&s->lock);
    return dev_status(s->d);
}

void stream_drop_residents(stream *s)
{
    assert((dev_status(s->d) != REFINE_OK || !script_needs_residents(&s->script, &s->entering)) &&
           "dropped residents that are still needed");
    s->dropped = true;
}

/* ---- open and close ---- */

static bool is_coded(const pack *p)
{
    for (int i = 0; i < n_pack_chunks(p); i++) {
        const pack_chunk *c = pack_chunk_at(p, i);
        for (uint32_t k = 0; k < c->n_frames && c->segment != PACK_SEGMENT_TOKENS; k++)
            if (pack_frame_at(p, (int)(c->first_frame + k))->codec != PACK_RAW)
                return true;
    }
    return false;
}

static size_t plain_part(const pack *p) { return num_align(pack_biggest(p), PACK_ALIGN); }

static size_t slot_bytes(const pack *p)
{
    return plain_part(p) + (is_coded(p) ? pack_biggest_stored(p) : 0);
}

size_t stream_staging_bytes(const pack *p, int slots) { return (size_t)slots * slot_bytes(p); }

size_t stream_host_bytes(const pack *p, int slots, int workers)
{
    const size_t chunks = (size_t)n_pack_chunks(p);
    const size_t each = sizeof(size_t) + sizeof(bool) + sizeof(visit_time);
    return stream_staging_bytes(p, slots) + sizeof(stream) + (size_t)slots * sizeof(slot) +
           (size_t)workers * (sizeof(worker) + codec_memory()) + (chunks + 1) * each +
           script_memory(PASSES, (int)chunks) + reader_memory(DEPTH) + (2 * FLIGHTS + 1) * EVENT;
}

size_t stream_ring_min(const pack *p, size_t inside_bytes)
{
    return ring_min(inside_bytes, pack_biggest(p));
}

static refine_status out_of_memory(refine_error *err)
{
    return refine_fail(err, REFINE_ENOMEM, "weights: out of memory; lower --ram, or free some");
}

static refine_status check_config(const stream_config *c, refine_error *err)
{
    assert(c->slots >= 2 && c->workers >= 1);
    for (int i = 0; i < c->n_script; i++)
        for (int k = c->script[i].first; k < c->script[i].end; k++) {
            const pack_chunk *chunk = pack_chunk_at(c->p, k);
            assert(chunk->segment != PACK_SEGMENT_TOKENS && "the token table does not travel");
            if (chunk->bytes > c->ring_bytes && !(c->resident && c->resident[k]))
                return refine_fail(err, REFINE_EBUDGET,
                                   "a ring of %zu bytes does not hold chunk %d (%" PRIu32
                                   " bytes); give it more, or pack with smaller chunks",
                                   c->ring_bytes, k, chunk->bytes);
        }
    return REFINE_OK;
}

static refine_status open_staging(stream *s, refine_error *err)
{
    const size_t each = slot_bytes(s->p);

    s->slots = mem_calloc((size_t)s->n_slots, sizeof *s->slots);
    s->staging = dev_alloc(s->d, s->staging_bytes, DEV_PINNED);
    if (!s->slots || !s->staging)
        return out_of_memory(err);
    s->cache = s->staging + stream_staging_bytes(s->p, s->n_slots);
    for (int i = 0; i < s->n_slots; i++) {
        s->slots[i].plain = s->staging + (size_t)i * each;
        s->slots[i].coded = s->slots[i].plain + plain_part(s->p);
    }
    return REFINE_OK;
}

static refine_status open_flights(stream *s, refine_error *err)
{
    s->fresh = dev_event_open(s->d);
    bool ok = s->fresh != NULL;
    for (int i = 0; i < FLIGHTS && ok; i++) {
        s->flights[i].ready = dev_event_open(s->d);
        s->flights[i].done = dev_event_open(s->d);
        ok = s->flights[i].ready && s->flights[i].done;
    }
    return ok ? REFINE_OK : out_of_memory(err);
}

size_t stream_cached_bytes(const pack *p, int chunk)
{
    const pack_chunk *c = pack_chunk_at(p, chunk);
    return num_align(num_max(c->bytes, padded(c)), PACK_ALIGN);
}

/* Residents lie one behind the other in the order of chunks, and so do the cached, behind the
 * staging. */
static refine_status find_places(stream *s, refine_error *err)
{
    const size_t n = (size_t)n_pack_chunks(s->p) + 1;
    size_t at = 0, cached = 0;

    s->place = mem_calloc(n, sizeof *s->place);
    s->kept = mem_calloc(n, sizeof *s->kept);
    s->times = mem_calloc(n, sizeof *s->times);
    if (!s->place || !s->kept || !s->times)
        return out_of_memory(err);
    for (int i = 0; i < n_pack_chunks(s->p); i++) {
        assert(!(s->script.resident[i] && is_cached(s, i)));
        s->place[i] = is_cached(s, i) ? cached : at;
        if (s->script.resident[i])
            at += num_align(pack_chunk_at(s->p, i)->bytes, RING_ALIGN);
        else if (is_cached(s, i))
            cached += stream_cached_bytes(s->p, i);
    }
    s->staging_bytes = stream_staging_bytes(s->p, s->n_slots) + cached;
    return REFINE_OK;
}

static refine_status open_reader(stream *s, const stream_config *c, refine_error *err)
{
    const reader_config rc = { .path = pack_path(s->p),
                               .buffer = s->staging,
                               .buffer_bytes = s->staging_bytes,
                               .depth = DEPTH,
                               .calls = c->calls };
    switch (c->reader) {
    case 1: return reader_open_uring(&s->rd, &rc, err);
    case 2: return reader_open_pread(&s->rd, &rc, err);
    default: return reader_open_auto(&s->rd, &rc, s->note, sizeof s->note, err);
    }
}

static bool open_locks(stream *s)
{
    s->has_lock = pthread_mutex_init(&s->lock, NULL) == 0;
    if (!s->has_lock)
        return false;
    while (s->n_conditions < CONDITIONS)
        if (pthread_cond_init(&s->moved[s->n_conditions++], NULL) != 0)
            return false;
    return true;
}

static refine_status open_workers(stream *s, int n, refine_error *err)
{
    s->workers = mem_calloc((size_t)n, sizeof *s->workers);
    if (!s->workers)
        return out_of_memory(err);
    for (; s->n_workers < n; s->n_workers++) {
        worker *w = &s->workers[s->n_workers];
        w->s = s;
        w->c = codec_open();
        if (!w->c)
            return out_of_memory(err);
    }
    return REFINE_OK;
}

static refine_status start(stream *s, refine_error *err)
{
    bool ok = thread_start(&s->io, "refine-io", io_body, s) &&
              thread_start(&s->copier, "refine-copy", copy_body, s);
    for (int i = 0; i < s->n_workers && ok; i++)
        ok = thread_start(&s->workers[i].t, "refine-decode", work_body, &s->workers[i]);
    if (ok)
        return REFINE_OK;
    return refine_fail(err, REFINE_ENOMEM,
                       "weights: cannot start a thread; is the limit on processes reached "
                       "(ulimit -u)?");
}

refine_status stream_open(stream **out, const stream_config *c, refine_error *err)
{
    refine_status st;

    *out = NULL;
    TRY(check_config(c, err));
    stream *s = mem_calloc(1, sizeof *s);
    if (!s)
        return out_of_memory(err);
    s->w = (weights){ enter, leave };
    s->d = c->d;
    s->p = c->p;
    s->ring_base = c->ring;
    s->ring_bytes = c->ring_bytes;
    s->residents = c->residents;
    s->cached = c->cached;
    s->t = c->t;
    s->disk.rate = c->disk_limit;
    s->copy.rate = c->copy_limit;
    s->inside = -1;
    s->n_slots = c->slots;
    st = open_locks(s) &&
                 script_open(&s->script, c->script, c->n_script, c->resident, n_pack_chunks(c->p))
             ? REFINE_OK
             : out_of_memory(err);
    if (st != REFINE_OK)
        goto fail;
    TRY_OR(fail, find_places(s, err));
    TRY_OR(fail, open_staging(s, err));
    TRY_OR(fail, open_flights(s, err));
    TRY_OR(fail, open_reader(s, c, err));
    TRY_OR(fail, open_workers(s, c->workers, err));
    reset(s);
    TRY_OR(fail, start(s, err));
    *out = s;
    return REFINE_OK;

fail:
    stream_close(s);
    return st;
}

static void stop_threads(stream *s)
{
    if (s->has_lock) {
        pthread_mutex_lock(&s->lock);
        s->stop = true;
        for (int i = 0; i < s->n_conditions; i++)
            wake(s, i);
        pthread_mutex_unlock(&s->lock);
    }
    thread_join(&s->io);
    for (int i = 0; i < s->n_workers; i++)
        thread_join(&s->workers[i].t);
    thread_join(&s->copier);
}

/* The copy thread has waited for its copies before it ended, and closing the reader waits for
 * its reads: after both nobody touches the staging any more. */
void stream_close(stream *s)
{
    if (!s)
        return;
    stop_threads(s);
    if (s->rd)
        s->rd->close(s->rd);
    for (int i = 0; i < s->n_workers; i++)
        codec_close(s->workers[i].c);
    mem_free(s->workers);
    for (int i = 0; i < FLIGHTS; i++) {
        dev_event_close(s->d, s->flights[i].ready);
        dev_event_close(s->d, s->flights[i].done);
    }
    dev_event_close(s->d, s->fresh);
    dev_free(s->d, s->staging, s->staging_bytes, DEV_PINNED);
    mem_free(s->slots);
    mem_free(s->place);
    mem_free(s->kept);
    mem_free(s->times);
    script_close(&s->script);
    for (int i = 0; i < s->n_conditions; i++)
        pthread_cond_destroy(&s->moved[i]);
    if (s->has_lock)
        pthread_mutex_destroy(&s->lock);
    mem_free(s);
}

weights *stream_weights(stream *s) { return &s->w; }

stream_stats stream_get_stats(stream *s)
{
    pthread_mutex_lock(&s->lock);
    stream_stats out = s->stats;
    const double now = clock_seconds();
    if (s->in_flight > 0)
        out.disk_busy += now - s->disk_since;
    if (s->n_retired < s->n_copied)
        out.copy_busy += now - s->copy_since;
    pthread_mutex_unlock(&s->lock);
    return out;
}

const char *stream_reader_name(const stream *s) { return s->rd->name; }
const char *stream_note(const stream *s) { return s->note; }
