/* tests/bench/bench_stream.c -- how fast do weights travel, with nothing computed?
 *
 *     bench_stream PACK [SECONDS [SLOTS [WORKERS [READER]]]]
 *
 * Streams every segment but the token table over and over, through the reference device's
 * copy queue into a ring of 64 MiB, and prints what each stage did.  A stage's rate is its
 * bytes over the time it was busy: the slowest of them is the bottleneck.
 * READER: 0 auto, 1 io_uring, 2 pread.
 */
#include "engine/base/clock.h"
#include "engine/base/num.h"
#include "offload/stream.h"

#include <stdio.h>
#include <stdlib.h>

static int parse_count_argument(int argc, char **argv, int i, int otherwise)
{
    return argc > i ? (int)strtol(argv[i], NULL, 10) : otherwise;
}

static double gigabytes_per_second(double bytes, double seconds)
{
    return seconds > 0 ? bytes / seconds * 1e-9 : 0;
}

static void print_stream_stats(const stream_stats *s, double seconds, const stream *st)
{
    const double disk = (double)s->disk_bytes, decoded = (double)s->decoded_bytes;
    const double copied = (double)s->copied_bytes;
    printf("reader %s %s\n", stream_reader_name(st), stream_note(st));
    printf("weights %7.2f GB/s   (%.2f GB in %.2f s, %llu chunks)\n",
           gigabytes_per_second(copied, seconds), copied * 1e-9, seconds,
           (unsigned long long)s->chunks);
    printf("disk    %7.2f GB/s   busy %5.1f %%\n", gigabytes_per_second(disk, s->disk_busy),
           100 * s->disk_busy / seconds);
    printf("decode  %7.2f GB/s a thread   busy %5.1f %%, all of them\n",
           gigabytes_per_second(decoded, s->decode_busy), 100 * s->decode_busy / seconds);
    printf("copy    %7.2f GB/s   busy %5.1f %%\n", gigabytes_per_second(copied, s->copy_busy),
           100 * s->copy_busy / seconds);
    printf("waited for disk %.2f s, decode %.2f s, copy %.2f s\n", s->stall_disk, s->stall_decode,
           s->stall_copy);
}

/* One pass over the script; false when a chunk does not come. */
static bool use_pass_chunks(weights *w, const stream_pass *pass)
{
    for (int c = pass->first; c < pass->end; c++) {
        if (!w->acquire(w, c))
            return false;
        w->release(w, c);
    }
    return true;
}

static bool measure_passes(stream *s, const stream_pass *pass, double seconds)
{
    const double t0 = clock_seconds();
    do {
        if (!use_pass_chunks(stream_weights(s), pass) || stream_restart(s) != REFINE_OK)
            return false;
    } while (clock_seconds() - t0 < seconds);
    const stream_stats stats = stream_get_stats(s);
    print_stream_stats(&stats, clock_seconds() - t0, s);
    return true;
}

int main(int argc, char **argv)
{
    const dev_options o = { .compute = DT_F32, .threads = 1 };
    const size_t ring = (size_t)64 << 20;
    refine_error err = { 0 };
    stream_pass pass = { .passes = 1 };
    pack *p = NULL;
    stream *s = NULL;
    dev *d = NULL;
    void *memory = NULL;
    int end, status = 1;

    if (argc < 2) {
        fprintf(stderr, "usage: %s PACK [SECONDS [SLOTS [WORKERS [READER]]]]\n", argv[0]);
        return 2;
    }
    if (pack_open(&p, argv[1], &err) != REFINE_OK || !(d = dev_open_ref(&o, &err)))
        goto out;
    pack_segment(p, PACK_SEGMENT_VECTORS, &end, &pass.first);
    pack_segment(p, PACK_SEGMENT_TOKENS, &pass.end, &end);
    memory = dev_alloc(d, ring, DEV_VRAM);
    if (!memory)
        goto out;
    const stream_config c = { .d = d,
                              .chunks = chunk_list_make((const pack *const[]){ p }, 1),
                              .ring = memory,
                              .ring_bytes = ring,
                              .schedule = &pass,
                              .n_passes = 1,
                              .slots = parse_count_argument(argc, argv, 3, 8),
                              .workers = parse_count_argument(argc, argv, 4, 2),
                              .reader = parse_count_argument(argc, argv, 5, 0) };
    if (stream_open(&s, &c, &err) != REFINE_OK)
        goto out;
    if (measure_passes(s, &pass, parse_count_argument(argc, argv, 2, 5)))
        status = 0;
    else
        fprintf(stderr, "%s\n", dev_why(d));
out:
    if (status && err.text[0])
        fprintf(stderr, "%s\n", err.text);
    stream_close(s);
    if (d)
        dev_free(d, memory, ring, DEV_VRAM);
    dev_close(d);
    pack_close(p);
    return status;
}
