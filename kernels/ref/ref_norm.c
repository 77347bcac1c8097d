/* kernels/ref/ref_norm.c -- GroupNorm and LayerNorm, statistics in two passes of doubles. */
#include "kernels/ref/ref.h"

#include <math.h>

static float pair_load(tensor a, tensor b, size_t p, int c)
{
    return c < a.c ? ref_load(a, p, c) : ref_load(b, p, c - a.c);
}

/* What a unit of rows leaves behind for each group: enough to join units without loss, the
 * mean of its own and the squares about that (Chan, Golub, LeVeque 1979). */
typedef struct unit_sums {
    double mean, squares;
} unit_sums;

/* Over channels [c0, c1) of pixels [p0, p1) of [a | b]. */
static unit_sums compute_unit_sums(tensor a, tensor b, size_t p0, size_t p1, int c0, int c1)
{
    const double count = (double)(p1 - p0) * (double)(c1 - c0);
    unit_sums s = { 0, 0 };
    for (size_t p = p0; p < p1; p++)
        for (int c = c0; c < c1; c++)
            s.mean += (double)pair_load(a, b, p, c);
    s.mean /= count;
    for (size_t p = p0; p < p1; p++)
        for (int c = c0; c < c1; c++) {
            const double v = (double)pair_load(a, b, p, c) - s.mean;
            s.squares += v * v;
        }
    return s;
}

static unit_sums *unit_sums_at(tensor sums, int n, int unit, int group)
{
    unit_sums *all = sums.data;
    return &all[((size_t)n * (size_t)sums.h + (size_t)unit) * (size_t)sums.w + (size_t)group];
}

void ref_groupnorm_sums(dev *d, tensor sums, tensor a, tensor b, int row0, int rows)
{
    (void)d;
    const int size = (a.c + b.c) / sums.w;
    for (int n = 0; n < a.n; n++)
        for (int row = row0; row < row0 + rows; row += BAND_UNIT) {
            const int end = row + BAND_UNIT < row0 + rows ? row + BAND_UNIT : row0 + rows;
            const size_t w = (size_t)a.w, image = (size_t)n * tensor_pixels(a);
            for (int g = 0; g < sums.w; g++)
                *unit_sums_at(sums, n, row / BAND_UNIT, g) = compute_unit_sums(
                    a, b, image + (size_t)row * w, image + (size_t)end * w, g * size,
                    (g + 1) * size);
        }
}

/* Mean and variance of a group.  `unit` numbers stand behind every unit but perhaps the last. */
static void combine_unit_sums(tensor sums, int n, int g, double unit, double count, double *mean,
                              double *variance)
{
    double have = 0, squares = 0;
    *mean = 0;
    for (int u = 0; u < sums.h; u++) {
        const unit_sums s = *unit_sums_at(sums, n, u, g);
        const double more = fmin(unit, count - have), far = s.mean - *mean;
        squares += s.squares + far * far * have * more / (have + more);
        *mean += far * more / (have + more);
        have += more;
    }
    *variance = squares / count;
}

void ref_groupnorm(dev *d, tensor affine, tensor sums, int h, int w, tensor gain, tensor bias,
                   float eps)
{
    (void)d;
    const int size = affine.c / sums.w;
    const double row = (double)w * size;
    for (int n = 0; n < affine.n; n++)
        for (int g = 0; g < sums.w; g++) {
            double mean, variance;
            combine_unit_sums(sums, n, g, row * BAND_UNIT, row * h, &mean, &variance);
            for (int c = g * size; c < (g + 1) * size; c++) {
                const double slope = (double)ref_load(gain, 0, c) / sqrt(variance + (double)eps);
                ref_store(affine, 2 * (size_t)n, c, (float)slope);
                ref_store(affine, 2 * (size_t)n + 1, c,
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
        const unit_sums s = compute_unit_sums(x, none, p, p + 1, 0, x.c);
        const double scale = 1.0 / sqrt(s.squares / x.c + (double)eps);
        for (int c = 0; c < x.c; c++) {
            const double v = ((double)ref_load(x, p, c) - s.mean) * scale;
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
