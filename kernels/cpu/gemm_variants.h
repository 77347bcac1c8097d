/* kernels/cpu/gemm_variants.h -- what is compiled; gemm.c knows what runs where. */
#ifndef REFINE_GEMM_VARIANTS_H
#define REFINE_GEMM_VARIANTS_H

#include "kernels/cpu/gemm.h"

extern const gemm GEMM_F32_BASE, GEMM_BF16_BASE;
#if defined(__x86_64__)
extern const gemm GEMM_F32_AVX2, GEMM_BF16_AVX2;
extern const gemm GEMM_F32_AVX512, GEMM_BF16_AVX512, GEMM_BF16_AVX512BF16;
#endif

#endif
