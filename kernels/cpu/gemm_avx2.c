/* kernels/cpu/gemm_avx2.c -- products of floats with AVX2 and FMA: eight lanes.
 *
 * The whole file is compiled for these instructions, whatever the compiler's flags say;
 * gemm_pick calls it only where they exist.
 */
#include "kernels/cpu/gemm_variants.h"
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif

#include "kernels/cpu/gemm_flush.h"

#define LANES        8
#define FMA(d, a, w) ((vf)_mm256_fmadd_ps((__m256)(a), (__m256)(w), (__m256)(d)))

#define VECTORS       2
#define PIXELS        6
#define DEPTH         768
#define STEP(d, a, w) FMA(d, a, w)
#define FLIP          0
#define BEGIN         (void)0
#define END           (void)0
#define NAME          "avx2"
#define TYPE          DT_F32
#define ELEMENT       DT_F32
#define VARIANT       GEMM_F32_AVX2
#include "kernels/cpu/gemm_body.h"

#define VECTORS       2
#define PIXELS        6
#define DEPTH         768
#define STEP(d, a, w) FMA(d, a, w)
#define FLIP          1
#define BEGIN         FLUSH_BEGIN
#define END           FLUSH_END
#define NAME          "avx2"
#define TYPE          DT_BF16
#define ELEMENT       DT_F32
#define VARIANT       GEMM_BF16_AVX2
#include "kernels/cpu/gemm_body.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
