/* kernels/tensor.h -- a tensor is a value: a shape and a borrowed device address.
 *
 * Layout is NHWC everywhere.  A pixel is `c` consecutive elements; pixels lie
 * `stride` elements apart, row after row, image after image, without other gaps:
 *
 *     element (n, y, x, c) = data[((n*h + y)*w + x) * stride + c] * 2^exp2
 *
 * A view of some channels has stride > c.  Tokens are pixels: (n, 1, tokens, c)
 * or (n, h, w, c) as it comes.  Weights of a matrix are (rows, kh, kw, c_in),
 * dense: row r is one output channel, its K = kh*kw*c_in inputs innermost last.
 *
 * `exp2` is a power-of-two scale of what is stored (the VAE keeps activations
 * beyond fp16's range in fp16); 0 for everything else.
 *
 * A tensor with c == 0 is absent: the way to say "no bias", "no second source".
 */
#ifndef REFINE_TENSOR_H
#define REFINE_TENSOR_H

#include "quant/int8.h"

#include <stdbool.h>
#include <stddef.h>

typedef enum dtype { DT_F32 = 0, DT_F16 = 1, DT_BF16 = 2, DT_I8G64 = 3 } dtype;

typedef struct tensor {
    void *data; /* device address; never owned, never freed here; NULL while planning */
    dtype type;
    int n, h, w, c;
    int stride;
    int exp2;
} tensor;

/* Bytes per element of an activation type (not for DT_I8G64). */
static inline size_t dtype_bytes(dtype t) { return t == DT_F32 ? 4 : 2; }

static inline bool tensor_present(tensor t) { return t.c != 0; }

static inline tensor tensor_make(void *data, dtype type, int n, int h, int w, int c)
{
    const tensor t = { data, type, n, h, w, c, c, 0 };
    return t;
}

/* Pixels of one image, and bytes of a dense tensor (of any type: a matrix of whole tiles). */
static inline size_t tensor_pixels(tensor t) { return (size_t)t.h * (size_t)t.w; }
static inline size_t tensor_bytes(tensor t)
{
    if (t.type == DT_I8G64)
        return i8_bytes(t.n, t.h * t.w, t.c);
    return (size_t)t.n * tensor_pixels(t) * (size_t)t.stride * dtype_bytes(t.type);
}

/* Channels [c0, c0 + c) of t, in place. */
static inline tensor tensor_channels(tensor t, int c0, int c)
{
    if (t.data)
        t.data = (char *)t.data + (size_t)c0 * dtype_bytes(t.type);
    t.c = c;
    return t;
}

/* Images [n0, n0 + n) of t, in place. */
static inline tensor tensor_images(tensor t, int n0, int n)
{
    if (t.data)
        t.data = (char *)t.data +
                 (size_t)n0 * tensor_pixels(t) * (size_t)t.stride * dtype_bytes(t.type);
    t.n = n;
    return t;
}

/* Output rows of a matrix come in tiles.  A chunk of the pack holds whole tiles
 * of one matrix, and a device computes each tile (or an independent part of it)
 * in a way that depends on nothing outside it: that is why the image does not
 * depend on how the matrix was cut into chunks. */
enum { TILE_ROWS_LINEAR = 128, TILE_ROWS_CONV3 = 64 };

static inline int tile_rows(int kh, int kw)
{
    return kh * kw > 1 ? TILE_ROWS_CONV3 : TILE_ROWS_LINEAR;
}

#endif
