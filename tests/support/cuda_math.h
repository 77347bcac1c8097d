/* tests/support/cuda_math.h -- the ways in which the CUDA device multiplies, for tests of each.
 *
 * The device is told to, whatever its card is best at: the kernels of all ways are loaded on every
 * card, so what a GTX 16 runs is tried on one with tensor cores too.
 */
#ifndef TEST_CUDA_MATH_H
#define TEST_CUDA_MATH_H

#include "kernels/cuda/cuda.h"
#include "tests/support/field.h"

/* A device that multiplies so.  One that cannot be opened fails the test. */
dev *cuda_math_open(cuda_math m);

/* The type of activations that it is chosen for; scaled ones are always F16.  A real card, which is
 * fast, tries others too. */
static inline dtype cuda_math_type(cuda_math m, int exp2)
{
    return m == CUDA_F32 && exp2 == 0 ? DT_F32 : DT_F16;
}
#ifdef REFINE_CUDA_EMULATED
enum { CUDA_MATH_ALL_TYPES = 0 };
#else
enum { CUDA_MATH_ALL_TYPES = 1 };
#endif

/* What rounding operands (and, for halves, sums of eight products) to fp16 adds to a sum of k
 * products of values in [-1, 1]: a deviation of 2^-11 sqrt(k) / 6 and less, eight of which. */
double cuda_math_error(cuda_math m, int k);

/* Adds a line of JSON to the file that REFINE_ERRORS names, if it does: how far a kernel was off,
 * how far it may be, and the largest value there was. */
void cuda_math_note(const char *kernel, cuda_math m, double off, double allowed, double peak);

#endif
