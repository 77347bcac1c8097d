/* offload/stream_decode.c -- the workers: READ -> DECODED.
 *
 * A job is one frame, so several workers decode one chunk; it is DECODED when the last has.
 * Invariants by number: the head of offload/stream.c.
 */
#include "offload/stream_state.h"

#include "engine/base/clock.h"

#include <assert.h>

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
        if (sl->taken == (int)stream_chunk(s, sl->chunk)->n_frames)
            continue;
        if (!best || sl->transfer < best->transfer)
            best = sl;
    }
    return best;
}

static bool take_frame(stream *s, job *j)
{
    slot *sl = s->shared.failed || s->shared.pause ? NULL : next_to_decode(s);
    if (!sl)
        return false;
    const pack_frame *f = chunk_list_frame(&s->chunks, sl->chunk, sl->taken);
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
        stream_fail(s, st, "%.40s: chunk %d ('%.96s') is damaged; run refine-pack --verify",
                    stream_file_name(s, sl->chunk), sl->chunk, stream_weight_name(s, sl->chunk));
        return;
    }
    s->shared.stats.decoded_bytes += j->frame->bytes;
    if (--sl->undecoded > 0)
        return;
    sl->state = DECODED;
    if (stream_is_cached(s, sl->chunk)) {
        s->shared.kept[sl->chunk] = true;
        stream_signal(s, IO);
    }
    trace_add(s->t, REFINE_LANE_DECODE, sl->chunk, sl->since, clock_seconds(),
              stream_chunk(s, sl->chunk)->bytes);
    stream_signal(s, COPY);
    stream_signal_compute(s, sl->transfer);
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
    s->shared.stats.decode_busy += seconds;
    finish_frame(s, j, st);
}

void stream_run_decode(void *context)
{
    decode_worker *w = context;
    stream *s = w->s;
    job j;
    pthread_mutex_lock(&s->lock);
    while (!s->shared.stop) {
        if (take_frame(s, &j))
            run_decode_job(w, &j);
        else if (s->shared.pause)
            stream_wait_paused(s, DECODE);
        else
            stream_wait(s, DECODE);
    }
    pthread_mutex_unlock(&s->lock);
}
