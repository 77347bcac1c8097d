/* kernels/cuda/launch.cuh -- kernels and the host: launching, loading, shared memory. */
#ifndef REFINE_CUDA_LAUNCH_CUH
#define REFINE_CUDA_LAUNCH_CUH

#include "kernels/cuda/cuda.h"

#include <cuda_runtime.h>

/* The dynamic shared memory of the block, which is all there is: launches give its size. */
template <class T> __device__ __forceinline__ T *shared_memory()
{
    extern __shared__ __align__(16) unsigned char dynamic_shared[];
    return reinterpret_cast<T *>(dynamic_shared);
}

/* Enqueues kernel<<<grid, block>>>(args...) on the compute stream. */
template <class... P, class... A>
void launch_kernel(dev *d, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared, A... args)
{
    cudaLaunchConfig_t c = {};
    c.gridDim = grid;
    c.blockDim = block;
    c.dynamicSmemBytes = shared;
    c.stream = cuda_of(d)->stream[DEV_COMPUTE];
    cuda_check(d, cudaLaunchKernelEx(&c, kernel, static_cast<P>(args)...), "starting a kernel");
}

/* What a block of any card of compute capability 7.5 or later can have. */
enum { SHARED_MAX = 64 << 10 };

/* Loads a kernel's code, and allows it so much dynamic shared memory: to be called for each when
 * the device is opened.  Beyond 48 KiB CUDA wants to be asked. */
template <size_t SHARED, class... P> void load_kernel(dev *d, void (*kernel)(P...))
{
    static_assert(SHARED <= SHARED_MAX, "more shared memory than the oldest cards have");
    cudaFuncAttributes a;
    if (!cuda_check(d, cudaFuncGetAttributes(&a, kernel), "loading a kernel"))
        return;
    if (SHARED > static_cast<size_t>(48) << 10)
        cuda_check(d,
                   cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                        static_cast<int>(SHARED)),
                   "giving a kernel its shared memory");
}

/* Blocks that a multiprocessor holds at a time, by the driver. */
template <class... P> int blocks_held(dev *d, void (*kernel)(P...), int threads, size_t shared)
{
    int n = 0;
    if (dev_status(d) == REFINE_OK)
        cuda_check(d, cudaOccupancyMaxActiveBlocksPerMultiprocessor(&n, kernel, threads, shared),
                   "asking how many blocks go together");
    return n;
}

static inline unsigned blocks_of(size_t work, size_t each)
{
    return static_cast<unsigned>((work + each - 1) / each);
}

#endif
