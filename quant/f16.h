/* quant/f16.h -- the two 16-bit floating-point formats: IEEE fp16 and bfloat16.
 *
 * Encoding rounds to nearest, ties to even; what is too large becomes infinity; a NaN
 * stays one and becomes quiet, its sign and upper payload bits kept.  The bulk functions
 * use the CPU's instructions where it has them and give the very bits of the scalar ones.
 */
#ifndef REFINE_F16_H
#define REFINE_F16_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint32_t f32_bits(float v)
{
    uint32_t u;
    memcpy(&u, &v, sizeof u);
    return u;
}

static inline float f32_from_bits(uint32_t u)
{
    float v;
    memcpy(&v, &u, sizeof v);
    return v;
}

float f16_to_f32(uint16_t h);
uint16_t f32_to_f16(float v);

static inline float bf16_to_f32(uint16_t h)
{
    const uint32_t quiet = (h & 0x7fffu) > 0x7f80u ? 0x0040u : 0;
    return f32_from_bits((uint32_t)(h | quiet) << 16);
}

static inline uint16_t f32_to_bf16(float v)
{
    const uint32_t u = f32_bits(v);
    if ((u & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)(u >> 16 | 0x0040u);
    return (uint16_t)((u + 0x7fffu + (u >> 16 & 1u)) >> 16);
}

/* n elements; dst and src do not overlap, and need no alignment beyond their type's. */
void f16_decode(float *dst, const uint16_t *src, size_t n);
void f16_encode(uint16_t *dst, const float *src, size_t n);
void bf16_decode(float *dst, const uint16_t *src, size_t n);
void bf16_encode(uint16_t *dst, const float *src, size_t n);

/* The floats that encoding and decoding leave; dst may be src. */
void bf16_round(float *dst, const float *src, size_t n);

#endif
