/* kernels/cuda/quantise.cu -- eight threads share a group, each with eight channels of it. */
#include "kernels/cuda/quantise.cuh"

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/launch.cuh"

enum { QUANTISE_THREADS = 256, SHARE = 8 /* threads of a group */ };

struct quantise_args {
    normed in;
    int8_t *q;
    float *scale;
    int groups, pixels, total; /* of a pixel; of an image; of all */
    size_t first, in_pixels;
};

/* The bits of the largest magnitude of a group.  As integers, infinity and NaN are above all
 * numbers. */
__device__ __forceinline__ unsigned group_absmax_bits(const float (&x)[8])
{
    unsigned most = 0;
#pragma unroll
    for (int i = 0; i < 8; i++)
        most = max(most, __float_as_uint(x[i]) & 0x7fffffffu);
#pragma unroll
    for (int step = 1; step < SHARE; step *= 2)
        most = max(most, __shfl_xor_sync(~0u, most, step));
    return most;
}

/* Rounded to an integer by what is added. */
__device__ __forceinline__ unsigned quantise_to_byte(float x, float by)
{
    const float MAGIC = 0x1.8p23f;
    const float shifted = __fadd_rn(__fmul_rn(x, by), MAGIC);
    return (__float_as_uint(shifted) - __float_as_uint(MAGIC)) & 0xffu;
}

__device__ __forceinline__ unsigned quantise_to_word(const float *x, float by)
{
    return quantise_to_byte(x[0], by) | quantise_to_byte(x[1], by) << 8 |
           quantise_to_byte(x[2], by) << 16 | quantise_to_byte(x[3], by) << 24;
}

/* Nobody leaves before all have met; what is beyond the last pixel is not stored. */
__global__ void __launch_bounds__(QUANTISE_THREADS, 4) quantise_kernel(const quantise_args a)
{
    const size_t at = static_cast<size_t>(blockIdx.x) * QUANTISE_THREADS + threadIdx.x;
    const size_t group = at / SHARE;
    const int pixel = static_cast<int>(group / a.groups), image = pixel / a.pixels;
    const int c = static_cast<int>(group % a.groups) * I8_GROUP + static_cast<int>(at % SHARE) * 8;
    const bool there = pixel < a.total;
    float x[8] = {};

    if (there && c < a.in.c) {
        gather_channels8(x, a.in,
                         static_cast<size_t>(image) * a.in_pixels + a.first + pixel % a.pixels, c);
        apply_affine8(x, a.in, image, c);
        apply_act8(x, a.in.act);
    }
    const unsigned bits = group_absmax_bits(x);
    const bool finite = bits < 0x7f800000u;
    const float most = finite ? __uint_as_float(bits) : 0.0f;
    const float by = most > 0x1p-100f ? __fdiv_rn(static_cast<float>(I8_MAX), most) : 0.0f;
    if (!there)
        return;
    if (!finite) {
#pragma unroll
        for (int i = 0; i < 8; i++)
            x[i] = 0.0f;
    }
    *reinterpret_cast<uint2 *>(a.q + at * 8) =
        make_uint2(quantise_to_word(x, by), quantise_to_word(x + 4, by));
    if (at % SHARE == 0)
        a.scale[group] = !finite  ? __uint_as_float(0x7fc00000u)
                         : by > 0 ? __fdiv_rn(most, static_cast<float>(I8_MAX))
                                  : 0.0f;
}

void quantise_run(dev *d, void *to, int images, int pixels, const normed &in, size_t first,
                  size_t in_pixels)
{
    quantise_args a = {};
    a.in = in;
    a.q = static_cast<int8_t *>(to);
    a.groups = i8_slabs(in.c);
    a.pixels = pixels;
    a.total = images * pixels;
    a.scale = const_cast<float *>(quantised_scales(to, static_cast<size_t>(a.total), in.c));
    a.first = first;
    a.in_pixels = in_pixels;
    const size_t work = static_cast<size_t>(a.total) * a.groups * SHARE;
    launch_kernel(d, quantise_kernel, blocks_of(work, QUANTISE_THREADS), QUANTISE_THREADS, 0, a);
}

extern "C" void cuda_load_quantise(dev *d) { load_kernel<0>(d, quantise_kernel); }
