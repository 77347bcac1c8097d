/* kernels/cpu/int8_avxvnni.c -- int8 products with AVX-VNNI: quadruples of bytes, eight words.
 *
 * The whole file is compiled for these instructions, whatever the compiler's flags say;
 * int8_pick calls it only where they exist.
 */
#include "kernels/cpu/int8_variants.h"
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,avxvnni"))), apply_to = function)
#else
#pragma GCC target("avx2,avxvnni")
#endif

#include <immintrin.h>

#define LANES        8
#define PIXELS       6
#define NAME         "avx-vnni"
#define VARIANT      INT8_AVXVNNI
#define ELEMENT      uint8_t
#define WEIGHT       int8_t
#define ZERO         128
#define DOT(s, a, w) ((vi)_mm256_dpbusd_avx_epi32((__m256i)(s), (__m256i)(a), (__m256i)(w)))
#include "kernels/cpu/int8_body.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
