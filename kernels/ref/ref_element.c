/* kernels/ref/ref_element.c -- one element, one dot product, one epilogue. */
#include "kernels/ref/ref.h"

#include "quant/f16.h"
#include "quant/int8.h"

#include <math.h>

static float load_at(tensor t, size_t i)
{
    switch (t.type) {
    case DT_F16: return f16_to_f32(((const uint16_t *)t.data)[i]);
    case DT_BF16: return bf16_to_f32(((const uint16_t *)t.data)[i]);
    default: return ((const float *)t.data)[i];
    }
}

float ref_load(tensor t, size_t p, int c)
{
    const float v = load_at(t, p * (size_t)t.stride + (size_t)c);
    return t.exp2 == 0 ? v : ldexpf(v, t.exp2);
}

void ref_store(tensor t, size_t p, int c, float v)
{
    const size_t i = p * (size_t)t.stride + (size_t)c;
    v = ldexpf(v, -t.exp2);
    switch (t.type) {
    case DT_F16: ((uint16_t *)t.data)[i] = f32_to_f16(v); break;
    case DT_BF16: ((uint16_t *)t.data)[i] = f32_to_bf16(v); break;
    default: ((float *)t.data)[i] = v; break;
    }
}

/* Row r of a matrix of int8 groups, by the definition of quant/int8.h. */
static void int8_row(float *out, tensor w, int r)
{
    const int tile = tile_rows(w.h, w.w), taps = w.h * w.w, first = r / tile * tile;
    const int rows = w.n - first < tile ? w.n - first : tile;
    const char *at = (const char *)w.data + i8_bytes(first, taps, w.c);

    for (int t = 0; t < taps; t++)
        for (int c = 0; c < w.c; c++) {
            const int slab = t * i8_slabs(w.c) + c / I8_GROUP;
            *out++ = (float)i8_group(at, rows, r - first, slab)[c % I8_GROUP] *
                     f16_to_f32(i8_scales(at, rows, slab)[r - first]);
        }
}

void ref_row(float *out, tensor t, size_t r, size_t n)
{
    if (t.type == DT_I8G64) {
        int8_row(out, t, (int)r);
        return;
    }
    const float scale = ldexpf(1.0f, t.exp2);
    const size_t at = r * n / (size_t)t.c * (size_t)t.stride;
    for (size_t i = 0; i < n; i++)
        out[i] = load_at(t, at + i) * scale;
}

float ref_act(act a, float v)
{
    const double sqrt_half = 0.70710678118654752440;
    switch (a) {
    case ACT_SILU: return (float)(v / (1.0 + exp(-(double)v)));
    case ACT_QUICK_GELU: return (float)(v / (1.0 + exp(-1.702 * (double)v)));
    case ACT_GELU: return (float)(v * 0.5 * (1.0 + erf(v * sqrt_half)));
    default: return v;
    }
}

/* Eight sums side by side, which a compiler may keep in registers. */
double ref_dot(const float *a, const float *b, size_t n)
{
    double sum[8] = { 0 };
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (size_t j = 0; j < 8; j++)
            sum[j] += (double)a[i + j] * (double)b[i + j];
    for (; i < n; i++)
        sum[0] += (double)a[i] * (double)b[i];
    return ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
}

void ref_finish(const epilogue *e, tensor y, size_t n, size_t p, int c, double value, double gate)
{
    const bool pairs = e->act == ACT_GEGLU;
    if (tensor_present(e->bias)) {
        value += (double)ref_load(e->bias, 0, pairs ? 2 * c : c);
        gate += pairs ? (double)ref_load(e->bias, 0, 2 * c + 1) : 0.0;
    }
    if (tensor_present(e->per_image))
        value += (double)ref_load(e->per_image, n, c);

    float v = pairs ? (float)value * ref_act(ACT_GELU, (float)gate) : ref_act(e->act, (float)value);
    if (tensor_present(e->residual))
        v += ref_load(e->residual, p, c);
    ref_store(y, p, c, v);
}

float *ref_workspace(dev *d, size_t bytes)
{
    if (bytes <= d->workspace_bytes)
        return d->workspace;
    dev_fail(d, REFINE_EBUDGET, "ref: the workspace is smaller than an operator needs");
    return NULL;
}
