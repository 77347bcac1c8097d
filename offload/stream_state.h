/* offload/stream_state.h -- what the threads of a stream share; offload/stream.c says how.
 *
 * Internal to offload/stream*.c.
 */
#ifndef REFINE_STREAM_STATE_H
#define REFINE_STREAM_STATE_H

#include "engine/base/num.h"
#include "engine/base/thread.h"
#include "offload/codec.h"
#include "offload/pace.h"
#include "offload/queue_clock.h"
#include "offload/ring.h"
#include "offload/stream.h"

#include <pthread.h>

enum {
    DEPTH = 16,        /* requests in flight, */
    LIMITED_DEPTH = 2, /* with a limit on the disk's rate */
    REQUEST = 1 << 20, /* bytes of one; so a 4 MiB chunk is read four ways at once */
    COPIES = 4,        /* copies enqueued and not yet waited for: a fast link takes less than
                          0.1 ms for a chunk, a thread about as long to wake up */
    PASSES = 64,       /* of a schedule, for stream_host_bytes */
    EVENT = 64,        /* bytes of an event, likewise */
};

typedef enum slot_state { FREE, READING, READ, DECODED, COPYING } slot_state;

typedef struct slot {
    slot_state state;
    uint64_t transfer;
    int chunk;
    char *coded, *plain;    /* the two parts; the same when the pack is raw */
    char *out;              /* where this chunk is decoded to: plain, or its place in the cache */
    char *in;               /* where it is read to: coded, or out if it is raw */
    double since;           /* when reading, then decoding, began */
    int requests;           /* unfinished */
    int taken, undecoded;   /* frames: given to workers; not yet decoded */
    size_t in_at, plain_at; /* of the next frame to take */
} slot;

/* What a transfer leaves behind on its way through the device. */
typedef struct transfer_slot {
    dev_event *ready;  /* its copy has finished */
    dev_event *done;   /* the compute that used it has finished */
    char *at;          /* on the device */
    uint64_t ring_end; /* to give back to the ring; 0: a resident took nothing */
} transfer_slot;

/* What a chunk's compute took. */
typedef struct use_time {
    double seconds;
    uint64_t uses;
} use_time;

typedef struct decode_worker {
    stream *s;
    codec *c;
    thread t;
} decode_worker;

/* Who waits for something to change. */
typedef enum stream_thread { IO, DECODE, COPY, COMPUTE, STREAM_THREADS } stream_thread;

struct stream {
    weights w; /* first: what the engine holds is a pointer to it */

    /* As it was opened.  Only the states of slots and what the schedule holds change, under the
     * lock. */
    dev *d;
    chunk_list chunks;
    trace *t;
    bool guards;
    schedule schedule;
    const bool *cached; /* the caller's; or NULL */
    char *ring_base, *residents[PACKS_MAX], *staging, *cache;
    size_t ring_bytes, staging_bytes;
    size_t *place; /* of a resident chunk, in its pack's `residents`; of a cached one, in `cache` */
    slot *slots;
    int n_slots;
    transfer_slot transfer_slots[STREAM_IN_FLIGHT_MAX];
    char note[READER_NOTE];

    struct {
        thread t;
        reader *rd;
        pace pace;
        /* With the lock held: */
        cursor next;       /* the next transfer to begin */
        slot *filling;     /* whose requests are being made, and */
        size_t filled;     /* how many bytes they cover so far */
        int in_flight;     /* requests */
        double busy_since; /* while any is */
    } io;

    struct {
        decode_worker *workers;
        int n_workers;
    } decode;

    struct {
        thread t;
        pace pace;
        /* With the lock held: */
        cursor next; /* the next transfer to copy */
        ring ring;
        /* What the copy queue has to wait for: `epoch`, (5) and (10), and the last use of the bytes
         * that were reclaimed, (5); NULL: nothing new.  Either may be the later. */
        bool epoch_due;
        dev_event *fence;
        double busy_since; /* while a copy is enqueued and not finished */
    } copy;

    /* The compute thread's alone; no lock. */
    struct {
        cursor acquiring, releasing;
        queue_clock clock;
        use_time *times;         /* per chunk */
        double kinds[DEV_KINDS]; /* seconds of compute */
        dev_kind kind;           /* of what is being enqueued */
        double use_began;        /* of the stretches told last; < 0: they were all of a use */
        int inside;              /* the chunk acquired last; -1: its compute has ended */
        bool dropped;            /* the residents, since the run began */
        int pack;                /* that compute has come to */
        dev_event *epoch;        /* all compute before this run */
    } compute;

    bool has_lock;
    int n_conditions;
    pthread_mutex_t lock;                   /* of all below, and of what says so above */
    pthread_cond_t changed[STREAM_THREADS]; /* something the named thread may be waiting for */

    struct {
        bool stop, pause, failed;
        int n_paused;                                                   /* threads */
        uint64_t n_begun, n_copied, n_retired, n_released, n_reclaimed; /* transfers */
        int entered;  /* the pack that compute has come to, for the other threads */
        bool *kept;   /* cached chunks that are in their place */
        bool waiting; /* compute waits for transfer `awaited` */
        uint64_t awaited;
        stream_stats stats;
    } shared;
};

/* ---- the threads but compute ---- */

void stream_run_read(void *s);   /* offload/stream_read.c */
void stream_run_decode(void *w); /* offload/stream_decode.c, of a worker */
void stream_run_copy(void *s);   /* offload/stream_copy.c */

/* ---- what any of them may do, the lock held; in offload/stream_shared.c ---- */

__attribute__((format(printf, 3, 4))) void stream_fail(stream *s, refine_status st, const char *fmt,
                                                       ...);
void stream_wait_paused(stream *s, stream_thread who); /* until the run has been reset */
const char *stream_file_name(const stream *s, int chunk);
const char *stream_weight_name(const stream *s, int chunk);

/* ---- the compute thread, in offload/stream.c ---- */

const void *stream_acquire(weights *w, int chunk);
void stream_release(weights *w, int chunk);
void stream_record_stretch(void *stream_, queue_stretch q, double begin, double end);
void stream_set_kind(void *stream_, dev_kind now);

/* Everything as before the first transfer; nobody else runs. */
void stream_reset(stream *s);

/* ---- memory that nobody may touch, in offload/stream_guard.c ---- */

void stream_lay_zones(stream *s);
void stream_lift_zones(stream *s);  /* before the memory is given back */
void stream_check_zones(stream *s); /* of staging; fails the device */
/* A chunk in the ring, from the enqueueing of its copy to the end of its use. */
void stream_let_in(const stream *s, const void *at, size_t bytes);
void stream_shut_out(const stream *s, const void *at, size_t bytes);

/* ---- small things ---- */

static inline transfer_slot *stream_slot_of(stream *s, uint64_t transfer)
{
    return &s->transfer_slots[transfer % STREAM_IN_FLIGHT_MAX];
}

static inline const pack_chunk *stream_chunk(const stream *s, int chunk)
{
    return chunk_list_at(&s->chunks, chunk);
}

static inline bool stream_is_cached(const stream *s, int chunk)
{
    return s->cached && s->cached[chunk];
}

/* The lock held: may a chunk go to a place that a pack before its own has used? */
static inline bool stream_may_settle(const stream *s, int chunk)
{
    return chunk_list_pack(&s->chunks, chunk) <= s->shared.entered;
}

/* Bytes of a chunk in the file. */
static inline size_t stream_padded(const pack_chunk *c)
{
    return num_align(c->stored_bytes, PACK_ALIGN);
}

/* ---- waiting for each other, the lock held ---- */

static inline void stream_wait(stream *s, stream_thread who)
{
    pthread_cond_wait(&s->changed[who], &s->lock);
}

static inline void stream_signal(stream *s, stream_thread who)
{
    pthread_cond_broadcast(&s->changed[who]);
}

static inline void stream_signal_all(stream *s)
{
    for (int i = 0; i < STREAM_THREADS; i++)
        stream_signal(s, (stream_thread)i);
}

/* Transfer t moved on: compute may be waiting for it. */
static inline void stream_signal_compute(stream *s, uint64_t t)
{
    if (s->shared.waiting && s->shared.awaited == t)
        stream_signal(s, COMPUTE);
}

#endif
