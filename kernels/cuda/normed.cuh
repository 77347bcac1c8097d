/* kernels/cuda/normed.cuh -- act([a | b] * affine): what a norm leaves of two sources. */
#ifndef REFINE_CUDA_NORMED_CUH
#define REFINE_CUDA_NORMED_CUH

#include "kernels/cuda/view.cuh"
#include "kernels/ops.h"

struct normed {
    view a, b;           /* b.data NULL: a alone */
    const float *affine; /* (images, 2, c), or NULL: as it is */
    int act;             /* any but ACT_GEGLU */
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

/* Is it [a | b] itself, or what most convolutions read, silu of the norm? */
static inline bool normed_raw(const normed &n) { return !n.affine && n.act == ACT_NONE; }
static inline bool normed_silu(const normed &n) { return n.affine && n.act == ACT_SILU; }

/* Channels [c, c + 8) of a pixel; 0 beyond the last. */
__device__ __forceinline__ void gather_channels8(float (&x)[8], const normed &in, size_t pixel,
                                                 int c)
{
    if (in.whole_vectors) {
        if (c < in.a.c)
            load_channels8(x, in.a, pixel, c);
        else
            load_channels8(x, in.b, pixel, c - in.a.c);
        return;
    }
#pragma unroll
    for (int i = 0; i < 8; i++) {
        x[i] = 0.0f;
        if (c + i < in.a.c)
            x[i] = load_channel(in.a, pixel, c + i);
        else if (c + i < in.c)
            x[i] = load_channel(in.b, pixel, c + i - in.a.c);
    }
}

__device__ __forceinline__ void apply_silu8(float (&x)[8])
{
#pragma unroll
    for (int i = 0; i < 8; i++)
        x[i] = silu_float(x[i]);
}

/* One branch for all eight, so that they do not wait for each other. */
__device__ __forceinline__ void apply_act8(float (&x)[8], int act)
{
    if (act == ACT_SILU) {
        apply_silu8(x);
    } else if (act == ACT_GELU) {
#pragma unroll
        for (int i = 0; i < 8; i++)
            x[i] = gelu_float(x[i]);
    } else if (act == ACT_QUICK_GELU) {
#pragma unroll
        for (int i = 0; i < 8; i++)
            x[i] = quick_gelu_float(x[i]);
    }
}

/* The norm of channels [c, c + 8) of an image.  The product is added to without being rounded in
 * between, here as in whole vectors (affine8): so that a value does not depend on who normalises
 * it. */
__device__ __forceinline__ void apply_affine8(float (&x)[8], const normed &in, int image, int c)
{
    const float *slope = in.affine + static_cast<size_t>(image) * 2 * in.c + c;
    const float *shift = slope + in.c;
    if (!in.affine)
        return;
#pragma unroll
    for (int i = 0; i < 8; i++)
        if (c + i < in.c)
            x[i] = fmaf(x[i], __ldg(slope + i), __ldg(shift + i));
}

/* The affine of eight channels in whole vectors, which many pixels share. */
struct affine8 {
    float slope[8], shift[8];

    __device__ __forceinline__ void load(const normed &in, int image, int c)
    {
        const float *at = in.affine + static_cast<size_t>(image) * 2 * in.c + c;
#pragma unroll
        for (int i = 0; i < 8; i += 4) {
            const float4 a = __ldg(reinterpret_cast<const float4 *>(at + i));
            const float4 b = __ldg(reinterpret_cast<const float4 *>(at + in.c + i));
            slope[i] = a.x, slope[i + 1] = a.y, slope[i + 2] = a.z, slope[i + 3] = a.w;
            shift[i] = b.x, shift[i + 1] = b.y, shift[i + 2] = b.z, shift[i + 3] = b.w;
        }
    }

    /* silu(x * scale * slope + shift); scale is a power of two. */
    __device__ __forceinline__ half8 silu_of(const half8 &raw, float scale) const
    {
        half8 out;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const float2 x = __half22float2(raw.pair[i]);
            out.pair[i] = __floats2half2_rn(
                silu_float(fmaf(x.x, scale * slope[2 * i], shift[2 * i])),
                silu_float(fmaf(x.y, scale * slope[2 * i + 1], shift[2 * i + 1])));
        }
        return out;
    }
};

#endif
