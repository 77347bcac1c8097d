/* tests/support/gemm_twin.c -- the body of all, with half as long vectors. */
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif

#include "tests/support/gemm_twin.h"
#include "kernels/cpu/gemm_flush.h"

#define LANES        8
#define FMA(d, a, w) ((vf)_mm256_fmadd_ps((__m256)(a), (__m256)(w), (__m256)(d)))

/* Of a pair of BF16 the first lies in the lower half. */
#define FIRST(a)  ((vf)((vi)(a) << 16))
#define SECOND(a) ((vf)((vi)(a) & (int32_t)0xffff0000))

#define VECTORS       4
#define PIXELS        14
#define DEPTH         256
#define STEP(d, a, w) FMA(d, a, w)
#define FLIP          0
#define BEGIN         (void)0
#define END           (void)0
#define NAME          "twin of avx512"
#define TYPE          DT_F32
#define ELEMENT       DT_F32
#define VARIANT       GEMM_F32_TWIN
#include "kernels/cpu/gemm_body.h"

#define VECTORS       4
#define PIXELS        14
#define DEPTH         256
#define STEP(d, a, w) FMA(FMA(d, SECOND(a), SECOND(w)), FIRST(a), FIRST(w))
#define FLIP          0
#define BEGIN         FLUSH_BEGIN
#define END           FLUSH_END
#define NAME          "twin of avx512bf16"
#define TYPE          DT_BF16
#define ELEMENT       DT_BF16
#define VARIANT       GEMM_BF16_TWIN
#include "kernels/cpu/gemm_body.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif

#include "kernels/cpu/isa.h"
#include "tests/support/gemm_twin.h"

const gemm *gemm_testable(int i)
{
    const gemm *g;
    bool runs;

    for (int n = 0; (g = gemm_nth(n, &runs)); n++)
        if (runs && i-- == 0)
            return g;
#if defined(__x86_64__)
    if (isa_available() & ISA_AVX2)
        return i == 0 ? &GEMM_F32_TWIN : i == 1 ? &GEMM_BF16_TWIN : NULL;
#endif
    return NULL;
}
