/* engine/base/num.h -- arithmetic on numbers that came out of a file.
 *
 * Every function returns false when the exact result does not fit, and then
 * leaves *out alone.
 */
#ifndef REFINE_NUM_H
#define REFINE_NUM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline bool num_add(uint64_t a, uint64_t b, uint64_t *out)
{
    uint64_t r;
    if (__builtin_add_overflow(a, b, &r))
        return false;
    *out = r;
    return true;
}

static inline bool num_mul(uint64_t a, uint64_t b, uint64_t *out)
{
    uint64_t r;
    if (__builtin_mul_overflow(a, b, &r))
        return false;
    *out = r;
    return true;
}

/* Is [at, at + len) inside [0, size)? */
static inline bool num_within(uint64_t at, uint64_t len, uint64_t size)
{
    return at <= size && len <= size - at;
}

/* Digits with which %.*g writes v in three of them or all before the point: 0.123, 12.3, 12345. */
static inline int num_digits(double v)
{
    int digits = 3;
    for (double most = 999.5; v >= most && digits < 15; most = most * 10 + 4.5)
        digits++;
    return digits;
}

/* Round up to a multiple of `to`, a power of two; the caller knows it fits. */
static inline size_t num_align(size_t v, size_t to) { return (v + to - 1) & ~(to - 1); }

static inline size_t num_min(size_t a, size_t b) { return a < b ? a : b; }
static inline size_t num_max(size_t a, size_t b) { return a > b ? a : b; }

#endif
