/* offload/stream_state.h -- what the threads of a stream share; offload/stream.c says how.
 *
 * Internal to offload/stream*.c.
 */
#ifndef REFINE_STREAM_STATE_H
#define REFINE_STREAM_STATE_H

#include "engine/base/num.h"
#include "engine/base/thread.h"
#include "offload/codec.h"
#include "offload/queue_clock.h"
#include "offload/ring.h"
#include "offload/stream.h"

#include <pthread.h>

enum {
    DEPTH = 16,          /* requests in flight, */
    LIMITED_DEPTH = 2,   /* with a limit on the disk's rate */
    REQUEST = 1 << 20,   /* bytes of one; so a 4 MiB chunk is read four ways at once */
    COPIES = 4,          /* copies enqueued and not yet waited for: a fast link takes less than
                          0.1 ms for a chunk, a thread about as long to wake up */
    PASSES = 64,         /* of a schedule, for stream_host_bytes */
    EVENT = 64,          /* bytes of an event, likewise */
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

/* The time that a rate limit takes: bytes follow each other on an imagined line. */
typedef struct pace {
    double rate, free_at; /* rate 0: no limit */
} pace;

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

enum { IO, WORK, COPY, COMPUTE, CONDITIONS };

struct stream {
    weights w; /* first: what the engine holds is a pointer to it */
    dev *d;
    const pack *p;
    schedule schedule;
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
    transfer_slot transfer_slots[STREAM_IN_FLIGHT_MAX];
    dev_event *fresh; /* all compute before this run */
    thread io, copier;
    decode_worker *workers;
    int n_workers;
    char note[READER_NOTE];
    trace *t;
    bool guards;
    pace disk, copy;         /* of the I/O thread; of the copy thread */
    use_time *times;         /* per chunk; the compute thread's, as is */
    queue_clock clock;       /* the compute thread's, as is all up to `inside` */
    double kinds[DEV_KINDS]; /* seconds of compute */
    dev_kind kind;           /* of what is being enqueued */
    double use_began;        /* of the stretches told last; < 0: they were all of a use */
    int inside;              /* the chunk acquired last; -1: its compute has ended */

    bool has_lock;
    int n_conditions;
    pthread_mutex_t lock;             /* of everything below */
    pthread_cond_t moved[CONDITIONS]; /* something the named thread may be waiting for */
    bool stop, pause, failed;
    bool dropped; /* the compute thread's alone */
    int n_parked;

    cursor reading, copying;     /* the next transfer of the I/O and the copy thread */
    cursor acquiring, releasing; /* the compute thread's alone; no lock */
    uint64_t n_begun, n_copied, n_retired, n_released, popped; /* transfers */
    ring ring;
    dev_event *gate; /* (5); NULL: nothing new to wait for */
    slot *filling;   /* whose requests are being made, and */
    size_t filled;   /* how many bytes they cover so far */
    int in_flight;   /* requests */
    bool waiting;    /* compute waits for transfer `awaited` */
    uint64_t awaited;
    stream_stats stats;
    double disk_since, copy_since; /* start of the current busy time */
};

/* ---- the threads but compute, in offload/stream_stages.c ---- */

void stream_io(void *s);
void stream_work(void *w); /* of a worker */
void stream_copy(void *s);

/* ---- the compute thread, in offload/stream.c ---- */

const void *stream_acquire(weights *w, int chunk);
void stream_release(weights *w, int chunk);
void stream_count(void *stream_, queue_stretch q, double begin, double end);
void stream_kind(void *stream_, dev_kind now);

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

static inline bool stream_is_cached(const stream *s, int chunk)
{
    return s->cached && s->cached[chunk];
}

/* Bytes of a chunk in the file. */
static inline size_t stream_padded(const pack_chunk *c)
{
    return num_align(c->stored_bytes, PACK_ALIGN);
}

/* Talking to each other; all with the lock held. */

static inline void stream_wait(stream *s, int who) { pthread_cond_wait(&s->moved[who], &s->lock); }

static inline void stream_wake(stream *s, int who) { pthread_cond_broadcast(&s->moved[who]); }

static inline void stream_wake_all(stream *s)
{
    for (int i = 0; i < CONDITIONS; i++)
        stream_wake(s, i);
}

#endif
