/* kernels/cuda/layernorm.cu -- (x - mean) / sqrt(var + eps) * gain + bias of each pixel.
 *
 * A warp per pixel reads it three times, once from memory and twice from the cache: for the mean,
 * for the squares about it, and to write.
 */
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/view.cuh"

enum { THREADS = 128, WARPS = THREADS / 32 };

struct layernorm_args {
    view y, x;
    const float *gain, *bias;
    size_t pixels;
    float each, eps; /* 1 / channels */
};

__device__ __forceinline__ float warp_sum_float(float v)
{
#pragma unroll
    for (int step = 16; step; step /= 2)
        v += __shfl_xor_sync(~0u, v, step);
    return v;
}

__global__ void __launch_bounds__(THREADS) layernorm_kernel(const layernorm_args a)
{
    const size_t pixel = static_cast<size_t>(blockIdx.x) * WARPS + threadIdx.x / 32;
    const int first = static_cast<int>(threadIdx.x) % 32 * 8, channels = a.x.c;
    if (pixel >= a.pixels)
        return;
    float sum = 0, squares = 0;

    for (int c = first; c < channels; c += 32 * 8) {
        float x[8];
        load_channels8(x, a.x, pixel, c);
#pragma unroll
        for (int i = 0; i < 8; i++)
            sum += x[i];
    }
    const float mean = warp_sum_float(sum) * a.each;
    for (int c = first; c < channels; c += 32 * 8) {
        float x[8];
        load_channels8(x, a.x, pixel, c);
#pragma unroll
        for (int i = 0; i < 8; i++)
            if (c + i < channels)
                squares += (x[i] - mean) * (x[i] - mean);
    }
    const float scale = rsqrtf(warp_sum_float(squares) * a.each + a.eps);
    for (int c = first; c < channels; c += 32 * 8) {
        float x[8];
        load_channels8(x, a.x, pixel, c);
#pragma unroll
        for (int i = 0; i < 8; i++)
            if (c + i < channels)
                x[i] = (x[i] - mean) * scale * __ldg(a.gain + c + i) + __ldg(a.bias + c + i);
        store_channels8(a.y, pixel, c, x);
    }
}

extern "C" void cuda_layernorm(dev *d, tensor y, tensor x, tensor gain, tensor bias, float eps)
{
    layernorm_args a = {};
    a.y = view_of(y);
    a.x = view_of(x);
    a.gain = static_cast<const float *>(gain.data);
    a.bias = static_cast<const float *>(bias.data);
    a.pixels = static_cast<size_t>(x.n) * tensor_pixels(x);
    a.each = 1.0f / static_cast<float>(x.c);
    a.eps = eps;
    launch_kernel(d, layernorm_kernel, blocks_of(a.pixels, WARPS), THREADS, 0, a);
}

extern "C" void cuda_load_layernorm(dev *d) { load_kernel<0>(d, layernorm_kernel); }
