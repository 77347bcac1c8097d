/* tests/support/cuda_math.c -- opening the device as the case wants it. */
#include "tests/support/cuda_math.h"

#include "tests/support/json_line.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#ifdef REFINE_CUDA_EMULATED
#include "tests/support/cuda/emulation.h"
#endif

dev *cuda_math_open(cuda_math m)
{
#ifdef REFINE_CUDA_EMULATED
    emulation_set_performance(m == CUDA_TENSOR_CORES ? 8000 : 1000, 1000);
#endif
    dev *d = field_cuda(m == CUDA_F32 ? DT_F32 : DT_F16);
#ifdef REFINE_CUDA_EMULATED
    cr_assert_eq(cuda_of(d)->math, m, "the probe chose %d, not %d", cuda_of(d)->math, m);
#endif
    cuda_of(d)->math = m;
    return d;
}

double cuda_math_error(cuda_math m, int k)
{
    return m == CUDA_F32 ? 0.0 : 8 * 0x1p-11 * sqrt(k) / (m == CUDA_HALF2 ? 1 : 3);
}

void cuda_math_note(const char *kernel, cuda_math m, double off, double allowed, double peak)
{
    static const char *const NAMES[] = { "tensor cores", "half2", "f32" };
    const char *path = getenv("REFINE_ERRORS");
    FILE *f = path ? fopen(path, "a") : NULL;
    if (!f)
        return;
    (void)fprintf(f, "{\"stage\":\"error\",\"kernel\":\"%s\",\"math\":\"%s\"", kernel, NAMES[m]);
    json_number(f, "off", off);
    json_number(f, "allowed", allowed);
    json_number(f, "peak", peak);
    (void)fprintf(f, "}\n");
    (void)fclose(f);
}
