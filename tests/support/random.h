/* tests/support/random.h -- reproducible random numbers for tests (splitmix64).
 *
 * A test keeps its seed in a uint64_t and prints it with what failed.
 */
#ifndef TEST_RANDOM_H
#define TEST_RANDOM_H

#include <math.h>
#include <stdint.h>

static inline uint64_t random_bits(uint64_t *seed)
{
    uint64_t z = *seed += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* 0 .. n - 1 */
static inline int random_below(uint64_t *seed, int n)
{
    return (int)(random_bits(seed) % (uint64_t)n);
}

/* low .. high, as likely from 10 to 100 as from 100 to 1000. */
static inline int random_scale(uint64_t *seed, int low, int high)
{
    const double u = (double)(random_bits(seed) >> 11) * 0x1p-53;
    const double v = exp(log(low) + u * (log(high + 1) - log(low)));
    return v < low ? low : v > high ? high : (int)v;
}

/* Uniform in [-1, 1). */
static inline float random_float(uint64_t *seed)
{
    return (float)(random_bits(seed) >> 40) * 0x1p-23f - 1.0f;
}

#endif
