/* tests/support/cuda_opening.h -- how the CUDA devices of a test are opened.
 *
 * The linker's --wrap puts this between a device and its probe and self-test.
 *
 * With REFINE_SELF_TEST=off in the environment a device opens without the self-test, so that of a
 * card on which one family of kernels is wrong all the others can still be tried;
 * tests/cuda/self_test.c says which is.
 */
#ifndef TEST_CUDA_OPENING_H
#define TEST_CUDA_OPENING_H

#include "kernels/cuda/cuda.h"

/* What the first device of a compute type found by its probe and self-test holds for all that this
 * process opens later: on an emulated card both take longer than an image. */
void cuda_opening_trusts(void);

/* Without any probe a device that computes in F16 multiplies so. */
void cuda_opening_multiplies(cuda_math m);

#endif
