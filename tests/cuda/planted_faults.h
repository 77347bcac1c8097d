/* tests/cuda/planted_faults.h -- kernels with a fault each, for compute-sanitizer to find. */
#ifndef TEST_PLANTED_FAULTS_H
#define TEST_PLANTED_FAULTS_H

#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { PLANTED_THREADS = 128 };

/* Every thread takes what another warp has put into shared memory, with no barrier between. */
cudaError_t planted_race(int *out);

/* Writes one int behind the n of out. */
cudaError_t planted_overflow(int *out, int n);

#ifdef __cplusplus
}
#endif
#endif
