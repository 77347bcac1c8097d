/* kernels/cpu/rows.c -- conversion at the border of every operator. */
#include "kernels/cpu/rows.h"

#include "quant/f16.h"

#include <math.h>
#include <string.h>

void row_decode(float *out, const void *from, dtype type, size_t n)
{
    if (type == DT_F16)
        f16_decode(out, from, n);
    else if (type == DT_BF16)
        bf16_decode(out, from, n);
    else
        memcpy(out, from, n * sizeof *out);
}

void row_encode(void *to, dtype type, const float *v, size_t n)
{
    if (type == DT_F16)
        f16_encode(to, v, n);
    else if (type == DT_BF16)
        bf16_encode(to, v, n);
    else
        memcpy(to, v, n * sizeof *v);
}

void row_load(const vec *v, float *out, tensor t, size_t p, int c0, int n)
{
    row_decode(out, element_address(t, p, c0), t.type, (size_t)n);
    if (t.exp2)
        v->scale(out, ldexpf(1.0f, t.exp2), (size_t)n);
}

void row_store(const vec *v, tensor t, size_t p, int c0, int n, float *row)
{
    if (t.exp2)
        v->scale(row, ldexpf(1.0f, -t.exp2), (size_t)n);
    row_encode(element_address(t, p, c0), t.type, row, (size_t)n);
}
