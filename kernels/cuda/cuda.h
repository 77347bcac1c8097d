/* kernels/cuda/cuda.h -- what the files of the CUDA device share.
 *
 * Storage is fp16 and sums are F32 (compute F16), or everything is F32.  Every output is computed
 * by one thread or warp from start to end, with its sum over k in an order that depends on
 * nothing but the shape of one image and one row of the matrix, and no float is ever added
 * atomically: so results do not depend on chunks, on bands, or on how many images travel
 * together.
 *
 * All work is enqueued on two streams; nothing is allocated after opening.  No operator needs
 * workspace unless it says so.
 */
#ifndef REFINE_CUDA_H
#define REFINE_CUDA_H

#include "kernels/backend.h"

#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

/* How products are computed, chosen once when the device is opened (cuda_probe). */
typedef enum cuda_math {
    CUDA_TENSOR_CORES, /* mma.sync: fp16 products, F32 sums */
    CUDA_HALF2,        /* without them: fp16 pairs, their sums carried over to F32 every 16 k */
    CUDA_F32
} cuda_math;

/* Tiles of a product on tensor cores: pixels x rows of the matrix of a block. */
typedef enum cuda_tile { CUDA_128X128, CUDA_128X64, CUDA_64X64, CUDA_TILES } cuda_tile;

typedef struct cuda_dev {
    dev base;
    int ordinal;
    cudaStream_t stream[2]; /* by dev_queue */
    dtype compute;          /* F16 or F32 */
    cuda_math math;
    bool int8_math;              /* int8 weights meet int8 pixels */
    int processors;         /* streaming multiprocessors */
    int mma_rate;           /* multiply-adds of F16 with F32 sums, a cycle of one of them */
    int held[CUDA_TILES];   /* blocks of a tile that one of them holds */
    double attention_macs;  /* multiply-adds that a launch of attention has at most, about */
    cuda_tile only;         /* the one that is to be taken; CUDA_TILES: the fastest */
} cuda_dev;

static inline cuda_dev *cuda_of(dev *d) { return (cuda_dev *)(void *)d; }
static inline const cuda_dev *cuda_peek(const dev *d) { return (const cuda_dev *)(const void *)d; }

/* One line about an error, and the status that goes with it.  `doing` says what failed, where the
 * error itself does not. */
refine_status cuda_explain(char *text, size_t size, cudaError_t e, const char *doing);

/* Makes the device fail, with one line that says what to do; cudaSuccess does nothing.  Returns
 * whether all is well. */
bool cuda_check(dev *d, cudaError_t e, const char *doing);

/* Chooses c->math for compute F16 by timing small products both ways. */
void cuda_probe(cuda_dev *c);

/* Computes with every family of kernels, in the way of multiplying that was chosen, what must come
 * out to the bit; where it does not the device fails with one line that names the card. */
void cuda_self_test(cuda_dev *c);

/* The same of one family alone, for tests; the name of family i from 0 on, NULL after the last. */
void cuda_self_test_one(cuda_dev *c, int i);
const char *cuda_self_test_family(int i);

/* Bytes that the card's context took, noted by the device that was the first on it; 0: none was. */
size_t cuda_context_noted(dev *d);
void cuda_context_note(dev *d, size_t bytes);

/* Loads the kernels of a file, so that none is loaded, and no device memory taken, later. */
void cuda_load_products(dev *d);
void cuda_load_attention(dev *d);
void cuda_load_groupnorm(dev *d);
void cuda_load_layernorm(dev *d);
void cuda_load_elements(dev *d);
void cuda_load_quantise(dev *d);

DECLARE_OPERATORS(cuda)

#ifdef __cplusplus
}
#endif
#endif
