/* tests/support/gemm_twin.h -- the shapes of AVX-512's products on a machine that has AVX2.
 *
 * kernels/cpu/gemm_body.h with fourteen pixels and two panels at once, as gemm_avx512*.c compile
 * it, in four vectors of AVX2 instead of two; and BF16 as pairs in a word, whose halves are
 * multiplied one after the other as vdpbf16ps does.  Give them to a device
 * (cpu_of(d)->bf16 = &GEMM_BF16_TWIN) and everything around the instruction is tried here.
 */
#ifndef TEST_GEMM_TWIN_H
#define TEST_GEMM_TWIN_H

#include "kernels/cpu/gemm.h"

#if defined(__x86_64__)
extern const gemm GEMM_F32_TWIN, GEMM_BF16_TWIN;
#endif

/* Those that this machine can run, twins included: number i, or NULL behind the last. */
const gemm *gemm_testable(int i);

#endif
