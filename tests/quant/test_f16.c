/* tests/quant/test_f16.c -- the 16-bit formats against their definitions. */
#include "quant/f16.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

enum { PATTERNS = 65536 };

/* What the bits of an fp16 number mean. */
static double f16_meaning(uint16_t h)
{
    const int exponent = h >> 10 & 31, mantissa = h & 1023;
    const double sign = h & 0x8000 ? -1 : 1;
    if (exponent == 31)
        return mantissa ? NAN : sign * INFINITY;
    if (exponent == 0)
        return sign * ldexp(mantissa, -24);
    return sign * ldexp(1024 + mantissa, exponent - 25);
}

static double bf16_meaning(uint16_t h)
{
    const int exponent = h >> 7 & 255, mantissa = h & 127;
    const double sign = h & 0x8000 ? -1 : 1;
    if (exponent == 255)
        return mantissa ? NAN : sign * INFINITY;
    if (exponent == 0)
        return sign * ldexp(mantissa, -133);
    return sign * ldexp(128 + mantissa, exponent - 134);
}

static bool is_same_double(double a, double b)
{
    return (isnan(a) && isnan(b)) || (a == b && signbit(a) == signbit(b));
}

Test(quant_f16, decodes_every_fp16_to_what_it_means)
{
    for (int i = 0; i < PATTERNS; i++)
        cr_assert(is_same_double((double)f16_to_f32((uint16_t)i), f16_meaning((uint16_t)i)), "%04x",
                  i);
}

Test(quant_f16, decodes_every_bf16_to_what_it_means)
{
    for (int i = 0; i < PATTERNS; i++)
        cr_assert(is_same_double((double)bf16_to_f32((uint16_t)i), bf16_meaning((uint16_t)i)),
                  "%04x", i);
}

/* The nearest of the candidates around `guess`, an even one when two are as near. */
static uint16_t find_nearest_code(double v, uint16_t guess, double (*meaning)(uint16_t),
                                  double largest)
{
    uint16_t best = guess;
    for (int step = -1; step <= 1; step++) {
        const uint16_t h = (uint16_t)(guess + step);
        if (((h ^ guess) & 0x8000u) || isnan(meaning(h)))
            continue;
        const double m = isinf(meaning(h)) ? copysign(largest, v) : meaning(h);
        const double b = isinf(meaning(best)) ? copysign(largest, v) : meaning(best);
        const double d = fabs(m - v), e = fabs(b - v);
        if (d < e || (d == e && !(h & 1)))
            best = h;
    }
    return best;
}

/* 2^16 and 2^128 stand for infinity: what is nearer to them than to the largest is infinite. */
static void expect_nearest_f16(float v)
{
    const uint16_t h = f32_to_f16(v);
    cr_assert(h == find_nearest_code((double)v, h, f16_meaning, 65536), "%a became %04x", (double)v,
              h);
}

static void expect_nearest_bf16(float v)
{
    const uint16_t h = f32_to_bf16(v);
    cr_assert(h == find_nearest_code((double)v, h, bf16_meaning, 0x1p128), "%a became %04x",
              (double)v, h);
}

Test(quant_f16, encodes_to_the_nearest_and_ties_to_even)
{
    for (int i = 0; i < 0x7c00; i++) {
        const float a = f16_to_f32((uint16_t)i),
                    b = i == 0x7bff ? 65536 : f16_to_f32((uint16_t)(i + 1));
        const float middle = (a + b) / 2;
        cr_assert(f32_to_f16(a) == i && f32_to_f16(-a) == (i | 0x8000));
        expect_nearest_f16(middle);
        expect_nearest_f16(nextafterf(middle, 0));
        expect_nearest_f16(nextafterf(middle, INFINITY));
        expect_nearest_f16(-middle);
    }
    for (int i = 0; i < 0x7f7f; i++) {
        const float a = bf16_to_f32((uint16_t)i), b = bf16_to_f32((uint16_t)(i + 1));
        const float middle = a + (b - a) / 2;
        cr_assert(f32_to_bf16(a) == i && f32_to_bf16(-a) == (i | 0x8000));
        expect_nearest_bf16(middle);
        expect_nearest_bf16(nextafterf(middle, 0));
        expect_nearest_bf16(nextafterf(middle, INFINITY));
    }
}

Test(quant_f16, overflows_to_infinity_and_keeps_nan)
{
    cr_expect(f32_to_f16(65519.99f) == 0x7bff && f32_to_f16(65520) == 0x7c00);
    cr_expect(f32_to_f16(1e30f) == 0x7c00 && f32_to_f16(-INFINITY) == 0xfc00);
    cr_expect(f32_to_bf16(3.4e38f) == 0x7f80 && f32_to_bf16(-INFINITY) == 0xff80);
    cr_expect(isnan(f16_to_f32(f32_to_f16(NAN))) && isnan(bf16_to_f32(f32_to_bf16(NAN))));
    /* a payload in the lowest bits only must not turn into infinity */
    cr_expect(isnan(f16_to_f32(f32_to_f16(f32_from_bits(0x7f800001)))));
    cr_expect(isnan(bf16_to_f32(f32_to_bf16(f32_from_bits(0xff800001)))));
    cr_expect(f32_to_f16(0x1p-25f) == 0 && f32_to_f16(-0x1.000002p-25f) == 0x8001);
}

Test(quant_f16, bulk_decoding_gives_the_bits_of_the_scalar)
{
    static uint16_t h[PATTERNS];
    static float a[PATTERNS], b[PATTERNS];
    for (int i = 0; i < PATTERNS; i++)
        h[i] = (uint16_t)i;
    f16_decode(a, h, PATTERNS);
    bf16_decode(b, h, PATTERNS);
    for (int i = 0; i < PATTERNS; i++) {
        cr_assert(f32_bits(a[i]) == f32_bits(f16_to_f32(h[i])), "fp16 %04x", i);
        cr_assert(f32_bits(b[i]) == f32_bits(bf16_to_f32(h[i])), "bf16 %04x", i);
    }
}

/* Every exponent and sign, and mantissas around every boundary of rounding. */
Test(quant_f16, bulk_encoding_gives_the_bits_of_the_scalar)
{
    enum { BLOCK = 4096 };
    static float v[BLOCK];
    static uint16_t a[BLOCK], b[BLOCK];
    for (uint64_t u = 0; u < 1ull << 32; u += BLOCK * 1021u) {
        for (uint32_t i = 0; i < BLOCK; i++)
            v[i] = f32_from_bits((uint32_t)u + i * 1021u);
        f16_encode(a, v, BLOCK);
        bf16_encode(b, v, BLOCK);
        for (int i = 0; i < BLOCK; i++) {
            cr_assert(a[i] == f32_to_f16(v[i]), "fp16 of %08x", f32_bits(v[i]));
            cr_assert(b[i] == f32_to_bf16(v[i]), "bf16 of %08x", f32_bits(v[i]));
        }
    }
    for (uint32_t e = 0; e < 512; e++) {
        for (uint32_t i = 0; i < BLOCK; i++) {
            const uint32_t bit = 1u << (i % 23);
            v[i] = f32_from_bits(e << 23 | ((i >> 5) % 2 ? bit : bit - 1) | (i >> 6) << 17);
        }
        f16_encode(a, v, BLOCK);
        bf16_encode(b, v, BLOCK);
        for (int i = 0; i < BLOCK; i++)
            cr_assert(a[i] == f32_to_f16(v[i]) && b[i] == f32_to_bf16(v[i]), "%08x",
                      f32_bits(v[i]));
    }
}

Test(quant_f16, bulk_takes_any_length_and_writes_no_further)
{
    for (size_t n = 0; n < 40; n++) {
        float v[48], w[48];
        uint16_t h[48], g[48];
        for (size_t i = 0; i < 48; i++) {
            v[i] = w[i] = (float)i * 0.37f - 3;
            h[i] = g[i] = 0x1234;
        }
        f16_encode(h + 1, v, n);
        bf16_encode(g + 1, v, n);
        for (size_t i = 0; i < 48; i++) {
            cr_assert(h[i] == (i >= 1 && i <= n ? f32_to_f16(v[i - 1]) : 0x1234));
            cr_assert(g[i] == (i >= 1 && i <= n ? f32_to_bf16(v[i - 1]) : 0x1234));
        }
        f16_decode(w + 1, h + 1, n);
        for (size_t i = 0; i < 48; i++)
            cr_assert(w[i] == (i >= 1 && i <= n ? f16_to_f32(h[i]) : v[i]));
    }
}

Test(quant_f16, rounding_is_encoding_and_decoding)
{
    enum { N = 1 << 16, STEP = 65521 };
    static float v[N], rounded[N], decoded[N];
    static uint16_t half[N];
    for (uint32_t i = 0; i < N; i++)
        v[i] = f32_from_bits(i * STEP);
    for (size_t n = N - 9; n <= N; n++) {
        bf16_encode(half, v, n);
        bf16_decode(decoded, half, n);
        bf16_round(rounded, v, n);
        cr_assert(memcmp(rounded, decoded, n * sizeof *v) == 0, "%zu", n);
    }
    bf16_round(v, v, N);
    cr_expect(memcmp(v, rounded, sizeof v) == 0, "in place");
}
