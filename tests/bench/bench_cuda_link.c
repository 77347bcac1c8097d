/* tests/bench/bench_cuda_link.c -- how fast do weights reach a GPU, with nothing computed?
 *
 *     bench_cuda_link PACK [SECONDS]
 *
 * A line of JSON.  `bare` is a loop of nothing but cudaMemcpyAsync over as many bytes as the UNet
 * has weights, in the pack's own chunks, from pinned memory; `stream` is what the engine's stream
 * brings of the same chunks from host memory, passes after the first.  They take turns, and the
 * best of each counts: other users of the link can only make it slower.
 */
#include "engine/base/clock.h"
#include "engine/base/mem.h"
#include "engine/layout.h"
#include "kernels/cuda/cuda.h"
#include "offload/stream.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RING = 64 << 20, SLOTS = 8, WORKERS = 2, PASSES = 100000, TURNS = 3 };

typedef struct bench {
    dev *d;
    pack *p;
    stream_pass pass; /* the UNet, once */
    size_t bytes;     /* of its chunks */
    char *ring;
    double seconds;
} bench;

static size_t chunk_bytes(const bench *b, int i) { return (size_t)pack_chunk_at(b->p, i)->bytes; }

/* ---- bare ---- */

static bool enqueue_all(const bench *b, const char *from)
{
    const cudaStream_t s = cuda_of(b->d)->stream[DEV_COPY];
    size_t at = 0, to = 0;
    for (int i = b->pass.first; i < b->pass.end; i++) {
        const size_t bytes = chunk_bytes(b, i);
        to = to + bytes > RING ? 0 : to;
        if (cudaMemcpyAsync(b->ring + to, from + at, bytes, cudaMemcpyHostToDevice, s) !=
            cudaSuccess)
            return false;
        at += bytes;
        to += bytes;
    }
    return cudaStreamSynchronize(s) == cudaSuccess;
}

/* Bytes a second; 0: failed. */
static double measure_bare(const bench *b, const char *from)
{
    const double t0 = clock_seconds();
    double done = 0, t;
    do {
        if (!enqueue_all(b, from))
            return 0;
        done += (double)b->bytes;
        t = clock_seconds() - t0;
    } while (t < b->seconds);
    return done / t;
}

static double bare(const bench *b)
{
    char *from = dev_alloc(b->d, b->bytes, DEV_PINNED);
    if (!from)
        return 0;
    memset(from, 1, b->bytes);
    const double rate = measure_bare(b, from);
    dev_free(b->d, from, b->bytes, DEV_PINNED);
    return rate;
}

/* ---- the stream ---- */

static bool play(const bench *b, weights *w)
{
    for (int c = b->pass.first; c < b->pass.end; c++) {
        if (!w->enter(w, c))
            return false;
        w->leave(w, c);
    }
    return true;
}

static double measure_stream(const bench *b, stream *s)
{
    if (!play(b, stream_weights(s)))
        return 0;
    const double t0 = clock_seconds();
    double done = 0, t;
    do {
        if (!play(b, stream_weights(s)))
            return 0;
        done += (double)b->bytes;
        t = clock_seconds() - t0;
    } while (t < b->seconds);
    return done / t;
}

static double streamed(const bench *b, refine_error *err)
{
    const size_t n = (size_t)n_pack_chunks(b->p);
    bool *cached = mem_calloc(n, sizeof *cached);
    stream *s = NULL;
    double rate = 0;
    const stream_config c = { .d = b->d,
                              .p = b->p,
                              .ring = b->ring,
                              .ring_bytes = RING,
                              .cached = cached,
                              .script = &b->pass,
                              .n_script = 1,
                              .slots = SLOTS,
                              .workers = WORKERS };
    for (int i = b->pass.first; cached && i < b->pass.end; i++)
        cached[i] = true;
    if (cached && stream_open(&s, &c, err) == REFINE_OK)
        rate = measure_stream(b, s);
    stream_close(s);
    mem_free(cached);
    return rate;
}

/* ---- all of it ---- */

static bool open_bench(bench *b, const char *path, refine_error *err)
{
    const dev_options o = { .compute = DT_F16 };
    if (pack_open(&b->p, path, err) != REFINE_OK || !(b->d = dev_open_cuda(&o, 0, err)))
        return false;
    pack_segment(b->p, SEG_UNET, &b->pass.first, &b->pass.end);
    b->pass.passes = PASSES;
    for (int i = b->pass.first; i < b->pass.end; i++)
        b->bytes += chunk_bytes(b, i);
    b->ring = dev_alloc(b->d, RING, DEV_VRAM);
    return b->ring && b->bytes > 0;
}

static void close_bench(bench *b)
{
    if (b->d)
        dev_free(b->d, b->ring, RING, DEV_VRAM);
    dev_close(b->d);
    pack_close(b->p);
}

static bool measure(const bench *b, refine_error *err)
{
    double best_bare = 0, best_stream = 0;
    for (int i = 0; i < TURNS; i++) {
        const double loop = bare(b), ours = loop > 0 ? streamed(b, err) : 0;
        if (ours <= 0)
            return false;
        best_bare = loop > best_bare ? loop : best_bare;
        best_stream = ours > best_stream ? ours : best_stream;
    }
    printf("{\"stage\":\"link\",\"chunks\":%d,\"mean_chunk_kib\":%.1f,\"gigabytes\":%.3f,"
           "\"bare_gbps\":%.3f,\"stream_gbps\":%.3f,\"of_bare\":%.4f}\n",
           b->pass.end - b->pass.first,
           (double)b->bytes / 1024 / (double)(b->pass.end - b->pass.first), 1e-9 * (double)b->bytes,
           1e-9 * best_bare, 1e-9 * best_stream, best_stream / best_bare);
    return true;
}

int main(int argc, char **argv)
{
    bench b = { .seconds = argc > 2 ? strtod(argv[2], NULL) : 2 };
    refine_error err = { 0 };
    bool done;

    if (argc < 2) {
        fprintf(stderr, "usage: bench_cuda_link PACK [SECONDS]\n");
        return 2;
    }
    done = open_bench(&b, argv[1], &err) && measure(&b, &err);
    if (!done)
        fprintf(stderr, "bench_cuda_link: %s\n",
                err.text[0]                           ? err.text
                : b.d && dev_status(b.d) != REFINE_OK ? dev_why(b.d)
                                                      : "out of memory");
    close_bench(&b);
    return !done;
}
