/* kernels/cpu/int8_avx2.c -- int8 products with AVX2: pairs of 16 bits, eight words.
 *
 * The whole file is compiled for these instructions, whatever the compiler's flags say;
 * int8_pick calls it only where they exist.
 */
#include "kernels/cpu/int8_variants.h"
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2"))), apply_to = function)
#else
#pragma GCC target("avx2")
#endif

#include <immintrin.h>

#define LANES        8
#define PIXELS       6
#define NAME         "avx2"
#define VARIANT      INT8_AVX2
#define ELEMENT      int16_t
#define WEIGHT       int16_t
#define ZERO         0
#define DOT(s, a, w) ((s) + (vi)_mm256_madd_epi16((__m256i)(a), (__m256i)(w)))
#include "kernels/cpu/int8_body.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
