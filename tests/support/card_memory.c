/* tests/support/card_memory.c -- asks the driver's library, else CUDA. */
#include "tests/support/card_memory.h"

#ifdef REFINE_WITH_CUDA
#include "kernels/cuda/cuda_memory.h"

#include <cuda_runtime_api.h>

bool card_memory_used(size_t *bytes, bool has_context)
{
    struct cudaDeviceProp p;
    size_t free_bytes, total;
    if (cudaGetDeviceProperties(&p, 0) == cudaSuccess &&
        cuda_memory_used(bytes, p.pciDomainID, p.pciBusID, p.pciDeviceID))
        return true;
    if (!has_context || cudaMemGetInfo(&free_bytes, &total) != cudaSuccess)
        return false;
    *bytes = total - free_bytes;
    return true;
}
#else
bool card_memory_used(size_t *bytes, bool has_context)
{
    (void)bytes, (void)has_context;
    return false;
}
#endif
