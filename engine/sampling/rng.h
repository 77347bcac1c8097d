/* engine/sampling/rng.h -- the noise that torch draws, from the same seeds.
 *
 * An image made here and one made by diffusers start from the same noise.  Values agree
 * with torch to a few ulp (its own differ that much between CPUs); the draws from the
 * generator agree exactly.
 */
#ifndef REFINE_RNG_H
#define REFINE_RNG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum rng_kind {
    RNG_TORCH, /* torch.Generator("cpu"): Mersenne Twister */
    RNG_PHILOX /* torch.Generator("cuda"): Philox 4x32-10 */
} rng_kind;

/* A value: nothing to close.  Copying it copies its place in the sequence.
 * `blocks` may be set after rng_open: the thread blocks of 256 that a GPU keeps resident,
 * multiprocessors * (threads per multiprocessor / 256).  A tensor of more than
 * 256 * blocks elements comes out differently on smaller GPUs. */
typedef struct rng {
    rng_kind kind;
    uint32_t state[624]; /* RNG_TORCH */
    unsigned at;
    bool has_spare; /* the second half of a pair drawn for a short tensor */
    double spare;
    uint64_t seed;   /* RNG_PHILOX */
    uint64_t offset; /* Philox blocks of four consumed by each lane */
    uint32_t blocks; /* of the GPU imitated; 0, as rng_open leaves it: large enough */
} rng;

void rng_open(rng *r, rng_kind kind, uint64_t seed);

/* torch.randn: n standard normal values.  How they come out depends on n: drawing 32
 * and drawing 16 twice are the same, drawing 20 and drawing 10 twice are not. */
void rng_randn(rng *r, float *out, size_t n);

#endif
