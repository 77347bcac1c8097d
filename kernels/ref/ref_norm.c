/* kernels/ref/ref_norm.c -- GroupNorm and LayerNorm, statistics in two passes of doubles. */
#include "kernels/ref/ref.h"

#include <math.h>

static float pair_load(tensor a, tensor b, size_t p, int c)
{
    return c < a.c ? ref_load(a, p, c) : ref_load(b, p, c - a.c);
}

/* Mean and variance over channels [c0, c1) of pixels [p0, p1) of [a | b]. */
static void moments(tensor a, tensor b, size_t p0, size_t p1, int c0, int c1, double *mean,
                    double *variance)
{
    const double count = (double)(p1 - p0) * (double)(c1 - c0);
    double sum = 0, squares = 0;
    for (size_t p = p0; p < p1; p++)
        for (int c = c0; c < c1; c++)
            sum += (double)pair_load(a, b, p, c);
    *mean = sum / count;
    for (size_t p = p0; p < p1; p++)
        for (int c = c0; c < c1; c++) {
            const double v = (double)pair_load(a, b, p, c) - *mean;
            squares += v * v;
        }
    *variance = squares / count;
}

void ref_groupnorm(dev *d, tensor affine, tensor a, tensor b, tensor gain, tensor bias, int groups,
                   float eps)
{
    (void)d;
    const size_t pixels = tensor_pixels(a);
    const int size = (a.c + b.c) / groups;
    for (size_t n = 0; n < (size_t)a.n; n++)
        for (int g = 0; g < groups; g++) {
            double mean, variance;
            moments(a, b, n * pixels, (n + 1) * pixels, g * size, (g + 1) * size, &mean, &variance);
            for (int c = g * size; c < (g + 1) * size; c++) {
                const double slope = (double)ref_load(gain, 0, c) / sqrt(variance + (double)eps);
                ref_store(affine, 2 * n, c, (float)slope);
                ref_store(affine, 2 * n + 1, c,
                          (float)((double)ref_load(bias, 0, c) - mean * slope));
            }
        }
}

void ref_apply_norm(dev *d, tensor y, tensor a, tensor b, tensor affine, act f)
{
    (void)d;
    const size_t pixels = tensor_pixels(y);
    for (size_t p = 0; p < (size_t)y.n * pixels; p++)
        for (int c = 0; c < y.c; c++) {
            const size_t row = 2 * (p / pixels);
            const float v = pair_load(a, b, p, c) * ref_load(affine, row, c) +
                            ref_load(affine, row + 1, c);
            ref_store(y, p, c, ref_act(f, v));
        }
}

void ref_layernorm(dev *d, tensor y, tensor x, tensor gain, tensor bias, float eps)
{
    (void)d;
    const tensor none = { 0 };
    for (size_t p = 0; p < (size_t)x.n * tensor_pixels(x); p++) {
        double mean, variance;
        moments(x, none, p, p + 1, 0, x.c, &mean, &variance);
        const double scale = 1.0 / sqrt(variance + (double)eps);
        for (int c = 0; c < x.c; c++) {
            const double v = ((double)ref_load(x, p, c) - mean) * scale;
            ref_store(y, p, c,
                      (float)(v * (double)ref_load(gain, 0, c) + (double)ref_load(bias, 0, c)));
        }
    }
}

void ref_silu(dev *d, tensor y, tensor x)
{
    (void)d;
    for (size_t p = 0; p < (size_t)x.n * tensor_pixels(x); p++)
        for (int c = 0; c < x.c; c++)
            ref_store(y, p, c, ref_act(ACT_SILU, ref_load(x, p, c)));
}

void ref_convert(dev *d, tensor y, tensor x)
{
    (void)d;
    for (size_t p = 0; p < (size_t)x.n * tensor_pixels(x); p++)
        for (int c = 0; c < x.c; c++)
            ref_store(y, p, c, ref_load(x, p, c));
}
