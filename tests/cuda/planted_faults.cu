/* tests/cuda/planted_faults.cu -- a race in shared memory, and a store behind the end. */
#include "tests/cuda/planted_faults.h"

#include <cuda_runtime.h>

static __global__ void race_kernel(int *out)
{
    __shared__ volatile int value[PLANTED_THREADS];
    const int t = static_cast<int>(threadIdx.x);
    value[t] = t;
    out[t] = value[(t + 32) % PLANTED_THREADS];
}

static __global__ void overflow_kernel(int *out, int n)
{
    const int t = static_cast<int>(threadIdx.x);
    if (t <= n)
        out[t] = t;
}

extern "C" cudaError_t planted_race(int *out)
{
    race_kernel<<<1, PLANTED_THREADS>>>(out);
    return cudaGetLastError();
}

extern "C" cudaError_t planted_overflow(int *out, int n)
{
    overflow_kernel<<<1, PLANTED_THREADS>>>(out, n);
    return cudaGetLastError();
}
