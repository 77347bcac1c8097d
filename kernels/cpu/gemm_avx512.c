/* kernels/cpu/gemm_avx512.c -- products of floats with AVX-512: sixteen lanes.
 *
 * The whole file is compiled for these instructions, whatever the compiler's flags say;
 * gemm_pick calls it only where they exist.
 */
#include "kernels/cpu/gemm_variants.h"
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl"))),                 \
                             apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512vl")
#endif

#include "kernels/cpu/gemm_flush.h"

#define LANES        16
#define FMA(d, a, w) ((vf)_mm512_fmadd_ps((__m512)(a), (__m512)(w), (__m512)(d)))

#define VECTORS       2
#define PIXELS        14
#define DEPTH         256
#define STEP(d, a, w) FMA(d, a, w)
#define FLIP          0
#define BEGIN         (void)0
#define END           (void)0
#define NAME          "avx512"
#define TYPE          DT_F32
#define ELEMENT       DT_F32
#define VARIANT       GEMM_F32_AVX512
#include "kernels/cpu/gemm_body.h"

#define VECTORS       2
#define PIXELS        14
#define DEPTH         256
#define STEP(d, a, w) FMA(d, a, w)
#define FLIP          1
#define BEGIN         FLUSH_BEGIN
#define END           FLUSH_END
#define NAME          "avx512"
#define TYPE          DT_BF16
#define ELEMENT       DT_F32
#define VARIANT       GEMM_BF16_AVX512
#include "kernels/cpu/gemm_body.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
