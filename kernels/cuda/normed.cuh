/* kernels/cuda/normed.cuh -- act([a | b] * affine): what a norm leaves of two sources. */
#ifndef REFINE_CUDA_NORMED_CUH
#define REFINE_CUDA_NORMED_CUH

#include "kernels/cuda/view.cuh"
#include "kernels/ops.h"

struct normed {
    view a, b;           /* b.data NULL: a alone */
    const float *affine; /* (images, 2, c), or NULL: as it is */
    int act;             /* ACT_NONE, ACT_SILU or ACT_GELU */
    int c;               /* channels of both */
    bool whole_vectors;  /* no group of eight channels lies in both, ends beyond the last, or lies
                            across memory; nor do those of `affine` */
};

static inline normed normed_of(tensor a, tensor b, tensor affine, int act)
{
    normed n = {};
    n.a = view_of(a);
    n.b = view_of(b);
    n.affine = static_cast<const float *>(affine.data);
    n.act = act;
    n.c = a.c + b.c;
    n.whole_vectors = n.a.vectors && (!n.b.data || n.b.vectors) &&
                      reinterpret_cast<uintptr_t>(n.affine) % sizeof(float4) == 0;
    return n;
}

/* Is it [a | b] itself? */
static inline bool normed_raw(const normed &n) { return !n.affine && n.act == ACT_NONE; }

/* Channels [c, c + 8) of a pixel; 0 beyond the last. */
__device__ __forceinline__ void gather8(float (&x)[8], const normed &in, size_t pixel, int c)
{
    if (in.whole_vectors) {
        if (c < in.a.c)
            load8(x, in.a, pixel, c);
        else
            load8(x, in.b, pixel, c - in.a.c);
        return;
    }
#pragma unroll
    for (int i = 0; i < 8; i++) {
        x[i] = 0.0f;
        if (c + i < in.a.c)
            x[i] = load1(in.a, pixel, c + i);
        else if (c + i < in.c)
            x[i] = load1(in.b, pixel, c + i - in.a.c);
    }
}

__device__ __forceinline__ float activate(int act, float x)
{
    return act == ACT_SILU ? silu(x) : act == ACT_GELU ? gelu(x) : x;
}

/* The norm and what follows it, for channels [c, c + 8) of an image: in whole vectors, */
__device__ __forceinline__ void normalise_vector(float (&x)[8], const normed &in, int image, int c)
{
    if (in.affine) {
        const float *slope = in.affine + static_cast<size_t>(image) * 2 * in.c + c;
#pragma unroll
        for (int i = 0; i < 8; i += 4) {
            const float4 a = __ldg(reinterpret_cast<const float4 *>(slope + i));
            const float4 b = __ldg(reinterpret_cast<const float4 *>(slope + in.c + i));
            x[i] = x[i] * a.x + b.x;
            x[i + 1] = x[i + 1] * a.y + b.y;
            x[i + 2] = x[i + 2] * a.z + b.z;
            x[i + 3] = x[i + 3] * a.w + b.w;
        }
    }
#pragma unroll
    for (int i = 0; i < 8; i++)
        x[i] = activate(in.act, x[i]);
}

/* and of any shape. */
__device__ __forceinline__ void normalise8(float (&x)[8], const normed &in, int image, int c)
{
    const float *slope = in.affine + static_cast<size_t>(image) * 2 * in.c + c;
    const float *shift = slope + in.c;
#pragma unroll
    for (int i = 0; i < 8; i++) {
        if (c + i >= in.c)
            continue;
        if (in.affine)
            x[i] = x[i] * __ldg(slope + i) + __ldg(shift + i);
        x[i] = activate(in.act, x[i]);
    }
}

#endif
