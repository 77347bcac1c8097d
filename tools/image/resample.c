/* tools/image/resample.c -- Lanczos resampling, byte for byte Pillow's.
 *
 *     L(v) = sinc(v) sinc(v / 3)  for -3 <= v < 3                one axis at a time:
 *     scale = in / out, s = max(scale, 1), c = (i + 1/2) scale
 *     out[i] = sum of L((x + 1/2 - c) / s) in[x], weights normalised to sum to 1
 *
 * Weights become 22-bit fixed point, so a pass is exact integer arithmetic; across comes
 * before down, with 8 bits between.  A pass along an unchanged side is left out.
 *
 * Reference: Pillow src/libImaging/Resample.c.
 */
#include "tools/image/resample.h"

#include "engine/base/mem.h"
#include "engine/base/num.h"
#include "engine/base/try.h"

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

enum { CHANNELS = 3, PRECISION = 32 - 8 - 2 };

static const double PI = 3.14159265358979323846, SUPPORT = 3.0;

/* What each output position takes: `count` inputs from `first`, weighted. */
typedef struct taps {
    int width; /* weights kept per position */
    int *first, *count;
    int32_t *weight; /* [out][width] */
} taps;

static double normalised_sinc(double v) { return v == 0.0 ? 1.0 : sin(v * PI) / (v * PI); }

static double lanczos_kernel(double v)
{
    return v >= -SUPPORT && v < SUPPORT ? normalised_sinc(v) * normalised_sinc(v / 3.0) : 0.0;
}

static void taps_close(taps *t)
{
    mem_free(t->weight);
    mem_free(t->count);
    mem_free(t->first);
}

static int32_t fixed_point(double w)
{
    return (int32_t)(w * (1 << PRECISION) + (w < 0 ? -0.5 : 0.5));
}

/* Fills position i of `t`; w[0..width) is room for its weights. */
static void taps_fill(taps *t, int i, int in, double scale, double *w)
{
    const double stretch = scale < 1.0 ? 1.0 : scale, support = SUPPORT * stretch;
    const double centre = (i + 0.5) * scale, inverse = 1.0 / stretch;
    int first = (int)(centre - support + 0.5), last = (int)(centre + support + 0.5);
    double sum = 0;

    first = first < 0 ? 0 : first;
    last = last > in ? in : last;
    for (int x = first; x < last; x++) {
        w[x - first] = lanczos_kernel((x - centre + 0.5) * inverse);
        sum += w[x - first];
    }
    for (int k = 0; k < last - first; k++)
        t->weight[(size_t)i * (size_t)t->width + (size_t)k] = fixed_point(sum != 0.0 ? w[k] / sum
                                                                                     : w[k]);
    t->first[i] = first;
    t->count[i] = last - first;
}

static refine_status taps_open(taps *t, int in, int out, refine_error *err)
{
    const double scale = (double)in / out;
    t->width = (int)ceil(SUPPORT * (scale < 1.0 ? 1.0 : scale)) * 2 + 1;
    t->first = mem_calloc((size_t)out, sizeof *t->first);
    t->count = mem_calloc((size_t)out, sizeof *t->count);
    t->weight = mem_calloc((size_t)out * (size_t)t->width, sizeof *t->weight);
    double *w = mem_calloc((size_t)t->width, sizeof *w);
    const bool ok = t->first && t->count && t->weight && w;
    for (int i = 0; ok && i < out; i++)
        taps_fill(t, i, in, scale, w);
    mem_free(w);
    return ok ? REFINE_OK : refine_fail(err, REFINE_ENOMEM, "resize: out of memory");
}

/* Sum over the taps of position i of one channel; `step` bytes from tap to tap. */
static uint8_t sum_taps(const taps *t, int i, const uint8_t *src, size_t step)
{
    const int32_t *weight = t->weight + (size_t)i * (size_t)t->width;
    int32_t sum = 1 << (PRECISION - 1);

    src += (size_t)t->first[i] * step;
    for (int k = 0; k < t->count[i]; k++)
        sum += weight[k] * src[(size_t)k * step];
    sum >>= PRECISION;
    return (uint8_t)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
}

static void pass_across(uint8_t *dst, int dw, const uint8_t *src, int sw, int rows, const taps *t)
{
    for (int y = 0; y < rows; y++) {
        const uint8_t *line = src + (size_t)y * (size_t)sw * CHANNELS;
        for (int x = 0; x < dw; x++)
            for (int c = 0; c < CHANNELS; c++)
                *dst++ = sum_taps(t, x, line + c, CHANNELS);
    }
}

static void pass_down(uint8_t *dst, int dh, const uint8_t *src, int w, const taps *t)
{
    const size_t row = (size_t)w * CHANNELS;
    for (int y = 0; y < dh; y++)
        for (size_t x = 0; x < row; x++)
            *dst++ = sum_taps(t, y, src + x, row);
}

refine_status resample_lanczos(uint8_t *dst, int dw, int dh, const uint8_t *src, int sw, int sh,
                               refine_error *err)
{
    if (dw < 1 || dh < 1 || sw < 1 || sh < 1 || dw > RESAMPLE_MAX_SIDE || dh > RESAMPLE_MAX_SIDE ||
        sw > RESAMPLE_MAX_SIDE || sh > RESAMPLE_MAX_SIDE)
        return refine_fail(err, REFINE_EINVAL,
                           "resize: %dx%d to %dx%d: sides must be within 1 and %d", sw, sh, dw, dh,
                           RESAMPLE_MAX_SIDE);
    if (dw == sw && dh == sh) {
        memcpy(dst, src, (size_t)dw * (size_t)dh * CHANNELS);
        return REFINE_OK;
    }

    taps across = { 0 }, down = { 0 };
    uint8_t *between = NULL;
    refine_status st = REFINE_OK;
    if (dw != sw)
        TRY_OR(done, taps_open(&across, sw, dw, err));
    if (dh != sh)
        TRY_OR(done, taps_open(&down, sh, dh, err));
    if (dw != sw && dh != sh) {
        between = mem_alloc((size_t)dw * (size_t)sh * CHANNELS);
        if (!between) {
            st = refine_fail(err, REFINE_ENOMEM, "resize: out of memory");
            goto done;
        }
    }
    if (dw != sw)
        pass_across(between ? between : dst, dw, src, sw, sh, &across);
    if (dh != sh)
        pass_down(dst, dh, between ? between : src, dw, &down);
done:
    mem_free(between);
    taps_close(&down);
    taps_close(&across);
    return st;
}
