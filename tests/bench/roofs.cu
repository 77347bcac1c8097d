/* tests/bench/roofs.cu -- kernels that do one thing as fast as the card can.
 *
 * A warp keeps so many sums going that no instruction waits for the one before it; the operands
 * stay in registers.  They are as random as weights are, for a card slows its clock by the power
 * that it draws, and zeros draw little.
 */
#include "tests/bench/roofs.h"

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <stdint.h>

enum { THREADS = 256, WARPS = THREADS / 32, CHAINS = 8 };

/* ---- one instruction, one sum ---- */

struct f16_f32 {
    float d[4];
    static constexpr double MACS = 16 * 8 * 16; /* of a warp */

    __device__ __forceinline__ void step(const uint32_t (&a)[4], const uint32_t (&b)[2])
    {
#if __CUDA_ARCH__ >= 800
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
                     "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
        for (int i = 0; i < 2; i++)
            asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 "
                         "{%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
                         : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                         : "r"(a[2 * i]), "r"(a[2 * i + 1]), "r"(b[i]));
#endif
    }
    __device__ float value() const { return d[0] + d[1] + d[2] + d[3]; }
};

struct f16_f16 {
    uint32_t d[2];
    static constexpr double MACS = 16 * 8 * 16;

    __device__ __forceinline__ void step(const uint32_t (&a)[4], const uint32_t (&b)[2])
    {
#if __CUDA_ARCH__ >= 800
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f16.f16.f16.f16 "
                     "{%0,%1}, {%2,%3,%4,%5}, {%6,%7}, {%0,%1};"
                     : "+r"(d[0]), "+r"(d[1])
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
        for (int i = 0; i < 2; i++)
            asm volatile("mma.sync.aligned.m16n8k8.row.col.f16.f16.f16.f16 "
                         "{%0,%1}, {%2,%3}, {%4}, {%0,%1};"
                         : "+r"(d[0]), "+r"(d[1])
                         : "r"(a[2 * i]), "r"(a[2 * i + 1]), "r"(b[i]));
#endif
    }
    __device__ float value() const { return static_cast<float>(d[0] ^ d[1]); }
};

struct s8 {
    int d[4];
    static constexpr double MACS = 16 * 8 * 32;

    __device__ __forceinline__ void step(const uint32_t (&a)[4], const uint32_t (&b)[2])
    {
#if __CUDA_ARCH__ >= 800
        asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 "
                     "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                     : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
        /* 7.5 has m8n8k16, a quarter of that, of which these are four. */
        for (int i = 0; i < 4; i++)
            asm volatile("mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 "
                         "{%0,%1}, {%2}, {%3}, {%0,%1};"
                         : "+r"(d[2 * (i % 2)]), "+r"(d[2 * (i % 2) + 1])
                         : "r"(a[i]), "r"(b[i / 2]));
#endif
    }
    __device__ float value() const { return static_cast<float>(d[0] ^ d[1] ^ d[2] ^ d[3]); }
};

struct fma_f32 {
    float d[4];
    static constexpr double MACS = 4 * 32;

    __device__ __forceinline__ void step(const uint32_t (&a)[4], const uint32_t (&b)[2])
    {
        for (int i = 0; i < 4; i++)
            d[i] = fmaf(d[i], __uint_as_float(a[i]), __uint_as_float(b[i % 2]));
    }
    __device__ float value() const { return d[0] + d[1] + d[2] + d[3]; }
};

struct fma_half2 {
    uint32_t d[4];
    static constexpr double MACS = 2 * 4 * 32;

    __device__ __forceinline__ void step(const uint32_t (&a)[4], const uint32_t (&b)[2])
    {
        for (int i = 0; i < 4; i++)
            asm volatile("fma.rn.f16x2 %0, %0, %1, %2;" : "+r"(d[i]) : "r"(a[i]), "r"(b[i % 2]));
    }
    __device__ float value() const { return static_cast<float>(d[0] ^ d[1] ^ d[2] ^ d[3]); }
};

/* ---- many of them ---- */

/* Two halves of either sign between 1/2 and 1, or four bytes of int8. */
static __device__ uint32_t random_operand(uint32_t i)
{
    uint32_t x = i * 2654435761u + 12345u;
    x ^= x >> 15;
    x *= 0x2c1b3c6du;
    x ^= x >> 12;
    return (x & 0x83ff83ffu) | 0x38003800u;
}

static __device__ unsigned long long nanoseconds_now()
{
    unsigned long long t;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(t));
    return t;
}

template <class S>
static __global__ void __launch_bounds__(THREADS) multiply_kernel(int rounds, char *sink)
{
    uint32_t a[4], b[2];
    S sum[CHAINS] = {};
    float all = 0;
    for (int i = 0; i < 4; i++)
        a[i] = random_operand(8 * threadIdx.x + i);
    for (int i = 0; i < 2; i++)
        b[i] = random_operand(8 * threadIdx.x + 4 + i);

    const unsigned long long t0 = nanoseconds_now();
    const long long c0 = clock64();
    for (int r = 0; r < rounds; r++)
#pragma unroll
        for (int i = 0; i < CHAINS; i++)
            sum[i].step(a, b);
    const long long c1 = clock64();
    const unsigned long long t1 = nanoseconds_now();

    for (int i = 0; i < CHAINS; i++)
        all += sum[i].value();
    reinterpret_cast<float *>(sink)[1024 + (blockIdx.x * THREADS + threadIdx.x) % 65536] = all;
    if (blockIdx.x == 0 && threadIdx.x == 0)
        *reinterpret_cast<roof_time *>(sink) = { static_cast<unsigned long long>(c1 - c0), t1 - t0 };
}

template <class S>
static cudaError_t launch_multiply(cudaStream_t s, int blocks, int rounds, void *sink)
{
    multiply_kernel<S><<<blocks, THREADS, 0, s>>>(rounds, static_cast<char *>(sink));
    return cudaGetLastError();
}

extern "C" cudaError_t roof_multiply(cudaStream_t s, roof_type t, int blocks, int rounds, void *sink)
{
    switch (t) {
    case ROOF_F16_F32: return launch_multiply<f16_f32>(s, blocks, rounds, sink);
    case ROOF_F16_F16: return launch_multiply<f16_f16>(s, blocks, rounds, sink);
    case ROOF_S8: return launch_multiply<s8>(s, blocks, rounds, sink);
    case ROOF_FMA_F32: return launch_multiply<fma_f32>(s, blocks, rounds, sink);
    default: return launch_multiply<fma_half2>(s, blocks, rounds, sink);
    }
}

extern "C" double roof_multiply_each(roof_type t)
{
    static const double MACS[N_ROOF_TYPES] = { f16_f32::MACS, f16_f16::MACS, s8::MACS,
                                               fma_f32::MACS, fma_half2::MACS };
    return MACS[t] * CHAINS * WARPS;
}

/* ---- memory ---- */

/* Four loads are under way before the first is needed. */
static __global__ void copy_kernel(uint4 *b, const uint4 *a, size_t n)
{
    const size_t step = static_cast<size_t>(gridDim.x) * blockDim.x;
    size_t i = static_cast<size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    for (; i + 3 * step < n; i += 4 * step) {
        uint4 v[4];
#pragma unroll
        for (int k = 0; k < 4; k++)
            v[k] = a[i + k * step];
#pragma unroll
        for (int k = 0; k < 4; k++)
            b[i + k * step] = v[k];
    }
    for (; i < n; i += step)
        b[i] = a[i];
}

static __global__ void read_kernel(const uint4 *a, size_t n, uint32_t *sink)
{
    const size_t step = static_cast<size_t>(gridDim.x) * blockDim.x;
    uint32_t all = 0;
#pragma unroll 4
    for (size_t i = static_cast<size_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += step) {
        const uint4 v = a[i];
        all ^= v.x ^ v.y ^ v.z ^ v.w;
    }
    if (all == 0x12345678u) /* as good as never, but who knows */
        sink[threadIdx.x] = all;
}

extern "C" cudaError_t roof_copy(cudaStream_t s, void *b, const void *a, size_t bytes, int blocks)
{
    copy_kernel<<<blocks, 512, 0, s>>>(static_cast<uint4 *>(b), static_cast<const uint4 *>(a),
                                       bytes / sizeof(uint4));
    return cudaGetLastError();
}

extern "C" cudaError_t roof_read(cudaStream_t s, const void *a, size_t bytes, int blocks, void *sink)
{
    read_kernel<<<blocks, 512, 0, s>>>(static_cast<const uint4 *>(a), bytes / sizeof(uint4),
                                       static_cast<uint32_t *>(sink));
    return cudaGetLastError();
}

/* ---- nothing ---- */

static __global__ void nothing_kernel() {}

static __global__ void wait_kernel(unsigned nanoseconds)
{
    const unsigned long long t0 = nanoseconds_now();
    while (nanoseconds_now() - t0 < nanoseconds)
        continue;
}

extern "C" cudaError_t roof_nothing(cudaStream_t s)
{
    nothing_kernel<<<1, 32, 0, s>>>();
    return cudaGetLastError();
}

extern "C" cudaError_t roof_wait(cudaStream_t s, unsigned nanoseconds)
{
    wait_kernel<<<1, 1, 0, s>>>(nanoseconds);
    return cudaGetLastError();
}
