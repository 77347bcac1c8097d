/* tests/support/cuda_math.c -- opening the device as the case wants it. */
#include "tests/support/cuda_math.h"

#include <math.h>
#ifdef REFINE_CUDA_EMULATED
#include "tests/support/cuda/emulation.h"
#endif

dev *cuda_math_open(cuda_math m)
{
#ifdef REFINE_CUDA_EMULATED
    emulation_set_performance(m == CUDA_TENSOR_CORES ? 8000 : 1000, 1000);
#endif
    dev *d = field_cuda(m == CUDA_F32 ? DT_F32 : DT_F16);
    if (cuda_of(d)->math == m)
        return d;
    dev_close(d);
    return NULL;
}

double cuda_math_error(cuda_math m, int k)
{
    return m == CUDA_F32 ? 0.0 : 8 * 0x1p-11 * sqrt(k) / (m == CUDA_HALF2 ? 1 : 3);
}
