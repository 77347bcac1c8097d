/* quant/f16.c -- fp16 and bfloat16, one element at a time and eight at a time.
 *
 * The eight-wide halves are chosen per call by what the CPU says it has; a tail shorter
 * than a vector goes through the scalar functions, which agree bit for bit.
 */
#include "quant/f16.h"

#if defined(__x86_64__)
#include <immintrin.h>
#define WIDE __attribute__((target("avx2,f16c")))
#endif

float f16_to_f32(uint16_t h)
{
    const uint32_t sign = (uint32_t)(h & 0x8000u) << 16;
    const uint32_t exponent = h >> 10 & 0x1fu;
    const uint32_t mantissa = h & 0x3ffu;

    if (exponent == 0x1f)
        return f32_from_bits(sign | 0x7f800000u | mantissa << 13 | (mantissa ? 0x400000u : 0));
    if (exponent != 0)
        return f32_from_bits(sign | (exponent + 112) << 23 | mantissa << 13);

    /* Subnormal: mantissa * 2^-24, exact in single precision. */
    const float magnitude = (float)mantissa * 0x1p-24f;
    return f32_from_bits(sign | f32_bits(magnitude));
}

/* v >> bits, rounded to nearest even. */
static uint32_t shift_rounded(uint32_t v, uint32_t bits)
{
    const uint32_t half = (1u << (bits - 1)) - 1;
    return (v + half + (v >> bits & 1u)) >> bits;
}

uint16_t f32_to_f16(float v)
{
    const uint32_t u = f32_bits(v);
    const uint32_t sign = u >> 16 & 0x8000u;
    const uint32_t magnitude = u & 0x7fffffffu;

    if (magnitude > 0x7f800000u)
        return (uint16_t)(sign | 0x7e00u | (magnitude >> 13 & 0x3ffu));
    if (magnitude >= 0x47800000u) /* 2^16 and above */
        return (uint16_t)(sign | 0x7c00u);
    if (magnitude >= 0x38800000u) /* 2^-14 and above: normal; may carry to inf */
        return (uint16_t)(sign | shift_rounded(magnitude - (112u << 23), 13));
    if (magnitude < 0x33000000u) /* below 2^-25: nothing left */
        return (uint16_t)sign;

    const uint32_t exponent = magnitude >> 23;
    const uint32_t mantissa = (magnitude & 0x7fffffu) | 0x800000u;
    return (uint16_t)(sign | shift_rounded(mantissa, 126 - exponent));
}

#if defined(WIDE)

WIDE static size_t f16_decode_wide(float *dst, const uint16_t *src, size_t n)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const __m128i h = _mm_loadu_si128((const __m128i *)(const void *)(src + i));
        _mm256_storeu_ps(dst + i, _mm256_cvtph_ps(h));
    }
    return i;
}

WIDE static size_t f16_encode_wide(uint16_t *dst, const float *src, size_t n)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const __m128i h = _mm256_cvtps_ph(_mm256_loadu_ps(src + i),
                                          _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        _mm_storeu_si128((__m128i *)(void *)(dst + i), h);
    }
    return i;
}

WIDE static size_t bf16_decode_wide(float *dst, const uint16_t *src, size_t n)
{
    const __m256i magnitude = _mm256_set1_epi32(0x7fff), inf = _mm256_set1_epi32(0x7f80);
    const __m256i quiet = _mm256_set1_epi32(0x0040);
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const __m128i h = _mm_loadu_si128((const __m128i *)(const void *)(src + i));
        const __m256i u = _mm256_cvtepu16_epi32(h);
        const __m256i nan = _mm256_cmpgt_epi32(_mm256_and_si256(u, magnitude), inf);
        const __m256i fixed = _mm256_or_si256(u, _mm256_and_si256(nan, quiet));
        _mm256_storeu_ps(dst + i, _mm256_castsi256_ps(_mm256_slli_epi32(fixed, 16)));
    }
    return i;
}

/* Rounded, in the lower half of each word. */
WIDE static __m256i bf16_lanes(__m256i u)
{
    const __m256i magnitude = _mm256_and_si256(u, _mm256_set1_epi32(0x7fffffff));
    const __m256i nan = _mm256_cmpgt_epi32(magnitude, _mm256_set1_epi32(0x7f800000));
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
    const __m256i up = _mm256_add_epi32(_mm256_add_epi32(u, _mm256_set1_epi32(0x7fff)), odd);
    const __m256i quiet = _mm256_or_si256(u, _mm256_set1_epi32(0x00400000));
    return _mm256_srli_epi32(_mm256_blendv_epi8(up, quiet, nan), 16);
}

WIDE static size_t bf16_encode_wide(uint16_t *dst, const float *src, size_t n)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const __m256i u = bf16_lanes(_mm256_castps_si256(_mm256_loadu_ps(src + i)));
        const __m128i h = _mm_packus_epi32(_mm256_castsi256_si128(u),
                                           _mm256_extracti128_si256(u, 1));
        _mm_storeu_si128((__m128i *)(void *)(dst + i), h);
    }
    return i;
}

WIDE static size_t bf16_round_wide(float *dst, const float *src, size_t n)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const __m256i u = bf16_lanes(_mm256_castps_si256(_mm256_loadu_ps(src + i)));
        _mm256_storeu_ps(dst + i, _mm256_castsi256_ps(_mm256_slli_epi32(u, 16)));
    }
    return i;
}

/* Every CPU with AVX2 has F16C; clang 14 cannot ask for the latter. */
static int have_wide(void) { return __builtin_cpu_supports("avx2"); }

#define START(wide, dst, src, n) (have_wide() ? wide(dst, src, n) : 0)
#else
#define START(wide, dst, src, n) 0
#endif

void f16_decode(float *dst, const uint16_t *src, size_t n)
{
    for (size_t i = START(f16_decode_wide, dst, src, n); i < n; i++)
        dst[i] = f16_to_f32(src[i]);
}

void f16_encode(uint16_t *dst, const float *src, size_t n)
{
    for (size_t i = START(f16_encode_wide, dst, src, n); i < n; i++)
        dst[i] = f32_to_f16(src[i]);
}

void bf16_decode(float *dst, const uint16_t *src, size_t n)
{
    for (size_t i = START(bf16_decode_wide, dst, src, n); i < n; i++)
        dst[i] = bf16_to_f32(src[i]);
}

void bf16_encode(uint16_t *dst, const float *src, size_t n)
{
    for (size_t i = START(bf16_encode_wide, dst, src, n); i < n; i++)
        dst[i] = f32_to_bf16(src[i]);
}

void bf16_round(float *dst, const float *src, size_t n)
{
    for (size_t i = START(bf16_round_wide, dst, src, n); i < n; i++)
        dst[i] = bf16_to_f32(f32_to_bf16(src[i]));
}
