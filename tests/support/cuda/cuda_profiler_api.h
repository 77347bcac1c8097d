/* tests/support/cuda/cuda_profiler_api.h -- nobody profiles a card that does not exist. */
#ifndef EMULATED_CUDA_PROFILER_API_H
#define EMULATED_CUDA_PROFILER_API_H

#include "cuda_runtime_api.h"

static inline cudaError_t cudaProfilerStart(void) { return cudaSuccess; }
static inline cudaError_t cudaProfilerStop(void) { return cudaSuccess; }

#endif
