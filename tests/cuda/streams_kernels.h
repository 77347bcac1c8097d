/* tests/cuda/streams_kernels.h -- what looks at weights on the card; see test_streams.c. */
#ifndef TEST_STREAMS_KERNELS_H
#define TEST_STREAMS_KERNELS_H

#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

/* *wrong grows when, its turn on s having come, the bytes at the two places differ. */
cudaError_t weights_compare(cudaStream_t s, unsigned *wrong, const void *at, const void *want,
                            size_t bytes);

#ifdef __cplusplus
}
#endif
#endif
