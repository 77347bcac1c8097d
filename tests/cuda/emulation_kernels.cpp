/* tests/cuda/emulation_kernels.cpp -- small kernels; see emulation_kernels.h. */
#include "tests/cuda/emulation_kernels.h"

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ptx.cuh"

#include <cuda_fp16.h>
#include <cuda_runtime.h>

namespace {

template <class... P, class... A>
cudaError_t launch_trial(cudaStream_t s, void (*kernel)(P...), unsigned threads, size_t shared,
                         A... args)
{
    cudaLaunchConfig_t c = {};
    c.gridDim = 1;
    c.blockDim = threads;
    c.dynamicSmemBytes = shared;
    c.stream = s;
    return cudaLaunchKernelEx(&c, kernel, static_cast<P>(args)...);
}

__global__ void mma_kernel(trial_fragments *lanes)
{
    trial_fragments *mine = lanes + threadIdx.x;
    mma_half(mine->d, mine->a, mine->b);
}

__global__ void mma_tile_kernel(trial_tile *lanes)
{
    trial_tile *mine = lanes + threadIdx.x;
    mma_tile(mine->d, mine->a, mine->b);
}

__global__ void mma_int8_kernel(trial_int8 *lanes)
{
    trial_int8 *mine = lanes + threadIdx.x;
    mma_int8_tile(mine->d, mine->a, mine->b);
}

template <bool TRANSPOSED>
__global__ void load_matrices_kernel(uint32_t (*out)[4], const uint16_t (*rows)[8])
{
    uint4 *at = shared_memory<uint4>() + threadIdx.x;
    *at = *reinterpret_cast<const uint4 *>(rows[threadIdx.x]);
    __syncwarp();
    if (TRANSPOSED)
        load_matrices_transposed(out[threadIdx.x], at);
    else
        load_matrices(out[threadIdx.x], at);
}

__global__ void collectives_kernel(trial_seen *lanes)
{
    const int lane = static_cast<int>(threadIdx.x), value = 100 + lane;
    trial_seen *mine = lanes + lane;
    mine->from_3 = __shfl_sync(~0u, value, 3);
    mine->from_xor_5 = __shfl_xor_sync(~0u, value, 5);
    mine->from_down_4 = __shfl_down_sync(~0u, value, 4);
    mine->from_up_4 = __shfl_up_sync(~0u, value, 4);
    mine->thirds = __ballot_sync(~0u, lane % 3 == 0);
    mine->any = __any_sync(~0u, lane == 17);
    mine->all = __all_sync(~0u, lane < 32);
    mine->none = __any_sync(~0u, lane > 31);
}

__global__ void turns_kernel(unsigned *count, unsigned *out)
{
    if (threadIdx.x == 0)
        out[(blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x] = atomicAdd(count, 1u);
}

__global__ void atomics_kernel(unsigned *sum, unsigned *before)
{
    before[threadIdx.x] = atomicAdd(sum, threadIdx.x);
}

template <bool AFTER_WRITING, bool AFTER_READING> __global__ void exchange_kernel(unsigned *v)
{
    unsigned *s = shared_memory<unsigned>();
    const unsigned t = threadIdx.x;
    unsigned x = v[t];
    for (int i = 0; i < TRIAL_ROUNDS; i++) {
        s[t] = x;
        if (AFTER_WRITING)
            __syncthreads();
        x = 3 * s[TRIAL_THREADS - 1 - t] + t;
        if (AFTER_READING)
            __syncthreads();
    }
    v[t] = x;
}

template <bool AFTER_WRITING, bool AFTER_READING> __global__ void rotate_kernel(unsigned *v)
{
    unsigned *s = shared_memory<unsigned>();
    const unsigned t = threadIdx.x, next = t / 32 * 32 + (t + 1) % 32;
    unsigned x = v[t];
    for (int i = 0; i < TRIAL_ROUNDS; i++) {
        s[t] = x;
        if (AFTER_WRITING)
            __syncwarp();
        x = 3 * s[next] + t;
        if (AFTER_READING)
            __syncwarp();
    }
    v[t] = x;
}

template <bool WAIT, bool MEET>
__global__ void trial_copies_kernel(trial_copies *of)
{
    uint4 *s = shared_memory<uint4>();
    const unsigned t = threadIdx.x;
    copy16_async(&s[t], of->from[t], t % 4 != 3);
    memcpy(of->then[t], &s[t], sizeof *s);
    if (WAIT)
        copies_wait();
    if (MEET)
        __syncthreads();
    memcpy(of->found[t], &s[TRIAL_THREADS - 1 - t], sizeof *s);
}

__global__ void deadlock_kernel()
{
    if (threadIdx.x < 32)
        __syncthreads();
    else if (threadIdx.x < 48)
        __syncwarp();
    else
        __syncthreads();
}

__global__ void mixed_collectives_kernel()
{
    if (threadIdx.x % 2)
        __syncwarp();
    else
        (void)__any_sync(~0u, 1);
}

__global__ void early_end_kernel(unsigned *out)
{
    unsigned *s = shared_memory<unsigned>();
    const unsigned t = threadIdx.x;
    if (t % 2)
        return;
    s[t] = t;
    __syncthreads();
    out[t] = s[TRIAL_THREADS - 2 - t];
}

__global__ void poke_kernel(unsigned char *p, long at, int value)
{
    if (threadIdx.x == 0)
        p[at] = static_cast<unsigned char>(value);
}

__global__ void peek_kernel(unsigned char *out, const unsigned char *p, long at)
{
    if (threadIdx.x == 0)
        *out = p[at];
}

__global__ void poke_shared_kernel(long at)
{
    if (threadIdx.x == 0)
        shared_memory<volatile unsigned char>()[at] = 1;
}

__global__ void accumulate_kernel(unsigned *out, const unsigned *x)
{
    if (threadIdx.x == 0)
        *out += *x * *x + *x;
}

__global__ void hfma_kernel(uint16_t *out, uint16_t a, uint16_t b, uint16_t c)
{
    if (threadIdx.x == 0)
        *out = __half_as_ushort(
            __hfma(__ushort_as_half(a), __ushort_as_half(b), __ushort_as_half(c)));
}

__global__ void trial_nothing_kernel() {}

__device__ int symbol = 7;

__global__ void tensor_work_kernel(float *out)
{
    const uint32_t a[4] = {}, b[2] = {};
    float d[4] = {};
    for (int i = 0; i < (1 << 20) / (16 * 8 * 16); i++)
        mma_half(d, a, b);
    out[threadIdx.x] = d[0];
}

__global__ void half2_work_kernel(float *out)
{
    const __half2 one = __float2half2_rn(1.0f);
    __half2 sum = __float2half2_rn(0.0f);
    for (int i = 0; i < (1 << 20) / (32 * 2); i++)
        sum = __hfma2(one, one, sum);
    out[threadIdx.x] = __half22float2(sum).x;
}

} /* namespace */

cudaError_t trial_mma(cudaStream_t s, trial_fragments *lanes)
{
    return launch_trial(s, mma_kernel, 32, 0, lanes);
}

cudaError_t trial_mma_int8(cudaStream_t s, trial_int8 *lanes)
{
    return launch_trial(s, mma_int8_kernel, 32, 0, lanes);
}

cudaError_t trial_mma_tile(cudaStream_t s, trial_tile *lanes)
{
    return launch_trial(s, mma_tile_kernel, 32, 0, lanes);
}

cudaError_t trial_load_matrices(cudaStream_t s, uint32_t (*out)[4], const uint16_t (*rows)[8],
                                bool transposed)
{
    return launch_trial(s, transposed ? load_matrices_kernel<true> : load_matrices_kernel<false>,
                        32, 512, out, rows);
}

cudaError_t trial_collectives(cudaStream_t s, trial_seen *lanes)
{
    return launch_trial(s, collectives_kernel, 32, 0, lanes);
}

cudaError_t trial_turns(cudaStream_t s, unsigned *count, unsigned *out)
{
    cudaLaunchConfig_t c = {};
    c.gridDim = dim3(2, 3, 4);
    c.blockDim = 32;
    c.stream = s;
    return cudaLaunchKernelEx(&c, turns_kernel, count, out);
}

cudaError_t trial_atomics(cudaStream_t s, unsigned *sum, unsigned *before)
{
    return launch_trial(s, atomics_kernel, TRIAL_THREADS, 0, sum, before);
}

cudaError_t trial_exchange(cudaStream_t s, unsigned *v, bool after_writing, bool after_reading)
{
    return launch_trial(s,
                        after_writing ? after_reading ? exchange_kernel<true, true>
                                                      : exchange_kernel<true, false>
                                      : exchange_kernel<false, true>,
                        TRIAL_THREADS, TRIAL_THREADS * sizeof(unsigned), v);
}

cudaError_t trial_rotate(cudaStream_t s, unsigned *v, bool after_writing, bool after_reading)
{
    return launch_trial(s,
                        after_writing ? after_reading ? rotate_kernel<true, true>
                                                      : rotate_kernel<true, false>
                                      : rotate_kernel<false, true>,
                        TRIAL_THREADS, TRIAL_THREADS * sizeof(unsigned), v);
}

cudaError_t trial_copy(cudaStream_t s, trial_copies *of, bool wait, bool meet)
{
    return launch_trial(s,
                        wait ? meet ? trial_copies_kernel<true, true>
                                    : trial_copies_kernel<true, false>
                             : trial_copies_kernel<false, true>,
                        TRIAL_THREADS, TRIAL_THREADS * sizeof(uint4), of);
}

cudaError_t trial_deadlock(cudaStream_t s)
{
    return launch_trial(s, deadlock_kernel, 64, 0);
}

cudaError_t trial_mixed_collectives(cudaStream_t s)
{
    return launch_trial(s, mixed_collectives_kernel, 32, 0);
}

cudaError_t trial_early_end(cudaStream_t s, unsigned *out)
{
    return launch_trial(s, early_end_kernel, TRIAL_THREADS, TRIAL_THREADS * sizeof(unsigned), out);
}

cudaError_t trial_poke(cudaStream_t s, unsigned char *p, long at, int value)
{
    return launch_trial(s, poke_kernel, 32, 0, p, at, value);
}

cudaError_t trial_peek(cudaStream_t s, unsigned char *out, const unsigned char *p, long at)
{
    return launch_trial(s, peek_kernel, 32, 0, out, p, at);
}

cudaError_t trial_poke_shared(cudaStream_t s, long at, size_t bytes)
{
    return launch_trial(s, poke_shared_kernel, 32, bytes, at);
}

cudaError_t trial_accumulate(cudaStream_t s, unsigned *out, const unsigned *x)
{
    return launch_trial(s, accumulate_kernel, 32, 0, out, x);
}

cudaError_t trial_hfma(cudaStream_t s, uint16_t *out, uint16_t a, uint16_t b, uint16_t c)
{
    return launch_trial(s, hfma_kernel, 32, 0, out, a, b, c);
}

cudaError_t trial_nothing(cudaStream_t s, unsigned blocks, unsigned threads, size_t shared)
{
    cudaLaunchConfig_t c = {};
    c.gridDim = blocks;
    c.blockDim = threads;
    c.dynamicSmemBytes = shared;
    c.stream = s;
    return cudaLaunchKernelEx(&c, trial_nothing_kernel);
}

cudaError_t trial_nothing_load(void)
{
    cudaFuncAttributes a;
    return cudaFuncGetAttributes(&a, trial_nothing_kernel);
}

cudaError_t trial_nothing_allow(int shared)
{
    return cudaFuncSetAttribute(trial_nothing_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                shared);
}

cudaError_t trial_symbol_set(int value)
{
    return cudaMemcpyToSymbol(symbol, &value, sizeof value);
}

cudaError_t trial_symbol_get(int *value)
{
    return cudaMemcpyFromSymbol(value, symbol, sizeof *value);
}

cudaError_t trial_tensor_work(cudaStream_t s, float *out)
{
    return launch_trial(s, tensor_work_kernel, 32, 0, out);
}

cudaError_t trial_half2_work(cudaStream_t s, float *out)
{
    return launch_trial(s, half2_work_kernel, 32, 0, out);
}
