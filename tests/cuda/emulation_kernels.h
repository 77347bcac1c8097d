/* tests/cuda/emulation_kernels.h -- small kernels by which test_emulation*.c try the emulation.
 * Each function enqueues one block; pointers are the card's. */
#ifndef TEST_EMULATION_KERNELS_H
#define TEST_EMULATION_KERNELS_H

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { TRIAL_THREADS = 256, TRIAL_ROUNDS = 5 };

/* A lane's fragments of one product, and of 2 x 2 of them. */
typedef struct trial_fragments {
    uint32_t a[4], b[2];
    float d[4];
} trial_fragments;
typedef struct trial_tile {
    uint32_t a[2][4], b[2][2];
    float d[2][2][4];
} trial_tile;
/* A lane's of two products of int8 side by side, 64 deep. */
typedef struct trial_int8 {
    uint32_t a[2][1][4], b[2][2][2]; /* by halves of k */
    int d[1][2][4];
} trial_int8;
cudaError_t trial_mma_int8(cudaStream_t s, trial_int8 *lanes);
cudaError_t trial_mma(cudaStream_t s, trial_fragments *lanes);
cudaError_t trial_mma_tile(cudaStream_t s, trial_tile *lanes);

/* rows[8 i + r] is row r of matrix i; out[lane][i]. */
cudaError_t trial_load_matrices(cudaStream_t s, uint32_t (*out)[4], const uint16_t (*rows)[8],
                                bool transposed);

/* What each lane of a warp sees of its neighbours' 100 + lane. */
typedef struct trial_seen {
    int from_3, from_xor_5, from_down_4, from_up_4;
    uint32_t thirds; /* a vote: lanes divisible by three */
    int any, all, none;
} trial_seen;
cudaError_t trial_collectives(cudaStream_t s, trial_seen *lanes);

/* out[block] = how many blocks came before, in a grid of 2 x 3 x 4. */
cudaError_t trial_turns(cudaStream_t s, unsigned *count, unsigned *out);

/* *sum += every thread's number; it was `before` when some thread came. */
cudaError_t trial_atomics(cudaStream_t s, unsigned *sum, unsigned *before);

/* TRIAL_ROUNDS times v[t] = 3 v[TRIAL_THREADS - 1 - t] + t through shared memory, with the barrier
 * after writing and the one after reading, or without. */
cudaError_t trial_exchange(cudaStream_t s, unsigned *v, bool after_writing, bool after_reading);
/* Likewise within warps: rotates by one lane. */
cudaError_t trial_rotate(cudaStream_t s, unsigned *v, bool after_writing, bool after_reading);

/* Sixteen bytes of each thread to shared memory by themselves, of every fourth zeros: what lies
 * there then, and what its partner (TRIAL_THREADS - 1 - t) finds after the wait and the barrier,
 * or without. */
typedef struct trial_copies {
    uint32_t from[TRIAL_THREADS][4], then[TRIAL_THREADS][4], found[TRIAL_THREADS][4];
} trial_copies;
cudaError_t trial_copy(cudaStream_t s, trial_copies *of, bool wait, bool meet);

/* Threads that wait in different places: of the block, of a warp. */
cudaError_t trial_deadlock(cudaStream_t s);
cudaError_t trial_mixed_collectives(cudaStream_t s);
/* Half of the threads have ended when the others meet, which is allowed. */
cudaError_t trial_early_end(cudaStream_t s, unsigned *out);

/* p[at] = value, by one thread; *out = p[at]. */
cudaError_t trial_poke(cudaStream_t s, unsigned char *p, long at, int value);
cudaError_t trial_peek(cudaStream_t s, unsigned char *out, const unsigned char *p, long at);
/* Touches byte `at` of shared memory, of which there are so many. */
cudaError_t trial_poke_shared(cudaStream_t s, long at, size_t bytes);

/* *out += x * x + x, where x is in memory. */
cudaError_t trial_accumulate(cudaStream_t s, unsigned *out, const unsigned *x);

/* out = fma(a, b, c) of halves. */
cudaError_t trial_hfma(cudaStream_t s, uint16_t *out, uint16_t a, uint16_t b, uint16_t c);

/* One block or as many as said, of so many threads, with so much shared memory; does nothing. */
cudaError_t trial_nothing(cudaStream_t s, unsigned blocks, unsigned threads, size_t shared);
cudaError_t trial_nothing_load(void);
cudaError_t trial_nothing_allow(int shared);

/* A variable of the card, 7 in a fresh context. */
cudaError_t trial_symbol_set(int value);
cudaError_t trial_symbol_get(int *value);

/* The same number of multiply-adds, 2^20, with either. */
cudaError_t trial_tensor_work(cudaStream_t s, float *out);
cudaError_t trial_half2_work(cudaStream_t s, float *out);

#ifdef __cplusplus
}
#endif
#endif
