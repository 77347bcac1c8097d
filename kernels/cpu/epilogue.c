/* kernels/cpu/epilogue.c -- v + bias + per_image, activation, + residual, conversion. */
#include "kernels/cpu/epilogue.h"

#include "kernels/cpu/rows.h"

static const float *vector_at(tensor t, size_t n, int c)
{
    return (const float *)t.data + n * (size_t)t.stride + (size_t)c;
}

static void add_row(const vec *k, float *v, tensor t, size_t pixel, int c, int n)
{
    float row[EPILOGUE_ROWS];
    if (t.type == DT_F32 && t.exp2 == 0) {
        k->add(v, (const float *)(const void *)element_address(t, pixel, c), (size_t)n);
        return;
    }
    row_load(k, row, t, pixel, c, n);
    k->add(v, row, (size_t)n);
}

void epilogue_store(const vec *k, const epilogue *e, tensor y, size_t pixel, size_t n, int row0,
                    int rows, float *v)
{
    const int half = e->act == ACT_GEGLU ? 2 : 1;
    const int c = row0 / half, channels = rows / half;

    if (tensor_present(e->bias))
        k->add(v, vector_at(e->bias, 0, row0), (size_t)rows);
    if (tensor_present(e->per_image))
        k->add(v, vector_at(e->per_image, n, c), (size_t)channels);
    if (e->act == ACT_SILU)
        k->silu(v, (size_t)channels);
    else if (e->act == ACT_GELU)
        k->gelu(v, (size_t)channels);
    else if (e->act == ACT_QUICK_GELU)
        k->quick_gelu(v, (size_t)channels);
    else if (e->act == ACT_GEGLU)
        k->geglu(v, v, (size_t)channels);
    if (tensor_present(e->residual))
        add_row(k, v, e->residual, pixel, c, channels);
    row_store(k, y, pixel, c, channels, v);
}
