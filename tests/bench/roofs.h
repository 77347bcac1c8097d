/* tests/bench/roofs.h -- kernels that do one thing as fast as the card can (roofs.cu).
 *
 * Each is enqueued on s and returns what CUDA says of that.  `sink` takes what must be stored so
 * that nothing is left out as useless: ROOF_SINK bytes of the card's memory.
 */
#ifndef BENCH_ROOFS_H
#define BENCH_ROOFS_H

#include <cuda_runtime_api.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { ROOF_SINK = 1 << 20 };

typedef enum roof_type { ROOF_F16_F32, ROOF_F16_F16, ROOF_S8, ROOF_FMA_F32, ROOF_FMA_HALF2,
                         N_ROOF_TYPES } roof_type;

/* Multiply-adds in registers: `rounds` rounds by every warp of `blocks` blocks.  The multiply-adds
 * that one round of one block has. */
cudaError_t roof_multiply(cudaStream_t s, roof_type t, int blocks, int rounds, void *sink);
double      roof_multiply_each(roof_type t);

/* b = a, or a alone is read; bytes: a multiple of 16. */
cudaError_t roof_copy(cudaStream_t s, void *b, const void *a, size_t bytes, int blocks);
cudaError_t roof_read(cudaStream_t s, const void *a, size_t bytes, int blocks, void *sink);

/* Nothing; and nothing for so many nanoseconds. */
cudaError_t roof_nothing(cudaStream_t s);
cudaError_t roof_wait(cudaStream_t s, unsigned nanoseconds);

/* After roof_multiply: clock cycles and nanoseconds that one block of it took, in sink[0], [1]. */
typedef struct roof_time {
    unsigned long long cycles, nanoseconds;
} roof_time;

#ifdef __cplusplus
}
#endif
#endif
