/* kernels/cpu/vec.c -- which of the compiled widths this CPU can run. */
#include "kernels/cpu/vec.h"

#include "kernels/cpu/isa.h"

const vec *vec_pick(void)
{
#if defined(__x86_64__)
    if (isa_available() & ISA_AVX2)
        return &VEC_AVX2;
#endif
    return &VEC_BASE;
}
