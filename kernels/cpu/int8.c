/* kernels/cpu/int8.c -- which of the compiled variants this CPU can run. */
#include "kernels/cpu/int8_variants.h"

#include "kernels/cpu/isa.h"

/* The fastest first. */
static const struct {
    const int8_variant *variant;
    unsigned needs;
} VARIANTS[] = {
#if defined(__x86_64__)
    { &INT8_AVX512, ISA_AVX512 | ISA_AVX512VNNI },
    { &INT8_AVXVNNI, ISA_AVX2 | ISA_AVXVNNI },
    { &INT8_AVX2, ISA_AVX2 },
#endif
    { &INT8_BASE, 0 },
};

const int8_variant *int8_nth(int i, bool *runs)
{
    if (i < 0 || (size_t)i >= sizeof VARIANTS / sizeof VARIANTS[0])
        return NULL;
    *runs = (isa_available() & VARIANTS[i].needs) == VARIANTS[i].needs;
    return VARIANTS[i].variant;
}

const int8_variant *int8_pick(void)
{
    bool runs;
    for (int i = 0;; i++) {
        const int8_variant *v = int8_nth(i, &runs);
        if (runs)
            return v;
    }
}
