/* tests/quant/test_int8.c -- int8 in groups of 64: what is stored, and what is lost. */
#include "quant/int8.h"

#include "quant/f16.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

enum { ROWS = 133, CHANNELS = 200, TAPS = 9, WEIGHTS = 64 * 4096 };

static float weight[WEIGHTS], decoded[WEIGHTS];
static uint8_t tile[2 * WEIGHTS], other[2 * WEIGHTS];

/* ---- weights ---- */

static double uniform_variate(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return ((double)(*state >> 33) + 0.5) / 0x1p31;
}

static double gaussian_variate(uint64_t *s)
{
    const double radius = sqrt(-2 * log(uniform_variate(s)));
    return radius * cos(6.283185307179586 * uniform_variate(s));
}

static double laplace_variate(uint64_t *s)
{
    const double u = uniform_variate(s) - 0.5;
    return -copysign(log(1 - 2 * fabs(u)), u);
}

static double student5_variate(uint64_t *s)
{
    double squares = 0;
    for (int i = 0; i < 5; i++) {
        const double g = gaussian_variate(s);
        squares += g * g;
    }
    return gaussian_variate(s) / sqrt(squares / 5);
}

/* As they come from a checkpoint: rounded to fp16. */
static void fill_int8_weights(double (*draw)(uint64_t *), size_t n, double scale, uint64_t seed)
{
    for (size_t i = 0; i < n; i++)
        weight[i] = f16_to_f32(f32_to_f16((float)(scale * draw(&seed))));
}

/* ---- decoding by the book ---- */

static void decode_tile(const void *t, int rows, int taps, int channels)
{
    const int slabs = i8_slabs(channels);
    for (int row = 0; row < rows; row++)
        for (int tap = 0; tap < taps; tap++)
            for (int c = 0; c < channels; c++) {
                const int slab = tap * slabs + c / I8_GROUP;
                const float scale = f16_to_f32(i8_scales(t, rows, slab)[row]);
                const size_t at = ((size_t)row * (size_t)taps + (size_t)tap) * (size_t)channels +
                                  (size_t)c;
                decoded[at] = (float)i8_group(t, rows, row, slab)[c % I8_GROUP] * scale;
            }
}

/* Of n weights beginning at `first`. */
static double squared_error(size_t first, size_t n)
{
    double sum = 0;
    for (size_t i = first; i < first + n; i++)
        sum += ((double)weight[i] - (double)decoded[i]) * ((double)weight[i] - (double)decoded[i]);
    return sum;
}

/* ---- the shape ---- */

Test(quant_int8, a_slab_has_66_bytes_a_row_of_eight)
{
    cr_expect(i8_rows(1) == 8 && i8_rows(8) == 8 && i8_rows(133) == 136);
    cr_expect(i8_slabs(1) == 1 && i8_slabs(64) == 1 && i8_slabs(65) == 2);
    cr_expect(i8_slab_bytes(128) == 128 * 66 && i8_slab_bytes(5) == 8 * 66);
    cr_expect(i8_bytes(128, 9, 384) == (size_t)128 * 66 * 9 * 6);
    /* whole tiles, then a part of one */
    cr_expect(i8_bytes(133, 1, 768) == i8_bytes(128, 1, 768) + i8_bytes(5, 1, 768));
}

Test(quant_int8, what_it_can_represent_comes_back)
{
    static const float scale[] = { 0x1p-24f, 0x1.8p-16f, 0.0123f, 1, 500 };
    uint64_t seed = 1;
    for (int k = 0; k < 5; k++) {
        const float s = f16_to_f32(f32_to_f16(scale[k]));
        for (int i = 0; i < I8_GROUP; i++)
            weight[i] = s * (float)(int)(uniform_variate(&seed) * 255 - 127);
        weight[17] = s * -127;
        for (int how = I8_ABSMAX; how <= I8_MIN; how++) {
            i8_error lost = { 0 };
            i8_encode_tile(tile, weight, 1, 1, I8_GROUP, (i8_search)how, &lost);
            decode_tile(tile, 1, 1, I8_GROUP);
            cr_expect(memcmp(weight, decoded, I8_GROUP * sizeof *weight) == 0, "scale %g",
                      (double)s);
            cr_expect(lost.noise == 0 && lost.signal > 0 && isinf(i8_sqnr(lost)));
        }
    }
}

Test(quant_int8, layout_is_slab_by_slab_with_zeros_in_the_gaps)
{
    const int slabs = TAPS * i8_slabs(CHANNELS), rows = 5;
    const size_t bytes = i8_bytes(rows, TAPS, CHANNELS);
    i8_error lost = { 0 };

    fill_int8_weights(gaussian_variate, (size_t)rows * TAPS * CHANNELS, 0.02, 3);
    memset(tile, 0xa5, sizeof tile);
    i8_encode_tile(tile, weight, rows, TAPS, CHANNELS, I8_ABSMAX, &lost);
    for (size_t i = bytes; i < bytes + 64; i++)
        cr_assert_eq(tile[i], 0xa5, "written behind the tile");
    for (int slab = 0; slab < slabs; slab++) {
        const uint8_t *at = tile + (size_t)slab * 8 * 66;
        for (int row = 0; row < 8; row++) {
            const int first = slab % 4 * 64, n = CHANNELS - first < 64 ? CHANNELS - first : 64;
            uint16_t scale;
            memcpy(&scale, at + (size_t)8 * 64 + (size_t)row * 2, sizeof scale);
            cr_assert((scale == 0) == (row >= rows));
            for (int c = 0; c < 64; c++) {
                const int8_t q = (int8_t)at[row * 64 + c];
                if (row >= rows || c >= n) {
                    cr_assert_eq(q, 0);
                    continue;
                }
                const float w = weight[(row * TAPS + slab / 4) * CHANNELS + first + c];
                const float s = f16_to_f32(scale);
                cr_assert_leq(fabsf(w - (float)q * s), s * 0.5001f + fabsf(w) * 0x1p-10f);
            }
        }
    }
}

Test(quant_int8, groups_of_zeros_have_scale_zero)
{
    i8_error lost = { 0 };
    memset(weight, 0, sizeof weight);
    weight[64] = 1;
    for (int how = I8_ABSMAX; how <= I8_MIN; how++) {
        memset(tile, 0xa5, sizeof tile);
        i8_encode_tile(tile, weight, 1, 1, 192, (i8_search)how, &lost);
        cr_expect(i8_scales(tile, 1, 0)[0] == 0 && i8_scales(tile, 1, 2)[0] == 0);
        cr_expect(i8_scales(tile, 1, 1)[0] == f32_to_f16(1.0f / 127) || how == I8_MIN);
        decode_tile(tile, 1, 1, 192);
        cr_expect_float_eq(decoded[64], 1, 0x1p-11f);
        decoded[64] = 0;
        for (int i = 0; i < 192; i++)
            cr_expect_eq(decoded[i], 0);
    }
}

/* The ends of fp16: scales that are subnormal or would be zero, and the largest weights. */
Test(quant_int8, ends_of_the_range)
{
    static const float most[] = { 0x1p-24f, 0x1p-20f, 0x1p-14f, 65504, 65504, 3 };
    uint64_t seed = 9;
    for (int k = 0; k < 6; k++)
        for (int how = I8_ABSMAX; how <= I8_MIN; how++) {
            i8_error lost = { 0 };
            for (int i = 0; i < I8_GROUP; i++)
                weight[i] = f16_to_f32(
                    f32_to_f16(most[k] * (float)(2 * uniform_variate(&seed) - 1)));
            weight[5] = -most[k];
            i8_encode_tile(tile, weight, 1, 1, I8_GROUP, (i8_search)how, &lost);
            const float scale = f16_to_f32(i8_scales(tile, 1, 0)[0]);
            cr_assert(scale > 0 && isfinite(scale));
            decode_tile(tile, 1, 1, I8_GROUP);
            for (int i = 0; i < I8_GROUP; i++)
                cr_assert_leq(fabsf(weight[i] - decoded[i]), scale * 0.51f + most[k] * 0x1p-5f);
            cr_assert_geq(i8_sqnr(lost), most[k] < 1e-3f ? 6 : 40, "most %g", (double)most[k]);
        }
    /* weights that are themselves multiples of the smallest scale are kept */
    weight[0] = 0x1p-24f;
    i8_error lost = { 0 };
    i8_encode_tile(tile, weight, 1, 1, 1, I8_MIN, &lost);
    decode_tile(tile, 1, 1, 1);
    cr_expect_eq(decoded[0], 0x1p-24f);
    /* and what no scale can hold is lost without harm */
    weight[0] = 0x1p-30f;
    i8_encode_tile(tile, weight, 1, 1, 1, I8_MIN, &lost);
    decode_tile(tile, 1, 1, 1);
    cr_expect_eq(decoded[0], 0);
}

/* ---- what is lost ---- */

static double measure_tile_sqnr(double (*draw)(uint64_t *), i8_search how)
{
    i8_error lost = { 0 };
    fill_int8_weights(draw, WEIGHTS, 0.02, 5);
    i8_encode_tile(tile, weight, 64, 1, WEIGHTS / 64, how, &lost);
    decode_tile(tile, 64, 1, WEIGHTS / 64);
    const double mine = 10 * log10(lost.signal / squared_error(0, WEIGHTS));
    cr_expect_float_eq(i8_sqnr(lost), mine, 1e-3, "what it says it lost");
    return mine;
}

/* 12 * 127^2 over the mean square of the largest of 64 normal numbers is 44.5 dB. */
Test(quant_int8, signal_to_noise_is_what_theory_says)
{
    const double g = measure_tile_sqnr(gaussian_variate, I8_ABSMAX),
                 g_least = measure_tile_sqnr(gaussian_variate, I8_MIN);
    const double t = measure_tile_sqnr(student5_variate, I8_ABSMAX),
                 t_least = measure_tile_sqnr(student5_variate, I8_MIN);
    const double l = measure_tile_sqnr(laplace_variate, I8_ABSMAX),
                 l_least = measure_tile_sqnr(laplace_variate, I8_MIN);
    cr_expect_float_eq(g, 44.5, 0.3);
    cr_expect_float_eq(t, 41.9, 0.7);
    cr_expect_float_eq(l, 42.1, 0.5);
    cr_expect(g_least > g + 0.4 && t_least > t + 0.4 && l_least > l + 0.4, "%.2f %.2f %.2f",
              g_least - g, t_least - t, l_least - l);
}

Test(quant_int8, least_never_loses_more_than_absmax)
{
    static double (*const draw[])(uint64_t *) = { gaussian_variate, student5_variate,
                                                  laplace_variate, uniform_variate };
    static double absmax[WEIGHTS / I8_GROUP];
    const int rows = 64, channels = WEIGHTS / 64;
    for (int d = 0; d < 4; d++) {
        i8_error lost = { 0 };
        /* the last so small that scales are subnormal */
        fill_int8_weights(draw[d], WEIGHTS, d == 3 ? 0x1p-17 : 0.1, (uint64_t)d);
        i8_encode_tile(tile, weight, rows, 1, channels, I8_ABSMAX, &lost);
        decode_tile(tile, rows, 1, channels);
        for (size_t g = 0; g < WEIGHTS / I8_GROUP; g++)
            absmax[g] = squared_error(g * I8_GROUP, I8_GROUP);
        i8_encode_tile(tile, weight, rows, 1, channels, I8_MIN, &lost);
        decode_tile(tile, rows, 1, channels);
        for (size_t g = 0; g < WEIGHTS / I8_GROUP; g++)
            cr_assert_leq(squared_error(g * I8_GROUP, I8_GROUP), absmax[g] * (1 + 1e-5),
                          "distribution %d, group %zu", d, g);
    }
}

/* ---- the CPU's instructions ---- */

Test(quant_int8, encoding_gives_the_bits_of_plain_c)
{
    static double (*const draw[])(uint64_t *) = { gaussian_variate, student5_variate,
                                                  laplace_variate };
    for (int d = 0; d < 3; d++)
        for (int exponent = -24; exponent <= 10; exponent++) {
            i8_error a = { 0 }, b = { 0 };
            const i8_search how = exponent % 2 ? I8_ABSMAX : I8_MIN;
            fill_int8_weights(draw[d], 33 * CHANNELS, ldexp(1, exponent), (uint64_t)exponent);
            i8_encode_tile(tile, weight, 11, 3, CHANNELS, how, &a);
            i8_encode_tile_plain(other, weight, 11, 3, CHANNELS, how, &b);
            cr_assert(memcmp(tile, other, i8_bytes(11, 3, CHANNELS)) == 0, "2^%d", exponent);
            cr_assert(a.signal == b.signal && a.noise == b.noise, "2^%d", exponent);
        }
}

Test(quant_int8, decoding_is_exact_for_every_scale)
{
    int8_t q[I8_GROUP];
    float v[I8_GROUP];
    for (int scale = 0; scale < 0x7c00; scale++) {
        for (int i = 0; i < I8_GROUP; i++)
            q[i] = (int8_t)((scale * 7 + i * 4) % 255 - 127);
        i8_decode_group(v, q, (uint16_t)scale);
        for (int i = 0; i < I8_GROUP; i++)
            cr_assert((double)v[i] == q[i] * (double)f16_to_f32((uint16_t)scale));
    }
}
