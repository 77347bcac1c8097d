/* kernels/cpu/gemm_avx512bf16.c -- products of BF16 with AVX512_BF16: sixteen lanes of pairs.
 *
 * The whole file is compiled for these instructions, whatever the compiler's flags say;
 * gemm_pick calls it only where they exist.
 */
#include "kernels/cpu/gemm_variants.h"
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512bf16"))),      \
                             apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512bf16")
#endif

#include <immintrin.h>

#define LANES         16
#define VECTORS       2
#define PIXELS        14
#define DEPTH         256
#define STEP(d, a, w) ((vf)_mm512_dpbf16_ps((__m512)(d), (__m512bh)(a), (__m512bh)(w)))
#define FLIP          0
#define BEGIN         (void)0
#define END           (void)0
#define NAME          "avx512bf16"
#define TYPE          DT_BF16
#define ELEMENT       DT_BF16
#define VARIANT       GEMM_BF16_AVX512BF16
#include "kernels/cpu/gemm_body.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
