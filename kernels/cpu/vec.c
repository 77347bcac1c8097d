/* kernels/cpu/vec.c -- which of the compiled widths this CPU can run. */
#include "kernels/cpu/vec.h"

const vec *vec_pick(void)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return &VEC_AVX2;
#endif
    return &VEC_BASE;
}
