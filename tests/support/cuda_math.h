/* tests/support/cuda_math.h -- the ways in which the CUDA device multiplies, for tests of each.
 *
 * On the emulated card the device is made to find them; on a real one it is what it is, and the
 * others are skipped.
 */
#ifndef TEST_CUDA_MATH_H
#define TEST_CUDA_MATH_H

#include "kernels/cuda/cuda.h"
#include "tests/support/field.h"

/* A device that multiplies so; NULL: not on this card. */
dev *cuda_math_open(cuda_math m);

/* What rounding operands (and, for halves, sums of eight products) to fp16 adds to a sum of k
 * products of values in [-1, 1]: a deviation of 2^-11 sqrt(k) / 6 and less, eight of which. */
double cuda_math_error(cuda_math m, int k);

#endif
