/* offload/stream_read.c -- the I/O thread: FREE -> READING -> READ.
 *
 * A chunk is read in requests of REQUEST bytes, of which DEPTH may be under way, across chunks; it
 * is READ when the last of them has come, in any order.  One that lies in the cache is DECODED at
 * once.  Invariants by number: the head of offload/stream.c.
 */
#include "offload/stream_state.h"

#include "engine/base/clock.h"

#include <assert.h>
#include <string.h>

typedef struct request {
    uint64_t slot, at;
    int file;
    char *dst;
    size_t bytes;
} request;

static bool is_raw(const stream *s, int chunk)
{
    for (uint32_t i = 0; i < stream_chunk(s, chunk)->n_frames; i++)
        if (chunk_list_frame(&s->chunks, chunk, (int)i)->codec != PACK_RAW)
            return false;
    return true;
}

/* A chunk that lies in host memory is as good as decoded. */
static void take_from_cache(stream *s, slot *sl)
{
    sl->state = DECODED;
    sl->undecoded = 0;
    s->shared.stats.cache_hits++;
    stream_signal(s, COPY);
    stream_signal_compute(s, sl->transfer);
}

/* Is an earlier transfer of this chunk still filling its place in the cache? */
static bool is_arriving(const stream *s, int chunk)
{
    for (const slot *sl = s->slots; sl < s->slots + s->n_slots; sl++)
        if ((sl->state == READING || sl->state == READ) && sl->chunk == chunk)
            return true;
    return false;
}

/* Is what a pack before this chunk's had in the cache still copied from there?  Compute that has
 * been enqueued may be behind it. */
static bool is_leaving(const stream *s, int chunk)
{
    const int k = chunk_list_pack(&s->chunks, chunk);
    for (const slot *sl = s->slots; sl < s->slots + s->n_slots; sl++)
        if (sl->state != FREE && stream_is_cached(s, sl->chunk) &&
            chunk_list_pack(&s->chunks, sl->chunk) < k)
            return true;
    return false;
}

static bool place_is_ready(const stream *s, int chunk)
{
    return stream_may_settle(s, chunk) && !is_arriving(s, chunk) && !is_leaving(s, chunk);
}

static bool begin_transfer(stream *s)
{
    if (!schedule_to_transfer(&s->schedule, &s->io.next))
        return false;
    slot *sl = &s->slots[s->shared.n_begun % (uint64_t)s->n_slots];
    if (sl->state != FREE)
        return false;
    if (stream_is_cached(s, s->io.next.chunk) && !place_is_ready(s, s->io.next.chunk)) /* (9) */
        return false;
    const pack_chunk *c = stream_chunk(s, s->io.next.chunk);
    sl->state = READING;
    sl->transfer = s->shared.n_begun++;
    sl->chunk = s->io.next.chunk;
    sl->out = stream_is_cached(s, sl->chunk) ? s->cache + s->place[sl->chunk] : sl->plain;
    sl->in = is_raw(s, sl->chunk) ? sl->out : sl->coded;
    sl->requests = (int)((stream_padded(c) + REQUEST - 1) / REQUEST);
    sl->taken = 0;
    sl->undecoded = (int)c->n_frames;
    sl->in_at = sl->plain_at = 0;
    sl->since = clock_seconds();
    schedule_next(&s->schedule, &s->io.next);
    if (stream_is_cached(s, sl->chunk) && s->shared.kept[sl->chunk]) {
        take_from_cache(s, sl);
    } else {
        s->io.filling = sl;
        s->io.filled = 0;
    }
    return true;
}

static bool next_request(stream *s, request *q)
{
    /* A limited disk is asked for little at a time: what has come is taken in between. */
    if (s->io.in_flight == (s->io.pace.rate > 0 ? LIMITED_DEPTH : DEPTH))
        return false;
    while (!s->io.filling)
        if (!begin_transfer(s))
            return false;
    slot *sl = s->io.filling;
    const pack_chunk *c = stream_chunk(s, sl->chunk);
    const size_t n = num_min(REQUEST, stream_padded(c) - s->io.filled);
    *q = (request){ .slot = (uint64_t)(sl - s->slots),
                    .file = chunk_list_pack(&s->chunks, sl->chunk),
                    .at = c->file_at + s->io.filled,
                    .dst = sl->in + s->io.filled,
                    .bytes = n };
    s->io.filled += n;
    if (s->io.filled == stream_padded(c))
        s->io.filling = NULL;
    if (s->io.in_flight++ == 0)
        s->io.busy_since = clock_seconds();
    return true;
}

static void read_failed(stream *s, int chunk, int error)
{
    stream_fail(s, REFINE_EIO, "%.40s: chunk %d ('%.96s') cannot be read: %s; check the disk",
                stream_file_name(s, chunk), chunk, stream_weight_name(s, chunk),
                error ? strerror(error) : "the file ended");
}

static void finish_request(stream *s, slot *sl)
{
    const double now = clock_seconds();
    if (--s->io.in_flight == 0)
        s->shared.stats.disk_busy += now - s->io.busy_since;
    assert(sl->state == READING);
    if (--sl->requests > 0)
        return;
    sl->state = READ;
    trace_add(s->t, REFINE_LANE_DISK, sl->chunk, sl->since, now,
              stream_padded(stream_chunk(s, sl->chunk)));
    sl->since = now;
    s->shared.stats.disk_bytes += stream_padded(stream_chunk(s, sl->chunk));
    stream_signal(s, DECODE);
    stream_signal_compute(s, sl->transfer);
}

static void submit_all(stream *s)
{
    request q;
    while (!s->shared.failed && next_request(s, &q)) {
        pthread_mutex_unlock(&s->lock);
        pace_send(&s->io.pace, q.bytes);
        const refine_status st = s->io.rd->submit(s->io.rd, q.slot, q.file, q.dst, q.at, q.bytes);
        pthread_mutex_lock(&s->lock);
        if (st != REFINE_OK) {
            s->io.in_flight--;
            read_failed(s, s->slots[q.slot].chunk, 0);
        }
    }
}

static void reap_reads(stream *s)
{
    read_done done[DEPTH];
    pthread_mutex_unlock(&s->lock);
    const int n = s->io.rd->reap(s->io.rd, done, DEPTH, 1);
    pthread_mutex_lock(&s->lock);
    for (int i = 0; i < n; i++) {
        slot *sl = &s->slots[done[i].ticket];
        finish_request(s, sl);
        if (done[i].status != REFINE_OK)
            read_failed(s, sl->chunk, done[i].error);
    }
}

void stream_run_read(void *context)
{
    stream *s = context;
    pthread_mutex_lock(&s->lock);
    while (!s->shared.stop) {
        if (!s->shared.pause)
            submit_all(s);
        if (s->io.in_flight > 0)
            reap_reads(s);
        else if (s->shared.pause)
            stream_wait_paused(s, IO);
        else
            stream_wait(s, IO);
    }
    pthread_mutex_unlock(&s->lock);
}
