/* kernels/cpu/operand.c -- fetch, normalise, convert: some channels at a time. */
#include "kernels/cpu/operand.h"

#include "kernels/cpu/rows.h"

#include <assert.h>
#include <string.h>

enum { PART = 512 }; /* channels at a time */

static_assert(PART % I8_GROUP == 0, "groups do not straddle parts");

static int padded_channels(int channels, int to) { return (channels + to - 1) / to * to; }

const gemm *operand_gemm(const cpu_dev *c, dtype input)
{
    return input == DT_BF16 ? c->bf16 : c->f32;
}

gemm_operand operand_of(const cpu_dev *c, const matrix_input *in)
{
    const gemm *g = operand_gemm(c, in->a.type);
    const int channels = in->a.c + in->b.c;
    if (c->int8_math && in->quantised && in->a.type == c->compute) {
        const int k = padded_channels(channels, I8_GROUP);
        return (gemm_operand){ .int8_math = true,
                               .k = k,
                               .bytes = int8_pixel_bytes(c->int8, k / I8_GROUP) };
    }
    const int k = padded_channels(channels, GEMM_ALIGN);
    return (gemm_operand){ .gemm = g, .k = k, .bytes = (size_t)k * dtype_bytes(g->element) };
}

bool operand_is(gemm_operand o, tensor t)
{
    return !o.int8_math && gemm_takes(o.gemm, t.type) && t.exp2 == 0 && t.stride == t.c &&
           gemm_padded(t.c) == t.c;
}

/* Channels [c0, c0 + n) of [a | b]. */
static void load_input_channels(const cpu_dev *c, float *v, const matrix_input *in, size_t pixel,
                                int c0, int n)
{
    const int left = in->a.c - c0;
    const int from_a = left < 0 ? 0 : left < n ? left : n;
    if (from_a > 0)
        row_load(c->v, v, in->a, pixel, c0, from_a);
    if (from_a < n)
        row_load(c->v, v + from_a, in->b, pixel, c0 + from_a - in->a.c, n - from_a);
}

static void normalise_channels(const cpu_dev *c, float *v, const matrix_input *in, size_t image,
                               int c0, int n)
{
    if (tensor_present(in->affine)) {
        const float *slope = (const float *)in->affine.data + 2 * image * (size_t)in->affine.c +
                             (size_t)c0;
        c->v->affine(v, slope, slope + in->affine.c, (size_t)n);
    }
    if (in->silu)
        c->v->silu(v, (size_t)n);
}

static void quantise_channels(const cpu_dev *c, gemm_operand o, char *pixel, int c0, float *v,
                              int n)
{
    const int8_variant *i8 = c->int8;
    const size_t group_bytes = (size_t)(I8_GROUP * i8->element);
    float *scale = (float *)(void *)(pixel + (size_t)(o.k / I8_GROUP) * group_bytes);
    const int end = padded_channels(n, I8_GROUP);

    memset(v + n, 0, (size_t)(end - n) * sizeof *v);
    for (int k = 0; k < end; k += I8_GROUP) {
        const int g = (c0 + k) / I8_GROUP;
        scale[g] = i8->quantise(pixel + (size_t)g * group_bytes, v + k);
    }
}

/* Nothing has to be done to it. */
static bool is_plain(gemm_operand o, const matrix_input *in)
{
    return gemm_takes(o.gemm, in->a.type) && in->a.exp2 == 0 && !tensor_present(in->b) &&
           !tensor_present(in->affine) && !in->silu;
}

static void fill_floats(const cpu_dev *c, gemm_operand o, char *to, const matrix_input *in,
                        size_t image, size_t pixel)
{
    const size_t size = dtype_bytes(o.gemm->element);
    const int channels = in->a.c + in->b.c;
    float wide[PART];

    if (is_plain(o, in)) {
        memcpy(to, element_address(in->a, pixel, 0), (size_t)channels * size);
    } else {
        for (int k = 0; k < channels; k += PART) {
            const int n = channels - k < PART ? channels - k : PART;
            char *part = to + (size_t)k * size;
            float *v = o.gemm->element == DT_F32 ? (float *)(void *)part : wide;
            load_input_channels(c, v, in, pixel, k, n);
            normalise_channels(c, v, in, image, k, n);
            gemm_encode(o.gemm, part, v, (size_t)n);
        }
    }
    memset(to + (size_t)channels * size, 0, (size_t)(o.k - channels) * size);
}

static void fill_ints(const cpu_dev *c, gemm_operand o, char *to, const matrix_input *in,
                      size_t image, size_t pixel)
{
    const int channels = in->a.c + in->b.c;
    float wide[PART];

    for (int k = 0; k < channels; k += PART) {
        const int n = channels - k < PART ? channels - k : PART;
        load_input_channels(c, wide, in, pixel, k, n);
        normalise_channels(c, wide, in, image, k, n);
        quantise_channels(c, o, to, k, wide, n);
    }
}

void operand_fill(const cpu_dev *c, gemm_operand o, char *to, const matrix_input *in, size_t image,
                  size_t pixel)
{
    if (o.int8_math)
        fill_ints(c, o, to, in, image, pixel);
    else
        fill_floats(c, o, to, in, image, pixel);
}
