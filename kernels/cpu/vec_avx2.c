/* kernels/cpu/vec_avx2.c -- rows of floats with AVX2 and FMA: eight lanes.
 *
 * The whole file is compiled for these instructions, whatever the compiler's flags say;
 * vec_pick calls it only where they exist.
 */
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif

#include <immintrin.h>

#define LANES                 8
#define MULTIPLY_ADD(a, b, c) ((vf)_mm256_fmadd_ps((__m256)(a), (__m256)(b), (__m256)(c)))
#define VEC_TABLE             VEC_AVX2
#include "kernels/cpu/vec_body.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif
#else
typedef int vec_avx2_is_for_x86_64_only;
#endif
