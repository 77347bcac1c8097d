/* kernels/cpu/int8_variants.h -- what is compiled; int8.c knows what runs where. */
#ifndef REFINE_CPU_INT8_VARIANTS_H
#define REFINE_CPU_INT8_VARIANTS_H

#include "kernels/cpu/int8.h"

extern const int8_variant INT8_BASE;
#if defined(__x86_64__)
extern const int8_variant INT8_AVX2;
extern const int8_variant INT8_AVXVNNI;
extern const int8_variant INT8_AVX512;
#endif

#endif
