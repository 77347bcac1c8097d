/* kernels/cpu/gemm.c -- which of the compiled variants this processor can run. */
#include "kernels/cpu/gemm_variants.h"

#include "kernels/cpu/isa.h"
#include "quant/f16.h"

/* The fastest first. */
static const struct {
    const gemm *variant;
    unsigned needs;
} VARIANTS[] = {
#if defined(__x86_64__)
    { &GEMM_F32_AVX512, ISA_AVX512 },
    { &GEMM_F32_AVX2, ISA_AVX2 },
    { &GEMM_BF16_AVX512BF16, ISA_AVX512 | ISA_AVX512BF16 },
    { &GEMM_BF16_AVX512, ISA_AVX512 },
    { &GEMM_BF16_AVX2, ISA_AVX2 },
#endif
    { &GEMM_F32_BASE, 0 },
    { &GEMM_BF16_BASE, 0 },
};

const gemm *gemm_nth(int i, bool *runs)
{
    if (i < 0 || (size_t)i >= sizeof VARIANTS / sizeof VARIANTS[0])
        return NULL;
    *runs = (isa_available() & VARIANTS[i].needs) == VARIANTS[i].needs;
    return VARIANTS[i].variant;
}

const gemm *gemm_pick(dtype type)
{
    const gemm *g;
    bool runs;
    for (int i = 0; (g = gemm_nth(i, &runs)); i++)
        if (runs && g->type == type)
            return g;
    return NULL;
}

void gemm_encode(const gemm *g, void *to, const float *v, size_t n)
{
    if (g->element == DT_BF16)
        bf16_encode(to, v, n);
    else if (g->type == DT_BF16)
        bf16_round(to, v, n);
    else if (to != v)
        memcpy(to, v, n * sizeof *v);
}
