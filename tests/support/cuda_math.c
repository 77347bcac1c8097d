/* tests/support/cuda_math.c -- a device that multiplies as the case wants it. */
#include "tests/support/cuda_math.h"

#ifdef REFINE_CUDA_EMULATED
#include "tests/support/cuda/emulation.h"
#endif
#include "tests/support/cuda_opening.h"
#include "tests/support/json_line.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

dev *cuda_math_open(cuda_math m)
{
#ifdef REFINE_CUDA_EMULATED /* on cards without tensor cores nothing comes by itself */
    emulation_set_card(m == CUDA_HALF2 ? 7 : 8, m == CUDA_HALF2 ? 5 : 6, 2);
#endif
    cuda_opening_trusts();
    dev *d = field_cuda(m == CUDA_F32 ? DT_F32 : DT_F16);
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
