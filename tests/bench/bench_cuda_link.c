/* tests/bench/bench_cuda_link.c -- how fast do weights reach a GPU, with nothing computed?
 *
 *     bench_cuda_link PACK [SECONDS [SECONDS_IN_ALL]]
 *
 * A line of JSON after each turn; the last one counts.  `bare` is a loop of nothing but
 * cudaMemcpyAsync over as many bytes as the UNet has weights, in the pack's own chunks, from pinned
 * memory, which it goes through again when it is smaller; `stream` is what the engine's stream
 * brings of the same chunks from host memory, passes after the first.  They take turns, and the
 * best of each counts: other users of the link can only make it slower.  There are no more turns
 * than end within SECONDS_IN_ALL, but one there is.
 */
#include "engine/base/clock.h"
#include "engine/base/mem.h"
#include "engine/model/weight_list.h"
#include "kernels/cuda/cuda.h"
#include "offload/stream.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RING = 64 << 20, SLOTS = 8, WORKERS = 2, PASSES = 100000, TURNS = 3 };
static const size_t BARE_MAX = (size_t)2 << 30; /* far more than any cache has */

typedef struct link_bench {
    dev *d;
    pack *p;
    stream_pass pass; /* the UNet, once */
    size_t bytes;     /* of its chunks */
    char *ring;
    char *from; /* of the bare loop, */
    size_t from_bytes;
    stream *s;
    bool *cached;
    double seconds, begun, seconds_in_all;
} link_bench;

static size_t chunk_bytes(const link_bench *b, int i)
{
    return (size_t)pack_chunk_at(b->p, i)->bytes;
}

/* ---- bare ---- */

static bool take_bare(link_bench *b)
{
    size_t largest = 0;
    for (int i = b->pass.first; i < b->pass.end; i++)
        largest = chunk_bytes(b, i) > largest ? chunk_bytes(b, i) : largest;
    b->from_bytes = b->bytes < BARE_MAX || largest > BARE_MAX ? b->bytes : BARE_MAX;
    b->from = dev_alloc(b->d, b->from_bytes, DEV_PINNED);
    if (b->from)
        memset(b->from, 1, b->from_bytes);
    return b->from != NULL;
}

static bool enqueue_all(const link_bench *b)
{
    const cudaStream_t s = cuda_of(b->d)->stream[DEV_COPY];
    size_t at = 0, to = 0;
    for (int i = b->pass.first; i < b->pass.end; i++) {
        const size_t bytes = chunk_bytes(b, i);
        at = at + bytes > b->from_bytes ? 0 : at;
        to = to + bytes > RING ? 0 : to;
        if (cudaMemcpyAsync(b->ring + to, b->from + at, bytes, cudaMemcpyHostToDevice, s) !=
            cudaSuccess)
            return false;
        at += bytes;
        to += bytes;
    }
    return cudaStreamSynchronize(s) == cudaSuccess;
}

/* Bytes a second; 0: failed. */
static double measure_bare(const link_bench *b)
{
    const double t0 = clock_seconds();
    double done = 0, t;
    do {
        if (!enqueue_all(b))
            return 0;
        done += (double)b->bytes;
        t = clock_seconds() - t0;
    } while (t < b->seconds);
    return done / t;
}

/* ---- the stream ---- */

static bool use_link_chunks(const link_bench *b, weights *w)
{
    for (int c = b->pass.first; c < b->pass.end; c++) {
        if (!w->acquire(w, c))
            return false;
        w->release(w, c);
    }
    return true;
}

/* The first pass brings what is cached, or what lies in the ring from the turn before. */
static double measure_stream(const link_bench *b)
{
    if (!use_link_chunks(b, stream_weights(b->s)))
        return 0;
    const double t0 = clock_seconds();
    double done = 0, t;
    do {
        if (!use_link_chunks(b, stream_weights(b->s)))
            return 0;
        done += (double)b->bytes;
        t = clock_seconds() - t0;
    } while (t < b->seconds);
    return done / t;
}

static bool open_link_stream(link_bench *b, refine_error *err)
{
    b->cached = mem_calloc((size_t)n_pack_chunks(b->p), sizeof *b->cached);
    const stream_config c = { .d = b->d,
                              .chunks = chunk_list_make((const pack *const[]){ b->p }, 1),
                              .ring = b->ring,
                              .ring_bytes = RING,
                              .cached = b->cached,
                              .schedule = &b->pass,
                              .n_passes = 1,
                              .slots = SLOTS,
                              .workers = WORKERS };
    for (int i = b->pass.first; b->cached && i < b->pass.end; i++)
        b->cached[i] = true;
    return b->cached && stream_open(&b->s, &c, err) == REFINE_OK;
}

/* ---- all of it ---- */

static bool open_link_bench(link_bench *b, const char *path, refine_error *err)
{
    const dev_options o = { .compute = DT_F16 };
    if (pack_open(&b->p, path, err) != REFINE_OK || !(b->d = dev_open_cuda(&o, 0, err)))
        return false;
    pack_segment(b->p, SEG_UNET, &b->pass.first, &b->pass.end);
    b->pass.passes = PASSES;
    for (int i = b->pass.first; i < b->pass.end; i++)
        b->bytes += chunk_bytes(b, i);
    b->ring = dev_alloc(b->d, RING, DEV_VRAM);
    return b->ring && b->bytes > 0 && take_bare(b) && open_link_stream(b, err);
}

static void close_link_bench(link_bench *b)
{
    stream_close(b->s);
    mem_free(b->cached);
    if (b->from)
        dev_free(b->d, b->from, b->from_bytes, DEV_PINNED);
    if (b->d)
        dev_free(b->d, b->ring, RING, DEV_VRAM);
    dev_close(b->d);
    pack_close(b->p);
}

static void print_link_rates(const link_bench *b, double bare, double ours)
{
    const int chunks = b->pass.end - b->pass.first;
    printf("{\"stage\":\"link\",\"chunks\":%d,\"mean_chunk_kib\":%.1f,\"gigabytes\":%.3f,"
           "\"bare_gbps\":%.3f,\"stream_gbps\":%.3f,\"of_bare\":%.4f}\n",
           chunks, (double)b->bytes / 1024 / chunks, 1e-9 * (double)b->bytes, 1e-9 * bare,
           1e-9 * ours, ours / bare);
    fflush(stdout);
}

static bool measure_link_turns(const link_bench *b)
{
    double best_bare = 0, best_ours = 0, last = 0, now = clock_seconds();
    for (int i = 0; i < TURNS && (i == 0 || now - b->begun + last < b->seconds_in_all); i++) {
        const double begin = now, bare = measure_bare(b), ours = bare > 0 ? measure_stream(b) : 0;
        if (ours <= 0)
            return false;
        best_bare = bare > best_bare ? bare : best_bare;
        best_ours = ours > best_ours ? ours : best_ours;
        print_link_rates(b, best_bare, best_ours);
        now = clock_seconds();
        last = now - begin;
    }
    return true;
}

int main(int argc, char **argv)
{
    link_bench b = { .seconds = argc > 2 ? strtod(argv[2], NULL) : 2,
                     .seconds_in_all = argc > 3 ? strtod(argv[3], NULL) : 1e9,
                     .begun = clock_seconds() };
    refine_error err = { 0 };
    bool done;

    if (argc < 2) {
        fprintf(stderr, "usage: bench_cuda_link PACK [SECONDS [SECONDS_IN_ALL]]\n");
        return 2;
    }
    done = open_link_bench(&b, argv[1], &err) && measure_link_turns(&b);
    if (!done)
        fprintf(stderr, "bench_cuda_link: %s\n",
                err.text[0]                           ? err.text
                : b.d && dev_status(b.d) != REFINE_OK ? dev_why(b.d)
                                                      : "out of memory");
    close_link_bench(&b);
    return !done;
}
