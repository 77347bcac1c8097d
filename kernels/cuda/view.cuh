/* kernels/cuda/view.cuh -- activations as kernels see them: any type, any stride, scaled.
 *
 *     element (pixel, c) = data[pixel * stride + c] * scale
 *
 * Pixels of all images are numbered through.  `vectors` says that every group of eight channels
 * from a multiple of eight on is one aligned 16-byte (F32: 32-byte) piece of memory, so that
 * load_channels8 and store_channels8 may be used; where it is false they take the elements one by
 * one.
 */
#ifndef REFINE_CUDA_VIEW_CUH
#define REFINE_CUDA_VIEW_CUH

#include "kernels/cuda/ptx.cuh"
#include "kernels/tensor.h"

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <math.h>
#include <stdint.h>

#define LOG2E 1.44269504088896340736f

/* What computes on registers alone; the emulated card has its own way to have it done. */
#ifndef REGISTERS_ONLY
#define REGISTERS_ONLY __forceinline__
#endif

struct view {
    void *data; /* NULL: absent */
    size_t stride;
    int type, c;
    float scale, inverse; /* 2^exp2, 2^-exp2 */
    bool vectors;
};

static inline view view_of(tensor t)
{
    view v = {};
    if (!tensor_present(t))
        return v;
    v.data = t.data;
    v.stride = static_cast<size_t>(t.stride);
    v.type = t.type;
    v.c = t.c;
    v.scale = ldexpf(1.0f, t.exp2);
    v.inverse = ldexpf(1.0f, -t.exp2);
    const size_t block = 8 * dtype_bytes(t.type) < 16 ? 8 * dtype_bytes(t.type) : 16;
    v.vectors =
        t.c % 8 == 0 && t.stride % 8 == 0 && reinterpret_cast<uintptr_t>(t.data) % block == 0;
    return v;
}

/* One or the other, field by field: a reference chosen at run time would need an address, and so a
 * copy of the kernel's arguments in memory. */
__device__ __forceinline__ view view_either(bool first, const view &a, const view &b)
{
    view v;
    v.data = first ? a.data : b.data;
    v.stride = first ? a.stride : b.stride;
    v.type = first ? a.type : b.type;
    v.c = first ? a.c : b.c;
    v.scale = first ? a.scale : b.scale;
    v.inverse = first ? a.inverse : b.inverse;
    v.vectors = first ? a.vectors : b.vectors;
    return v;
}

__device__ __forceinline__ float bf16_float(uint16_t b)
{
    return __uint_as_float(static_cast<uint32_t>(b) << 16);
}

/* To nearest, ties to even; values are finite. */
__device__ __forceinline__ uint16_t float_bf16(float f)
{
    const uint32_t u = __float_as_uint(f);
    return static_cast<uint16_t>((u + 0x7fffu + (u >> 16 & 1u)) >> 16);
}

/* Element i of memory of a type, unscaled. */
__device__ __forceinline__ float load_element(const void *data, int type, size_t i)
{
    if (type == DT_F32)
        return static_cast<const float *>(data)[i];
    if (type == DT_F16)
        return __half2float(static_cast<const __half *>(data)[i]);
    return bf16_float(static_cast<const uint16_t *>(data)[i]);
}

__device__ __forceinline__ void store_element(void *data, int type, size_t i, float x)
{
    if (type == DT_F32)
        static_cast<float *>(data)[i] = x;
    else if (type == DT_F16)
        static_cast<__half *>(data)[i] = __float2half_rn(x);
    else
        static_cast<uint16_t *>(data)[i] = float_bf16(x);
}

__device__ __forceinline__ float load_channel(const view &v, size_t pixel, int c)
{
    return load_element(v.data, v.type, pixel * v.stride + static_cast<size_t>(c)) * v.scale;
}

__device__ __forceinline__ void store_channel(const view &v, size_t pixel, int c, float x)
{
    store_element(v.data, v.type, pixel * v.stride + static_cast<size_t>(c), x * v.inverse);
}

/* Eight halves, as they lie in memory. */
struct __align__(16) half8 {
    __half2 pair[4];
};

struct __align__(8) half4 {
    __half2 pair[2];
};

__device__ __forceinline__ half8 half8_load(const void *from)
{
    half8 h;
    *reinterpret_cast<uint4 *>(&h) = *static_cast<const uint4 *>(from);
    return h;
}

__device__ __forceinline__ half8 half8_zero()
{
    half8 h;
    *reinterpret_cast<uint4 *>(&h) = make_uint4(0, 0, 0, 0);
    return h;
}

__device__ __forceinline__ float4 half4_floats(const void *from)
{
    half4 h;
    *reinterpret_cast<uint2 *>(&h) = *static_cast<const uint2 *>(from);
    const float2 low = __half22float2(h.pair[0]), high = __half22float2(h.pair[1]);
    return make_float4(low.x, low.y, high.x, high.y);
}

/* h or zeros, without a branch. */
__device__ __forceinline__ half8 half8_if(bool is_there, const half8 &h)
{
    const uint4 bits = *reinterpret_cast<const uint4 *>(&h);
    half8 out;
    *reinterpret_cast<uint4 *>(&out) = make_uint4(is_there ? bits.x : 0, is_there ? bits.y : 0,
                                                  is_there ? bits.z : 0, is_there ? bits.w : 0);
    return out;
}

/* Channels [c, c + 8) of a pixel, c a multiple of 8; channels beyond the last are 0. */
__device__ __forceinline__ void load_channels8(float (&x)[8], const view &v, size_t pixel, int c)
{
    const size_t at = pixel * v.stride + static_cast<size_t>(c);
    if (v.vectors && v.type == DT_F16) {
        const half8 h = half8_load(static_cast<const __half *>(v.data) + at);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const float2 f = __half22float2(h.pair[i]);
            x[2 * i] = f.x * v.scale;
            x[2 * i + 1] = f.y * v.scale;
        }
    } else if (v.vectors && v.type == DT_F32) {
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const float4 f =
                *reinterpret_cast<const float4 *>(static_cast<const float *>(v.data) + at + 4 * i);
            x[4 * i] = f.x * v.scale;
            x[4 * i + 1] = f.y * v.scale;
            x[4 * i + 2] = f.z * v.scale;
            x[4 * i + 3] = f.w * v.scale;
        }
    } else {
#pragma unroll
        for (int i = 0; i < 8; i++)
            x[i] = c + i < v.c ? load_element(v.data, v.type, at + static_cast<size_t>(i)) * v.scale
                               : 0.0f;
    }
}

/* Likewise; what is beyond the last channel is not stored. */
__device__ __forceinline__ void store_channels8(const view &v, size_t pixel, int c,
                                                const float (&x)[8])
{
    const size_t at = pixel * v.stride + static_cast<size_t>(c);
    if (v.vectors && v.type == DT_F16) {
        half8 h;
#pragma unroll
        for (int i = 0; i < 4; i++)
            h.pair[i] = __floats2half2_rn(x[2 * i] * v.inverse, x[2 * i + 1] * v.inverse);
        *reinterpret_cast<half8 *>(static_cast<__half *>(v.data) + at) = h;
    } else if (v.vectors && v.type == DT_F32) {
#pragma unroll
        for (int i = 0; i < 2; i++)
            *reinterpret_cast<float4 *>(static_cast<float *>(v.data) + at + 4 * i) =
                make_float4(x[4 * i] * v.inverse, x[4 * i + 1] * v.inverse,
                            x[4 * i + 2] * v.inverse, x[4 * i + 3] * v.inverse);
    } else {
#pragma unroll
        for (int i = 0; i < 8; i++)
            if (c + i < v.c)
                store_element(v.data, v.type, at + static_cast<size_t>(i), x[i] * v.inverse);
    }
}

/* x / (1 + e^-x).  No branch, and no NaN while x is finite: where e^-x overflows, its reciprocal
 * is 0. */
__device__ __forceinline__ float silu_float(float x)
{
    return x * reciprocal_fast(1.0f + exp2_fast(x * -LOG2E));
}

/* x / (1 + e^(-1.702 x)), as CLIP ViT-L has it. */
__device__ __forceinline__ float quick_gelu_float(float x)
{
    return x * reciprocal_fast(1.0f + exp2_fast(x * (-1.702f * LOG2E)));
}

/* x Phi(x), by erf. */
__device__ __forceinline__ float gelu_float(float x)
{
    return 0.5f * x * (1.0f + erff(x * 0.70710678118654752440f));
}

#endif
