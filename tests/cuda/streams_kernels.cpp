/* tests/cuda/streams_kernels.cpp -- what looks at weights on the card. */
#include "tests/cuda/streams_kernels.h"

#include <cuda_runtime.h>

static __global__ void compare_kernel(unsigned *wrong, const void *at, const void *want,
                                      size_t bytes)
{
    const size_t each = (bytes + blockDim.x - 1) / blockDim.x, begin = each * threadIdx.x;
    const size_t n = begin >= bytes ? 0 : begin + each <= bytes ? each : bytes - begin;
    if (memcmp(static_cast<const char *>(at) + begin, static_cast<const char *>(want) + begin, n))
        atomicAdd(wrong, 1u);
}

cudaError_t weights_compare(cudaStream_t s, unsigned *wrong, const void *at, const void *want,
                            size_t bytes)
{
    cudaLaunchConfig_t c = {};
    c.gridDim = 1;
    c.blockDim = 32;
    c.stream = s;
    return cudaLaunchKernelEx(&c, compare_kernel, wrong, at, want, bytes);
}
