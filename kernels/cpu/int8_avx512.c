/* kernels/cpu/int8_avx512.c -- int8 products with AVX-512 VNNI: quadruples of bytes, sixteen words.
 *
 * The whole file is compiled for these instructions, whatever the compiler's flags say;
 * int8_pick calls it only where they exist.
 */
#include "kernels/cpu/int8_variants.h"
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni"))),      \
                             apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512vnni")
#endif

#include <immintrin.h>

#define LANES        16
#define PIXELS       12
#define NAME         "avx512-vnni"
#define VARIANT      INT8_AVX512
#define ELEMENT      uint8_t
#define WEIGHT       int8_t
#define ZERO         128
#define DOT(s, a, w) ((vi)_mm512_dpbusd_epi32((__m512i)(s), (__m512i)(a), (__m512i)(w)))
#include "kernels/cpu/int8_body.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
