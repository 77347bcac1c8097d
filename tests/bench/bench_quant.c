/* tests/bench/bench_quant.c -- what int8 and zstd do to weights of three distributions.
 *
 *     bench_quant [MEGAWEIGHTS]
 *
 * One thread.  `sqnr` in dB and encoding for both searches; decoding to float; what zstd saves
 * of a frame (stored / raw, level 1, f16 in split planes as the packer does it) and how fast
 * it decodes, checksum included.  Rates count the bytes of the weights as fp16, or as int8 where
 * the line says so, and are of processor time, which other programs disturb less; each is the
 * best of three.
 */
#define _POSIX_C_SOURCE 200809L
#include "offload/codec.h"
#include "quant/f16.h"
#include "quant/int8.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <zstd.h>

enum { ROWS = 128, CHANNELS = 768, TILE = ROWS * CHANNELS, TRIES = 3 };

typedef struct quant_weights {
    size_t n; /* a multiple of TILE */
    uint16_t *f16;
    float *f32;
    char *int8;
    size_t int8_bytes;
} quant_weights;

static double cpu_seconds(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- distributions ---- */

static double draw_uniform_weight(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return ((double)(*state >> 33) + 0.5) / 0x1p31;
}

static double draw_gaussian_weight(uint64_t *s)
{
    const double radius = sqrt(-2 * log(draw_uniform_weight(s)));
    return radius * cos(6.283185307179586 * draw_uniform_weight(s));
}

static double draw_laplace_weight(uint64_t *s)
{
    const double u = draw_uniform_weight(s) - 0.5;
    return -copysign(log(1 - 2 * fabs(u)), u);
}

static double draw_student5_weight(uint64_t *s)
{
    double squares = 0;
    for (int i = 0; i < 5; i++) {
        const double g = draw_gaussian_weight(s);
        squares += g * g;
    }
    return draw_gaussian_weight(s) / sqrt(squares / 5);
}

/* ---- int8 ---- */

static double measure_encode(const quant_weights *w, i8_search how, double *sqnr)
{
    double best = 1e9;
    for (int i = 0; i < TRIES; i++) {
        const double began = cpu_seconds();
        i8_error lost = { 0 };
        char *to = w->int8;
        for (size_t at = 0; at < w->n; at += TILE, to += i8_bytes(ROWS, 1, CHANNELS))
            i8_encode_tile(to, w->f32 + at, ROWS, 1, CHANNELS, how, &lost);
        best = fmin(best, cpu_seconds() - began);
        *sqnr = i8_sqnr(lost);
    }
    return best;
}

static double measure_decode(const quant_weights *w)
{
    float out[I8_GROUP], sum = 0;
    double best = 1e9;
    for (int i = 0; i < TRIES; i++) {
        const double began = cpu_seconds();
        const char *tile = w->int8;
        for (size_t at = 0; at < w->n; at += TILE, tile += i8_bytes(ROWS, 1, CHANNELS))
            for (int slab = 0; slab < i8_slabs(CHANNELS); slab++)
                for (int row = 0; row < ROWS; row++) {
                    i8_decode_group(out, i8_group(tile, ROWS, row, slab),
                                    i8_scales(tile, ROWS, slab)[row]);
                    sum += out[row % I8_GROUP];
                }
        best = fmin(best, cpu_seconds() - began);
    }
    return isnan(sum) ? 0 : best;
}

/* ---- zstd ---- */

static void split_byte_planes(char *dst, const char *src, size_t bytes)
{
    for (size_t i = 0; i < bytes / 2; i++) {
        dst[i] = src[2 * i + 1];
        dst[bytes / 2 + i] = src[2 * i];
    }
}

/* Seconds to decode all frames; *ratio: stored of raw. */
static double measure_zstd(const char *data, size_t bytes, pack_codec how, double *ratio)
{
    static char planes[PACK_FRAME], out[PACK_FRAME];
    static char stored[2 * PACK_FRAME];
    codec *c = codec_open(PACK_FRAME);
    double raw = 0, coded = 0, seconds = 0;
    int bad;

    for (size_t at = 0; at + PACK_FRAME <= bytes; at += PACK_FRAME) {
        const char *from = data + at;
        if (how == PACK_SPLIT) {
            split_byte_planes(planes, from, PACK_FRAME);
            from = planes;
        }
        pack_frame f = { .bytes = PACK_FRAME, .codec = how };
        f.stored_bytes = (uint32_t)ZSTD_compress(stored, sizeof stored, from, PACK_FRAME, 1);
        f.hash = codec_hash(stored, f.stored_bytes);
        double best = 1e9;
        for (int i = 0; i < TRIES; i++) {
            const double began = cpu_seconds();
            if (codec_decode(c, out, stored, &f, 1, &bad) != REFINE_OK)
                abort();
            best = fmin(best, cpu_seconds() - began);
        }
        seconds += best;
        raw += PACK_FRAME;
        coded += f.stored_bytes;
    }
    codec_close(c);
    *ratio = coded / raw;
    return seconds;
}

static void report_distribution(const char *name, double (*draw)(uint64_t *),
                                const quant_weights *w)
{
    const double gb = (double)w->n * 2 / 1e9, gb8 = (double)w->int8_bytes / 1e9;
    double absmax, least, ratio16, ratio8;
    uint64_t seed = 1;

    for (size_t i = 0; i < w->n; i++)
        w->f16[i] = f32_to_f16((float)(0.02 * draw(&seed)));
    f16_decode(w->f32, w->f16, w->n);
    const double quick = measure_encode(w, I8_ABSMAX, &absmax),
                 slow = measure_encode(w, I8_MIN, &least);
    const double wide = measure_decode(w);
    const double z16 = measure_zstd((const char *)w->f16, w->n * 2, PACK_SPLIT, &ratio16);
    const double z8 = measure_zstd(w->int8, w->int8_bytes, PACK_ZSTD, &ratio8);
    printf("%-10s absmax %5.2f dB %5.2f GB/s | least %5.2f dB %5.2f GB/s | decode %5.2f GB/s\n",
           name, absmax, gb / quick, least, gb / slow, gb / wide);
    printf("%-10s zstd f16 %4.1f %% of raw, %.2f GB/s | int8 %4.1f %% of raw, %.2f GB/s of int8\n",
           "", 100 * ratio16, gb / z16, 100 * ratio8, gb8 / z8);
}

int main(int argc, char **argv)
{
    const size_t mega = argc > 1 ? strtoul(argv[1], NULL, 10) : 16;
    quant_weights w = { .n = (mega * 1000000 / TILE + 1) * TILE };
    w.int8_bytes = w.n / TILE * i8_bytes(ROWS, 1, CHANNELS);
    w.f16 = malloc(w.n * sizeof *w.f16);
    w.f32 = malloc(w.n * sizeof *w.f32);
    w.int8 = malloc(w.int8_bytes);
    if (!w.f16 || !w.f32 || !w.int8)
        return 1;
    report_distribution("gaussian", draw_gaussian_weight, &w);
    report_distribution("student-t5", draw_student5_weight, &w);
    report_distribution("laplace", draw_laplace_weight, &w);
    free(w.f16);
    free(w.f32);
    free(w.int8);
    return 0;
}
