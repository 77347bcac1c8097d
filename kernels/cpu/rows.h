/* kernels/cpu/rows.h -- pixels of tensors as rows of floats. */
#ifndef REFINE_ROWS_H
#define REFINE_ROWS_H

#include "kernels/cpu/vec.h"
#include "kernels/tensor.h"

/* Elements of any type as floats. */
void row_decode(float *out, const void *from, dtype type, size_t n);
void row_encode(void *to, dtype type, const float *v, size_t n);

/* Channels [c0, c0 + n) of pixel p (images, rows and columns flattened), exp2 applied. */
void row_load(const vec *v, float *out, tensor t, size_t p, int c0, int n);

/* And back; `row` is used up. */
void row_store(const vec *v, tensor t, size_t p, int c0, int n, float *row);

/* Address of the element. */
static inline char *element_address(tensor t, size_t p, int c)
{
    return (char *)t.data + (p * (size_t)t.stride + (size_t)c) * dtype_bytes(t.type);
}

#endif
