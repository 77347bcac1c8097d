/* offload/stream.h -- every weight of a run, in order, through a ring of bounded size.
 *
 *   disk --reader--> staging --workers: check, decode--> staging --DEV_COPY--> ring --> compute
 *
 * Which chunks, in which order, is known before the first one: the schedule, a list
 * of segment passes (text once, UNet n times, ...).  The stream runs ahead of the
 * compute as far as staging and ring allow, across passes, phases and packs.
 *
 * Resident chunks have a place of their own on the device: they travel on their
 * first use and are there on every later one (until stream_drop_residents).
 *
 * Packs.  A run may use the chunks of several, one pack after the other; the compute thread says
 * when it comes to the next (stream_enter_pack), and speaks of chunks as that pack numbers them.
 * Resident and cached chunks of a pack have their places to themselves from then on, where those of
 * the pack before lay; what goes through the ring may come earlier.
 *
 * Why two slots are not enough.  Double buffering overlaps two stages that take turns; a transfer
 * has four behind one another, disk, decoding, link and compute, and each takes now longer, now
 * shorter: a chunk meets a convolution that computes for long and then a run of small matrices that
 * do not.  Two buffers of a layer would also be two of the largest, 85 MB in fp16.  So the unit is
 * a chunk of some MiB, staging has as many slots as keep disk, workers and link busy at once, and
 * what the ring holds lets transfers run ahead of the compute: about 8 chunks, 32 MiB, hide latency
 * and jitter.  In the runs of docs/speed.md, with a ring of 68 MiB at most, compute waited for
 * weights 0.00 to 0.05 s of a whole run, and a step with everything streamed is as fast as one with
 * everything resident.
 *
 * Threads: one I/O thread (owns the reader), n decode workers, one copy thread
 * (owns DEV_COPY); acquire and release belong to the compute thread.
 */
#ifndef REFINE_STREAM_H
#define REFINE_STREAM_H

#include "engine/base/trace.h"
#include "kernels/device.h"
#include "offload/chunk_list.h"
#include "offload/reader.h"
#include "offload/schedule.h"
#include "offload/weights.h"

#include <stdbool.h>

typedef struct stream stream;

/* Transfers between the enqueueing of their copy and the end of their use; more only wait, and only
 * where chunks are tiny. */
enum { STREAM_IN_FLIGHT_MAX = 256 };

typedef struct stream_config {
    dev *d;
    chunk_list chunks; /* in the order of the packs they are used; all arrays are by number */
    void *ring;        /* device memory, the caller's */
    size_t ring_bytes;    /* >= stream_ring_min() for the biggest set of chunks
                                       that is ever inside at once */
    void *residents[PACKS_MAX]; /* device memory for a pack's resident chunks, one behind the
                                       other in the order of `resident`, each at DEV_ALIGN */
    const bool *resident; /* per chunk; NULL: none */
    const bool *cached;   /* kept decoded in host memory after their first transfer; NULL: none */
    const stream_pass *schedule;
    int n_passes;
    int slots;   /* staging slots, each one chunk; >= 2 */
    int workers; /* decode threads; >= 1 */
    reader_kind reader;
    double disk_limit, copy_limit; /* bytes a second not to exceed; 0: none */
    trace *t;                      /* told of every transfer; or NULL */
    bool guards;                   /* zones behind the slots, looked at in every pause */
    const reader_calls *calls;     /* tests; or NULL */
} stream_config;

/* Where time and bytes went since stream_open. */
typedef struct stream_stats {
    uint64_t disk_bytes, decoded_bytes, copied_bytes;
    uint64_t chunks, resident_hits; /* uses that travelled, and that did not */
    uint64_t cache_hits;            /* that travelled from host memory */
    double disk_busy;               /* seconds with at least one request under way */
    double decode_busy;             /* summed over the workers */
    double copy_busy;               /* with at least one copy enqueued and not finished */
    double stall_disk, stall_decode, stall_copy; /* compute waited, by what it waited for; those
                                                    since the last pause may be missing */
} stream_stats;

/* Host memory (staging, threads' contexts) a stream of this shape takes. */
size_t stream_host_bytes(const chunk_list *l, int slots, int workers, bool guards);
size_t stream_staging_bytes(const chunk_list *l, int slots, bool guards);
size_t stream_cached_bytes(const pack_chunk *c); /* host memory of a cached chunk */

/* Bytes that a chunk takes of the ring: in guarded builds with a zone (engine/base/guard.h). */
size_t stream_span(size_t chunk_bytes);

/* Bytes the ring must have when chunks whose spans add up to `inside_bytes` are inside at once. */
size_t stream_ring_min(const pack *p, size_t inside_bytes);

/* Starts the threads, which begin to read at once.  The schedule is copied. */
refine_status stream_open(stream **out, const stream_config *c, refine_error *err);
/* Starts the schedule over, for the next image; nothing may be inside.  Allocates nothing.
 * Residents stay, of a single pack.  Fails when the device has failed, as it does. */
refine_status stream_restart(stream *s);
/* The compute so far is done with all packs before this one, and begins with it.  Of the first pack
 * none has to be told.  Nothing may be inside, unless the device has failed, as it then stays. */
void stream_enter_pack(stream *s, int next);
/* Their memory is the caller's until stream_restart or stream_enter_pack.  What is left of the
 * pack's schedule must not use a resident chunk. */
void stream_drop_residents(stream *s);
/* Stops early if need be, and drains what it copies.  NULL is fine. */
void stream_close(stream *s);

weights *stream_weights(stream *s); /* the interface the engine sees */

/* Nothing is computed with weights until the next entry.  Waits for the compute so far, whose
 * times and stalls are then known.  Staging written beside a slot fails the device. */
void stream_settle_times(stream *s);

/* Seconds of compute behind the entry of a chunk, up to that of the next and without stalls,
 * on average over its uses up to the last pause; 0: not used.  The compute thread's. */
double stream_compute_seconds(const stream *s, int chunk);

/* Seconds of compute of one kind, of all chunks and without stalls, since stream_open and up to the
 * last pause. */
double stream_kind_seconds(const stream *s, dev_kind k);

int stream_position(const stream *s); /* the chunk acquired last; -1: none since a pause */

stream_stats stream_get_stats(stream *s); /* any time */
stream_stats stream_stats_since(stream_stats then, stream_stats now);
const char *stream_reader_name(const stream *s);
const char *stream_note(const stream *s); /* "" or why the reader fell back */

#endif
