/* kernels/cuda/groupnorm.cu -- the statistics of GroupNorm.
 *
 * A unit of rows leaves behind for each group the mean of its own values and the squares about
 * it; N units of n_u values join without loss (Chan, Golub, LeVeque 1979):
 *
 *     mean = sum n_u mean_u / N        squares = sum squares_u + n_u (mean_u - mean)^2
 *
 * A block takes one unit and as many neighbouring groups as make 64 channels, so that its reads
 * are of whole lines; a thread adds a few neighbouring channels of every so-many-th pixel, in two
 * passes, of which the second finds the unit in the cache.  Sums of a thread are F32, those of
 * threads are doubles in fixed order.  Nothing depends on the band that the unit came in.
 */
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/view.cuh"
#include "kernels/ops.h"

enum { THREADS = 256, WARPS = THREADS / 32, CHANNELS = 64 };

struct sums_args {
    double2 *out; /* (images, units, groups) */
    view a, b;
    int h, w, row0, rows, units, groups;
    int size, together;  /* channels of a group; groups of a block */
    int threads, pixels; /* side by side: threads of a pixel, and pixels; a group that has more
                          * channels than the block threads is walked through */
};

/* V neighbouring channels of a pixel, all of one source. */
template <int V>
__device__ __forceinline__ void load_few(float (&x)[V], const sums_args &s, size_t pixel, int c)
{
    const bool second = c >= s.a.c;
    const view v = view_either(second, s.b, s.a);
#pragma unroll
    for (int i = 0; i < V; i++)
        x[i] = load_channel(v, pixel, (second ? c - s.a.c : c) + i);
}

/* Four of them: halves and floats lie in one aligned piece. */
template <> __device__ __forceinline__ void load_few<4>(float (&x)[4], const sums_args &s,
                                                        size_t pixel, int c)
{
    const bool second = c >= s.a.c;
    const view v = view_either(second, s.b, s.a);
    const size_t at = pixel * v.stride + static_cast<size_t>(second ? c - s.a.c : c);
    if (v.type == DT_F16) {
        half4 h;
        *reinterpret_cast<uint2 *>(&h) =
            *reinterpret_cast<const uint2 *>(static_cast<const __half *>(v.data) + at);
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const float2 f = __half22float2(h.pair[i]);
            x[2 * i] = f.x * v.scale;
            x[2 * i + 1] = f.y * v.scale;
        }
    } else {
        const float4 f = *reinterpret_cast<const float4 *>(static_cast<const float *>(v.data) + at);
        x[0] = f.x * v.scale;
        x[1] = f.y * v.scale;
        x[2] = f.z * v.scale;
        x[3] = f.w * v.scale;
    }
}

/* What the block shares: every thread's sum, and each group's mean. */
struct sums_shared {
    float part[THREADS];
    double mean[CHANNELS + 1];
};

/* The sum of one group's parts; all lanes of the warp have it. */
__device__ __forceinline__ double group_sum(const sums_args &s, const float *part, int group)
{
    const int each = s.threads / s.together, lane = static_cast<int>(threadIdx.x) % 32;
    double sum = 0;
    for (int i = lane; i < each * s.pixels; i += 32)
        sum += static_cast<double>(part[i / each * s.threads + group * each + i % each]);
    for (int step = 16; step; step /= 2)
        sum += __shfl_xor_sync(~0u, sum, step);
    return sum;
}

template <int V> __global__ void __launch_bounds__(THREADS) sums_kernel(const sums_args s)
{
    sums_shared *shared = shared_memory<sums_shared>();
    const int thread = static_cast<int>(threadIdx.x), warp = thread / 32;
    const int group0 = static_cast<int>(blockIdx.x) * s.together;
    const int first = s.row0 + static_cast<int>(blockIdx.y) * BAND_UNIT;
    const int rows = s.row0 + s.rows - first < BAND_UNIT ? s.row0 + s.rows - first : BAND_UNIT;
    const int n = static_cast<int>(blockIdx.z), pixels = rows * s.w;
    const size_t base = (static_cast<size_t>(n) * s.h + first) * s.w;
    const double count = static_cast<double>(pixels) * s.size;
    const int lane = thread / s.threads, c = group0 * s.size + thread % s.threads * V;
    const int end = min(group0 + s.together, s.groups) * s.size;
    const int mine = min(thread % s.threads * V / s.size, s.together - 1);

    for (int pass = 0; pass < 2; pass++) {
        const float mean = pass ? static_cast<float>(shared->mean[mine]) : 0.0f;
        float sum = 0;
        for (int p = lane; p < pixels && lane < s.pixels; p += s.pixels)
            for (int k = c; k < end; k += s.threads * V) {
                float x[V];
                load_few<V>(x, s, base + p, k);
#pragma unroll
                for (int i = 0; i < V; i++) {
                    const float far = x[i] - mean;
                    sum += pass ? far * far : x[i];
                }
            }
        shared->part[thread] = sum;
        __syncthreads();
        for (int g = warp; g < s.together && group0 + g < s.groups; g += WARPS) {
            const double total = group_sum(s, shared->part, g);
            if (thread % 32 == 0 && pass == 0)
                shared->mean[g] = total / count;
            if (thread % 32 == 0 && pass == 1) {
                /* The squares are about the mean as float; these about the mean itself. */
                const double m = shared->mean[g];
                const double off = m - static_cast<double>(static_cast<float>(m));
                s.out[(static_cast<size_t>(n) * s.units + first / BAND_UNIT) * s.groups + group0 +
                      g] = make_double2(m, total - count * off * off);
            }
        }
        __syncthreads();
    }
}

struct affine_args {
    float *affine; /* (images, 2, c) */
    const double2 *sums;
    const float *gain, *bias;
    int h, units, groups, c;
    double row; /* values of a group in a row of the image */
    float eps;
};

__device__ __forceinline__ double warp_sum_double(double x)
{
    for (int step = 16; step; step /= 2)
        x += __shfl_xor_sync(~0u, x, step);
    return x;
}

__device__ __forceinline__ int norm_unit_rows(const affine_args &a, int unit)
{
    return min(static_cast<int>(BAND_UNIT), a.h - unit * BAND_UNIT);
}

/* A warp per group and image. */
__global__ void __launch_bounds__(32) affine_kernel(const affine_args a)
{
    const int g = static_cast<int>(blockIdx.x), n = static_cast<int>(blockIdx.y);
    const int lane = static_cast<int>(threadIdx.x), size = a.c / a.groups;
    const double2 *sums = a.sums + static_cast<size_t>(n) * a.units * a.groups + g;
    const double count = a.row * a.h;
    double mean = 0, squares = 0;

    for (int u = lane; u < a.units; u += 32)
        mean += a.row * norm_unit_rows(a, u) * sums[u * a.groups].x;
    mean = warp_sum_double(mean) / count;
    for (int u = lane; u < a.units; u += 32) {
        const double2 s = sums[u * a.groups];
        const double far = s.x - mean;
        squares += s.y + a.row * norm_unit_rows(a, u) * far * far;
    }
    squares = warp_sum_double(squares);
    const double slope = 1.0 / sqrt(squares / count + static_cast<double>(a.eps));
    for (int c = g * size + lane; c < (g + 1) * size; c += 32) {
        float *out = a.affine + static_cast<size_t>(n) * 2 * a.c + c;
        const double s = static_cast<double>(a.gain[c]) * slope;
        out[0] = static_cast<float>(s);
        out[a.c] = static_cast<float>(static_cast<double>(a.bias[c]) - mean * s);
    }
}

/* ---- launching ---- */

/* May channels be taken V at a time? */
static bool can_load_vectors(const view &v, int blocks)
{
    const size_t bytes = static_cast<size_t>(blocks) * dtype_bytes(static_cast<dtype>(v.type));
    return !v.data || (v.c % blocks == 0 && v.stride % static_cast<size_t>(blocks) == 0 &&
                       reinterpret_cast<uintptr_t>(v.data) % bytes == 0 && v.type != DT_BF16);
}

extern "C" size_t cuda_groupnorm_workspace(const dev *, tensor, tensor) { return 0; }

extern "C" void cuda_groupnorm_sums(dev *d, tensor sums, tensor a, tensor b, int row0, int rows)
{
    sums_args s = {};
    s.out = static_cast<double2 *>(sums.data);
    s.a = view_of(a);
    s.b = view_of(b);
    s.h = a.h;
    s.w = a.w;
    s.row0 = row0;
    s.rows = rows;
    s.units = sums.h;
    s.groups = sums.w;
    s.size = (a.c + b.c) / sums.w;
    s.together = s.size < CHANNELS ? min(sums.w, (CHANNELS + s.size - 1) / s.size) : 1;
    const int blocks =
        s.size % 4 == 0 && can_load_vectors(s.a, 4) && can_load_vectors(s.b, 4) ? 4 : 1;
    s.threads = min(s.together * s.size / blocks, static_cast<int>(THREADS));
    s.pixels = THREADS / s.threads;
    const dim3 grid(blocks_of(static_cast<size_t>(s.groups), static_cast<size_t>(s.together)),
                    blocks_of(static_cast<size_t>(rows), BAND_UNIT), static_cast<unsigned>(a.n));
    launch_kernel(d, blocks == 4 ? sums_kernel<4> : sums_kernel<1>, grid, THREADS,
                  sizeof(sums_shared), s);
}

extern "C" void cuda_groupnorm(dev *d, tensor affine, tensor sums, int h, int w, tensor gain,
                               tensor bias, float eps)
{
    affine_args a = {};
    a.affine = static_cast<float *>(affine.data);
    a.sums = static_cast<const double2 *>(sums.data);
    a.gain = static_cast<const float *>(gain.data);
    a.bias = static_cast<const float *>(bias.data);
    a.h = h;
    a.units = sums.h;
    a.groups = sums.w;
    a.c = affine.c;
    a.row = static_cast<double>(w) * (affine.c / sums.w);
    a.eps = eps;
    launch_kernel(d, affine_kernel,
                  dim3(static_cast<unsigned>(sums.w), static_cast<unsigned>(affine.n)), 32, 0, a);
}

extern "C" void cuda_load_groupnorm(dev *d)
{
    load_kernel<sizeof(sums_shared)>(d, sums_kernel<4>);
    load_kernel<sizeof(sums_shared)>(d, sums_kernel<1>);
    load_kernel<0>(d, affine_kernel);
}
