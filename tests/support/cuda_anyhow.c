/* tests/support/cuda_anyhow.c -- a card that errs is opened all the same, where a test says so.
 *
 * For REFINE_GPU_TESTS alone: the linker's --wrap puts this between the device and its self-test.
 * With REFINE_SELF_TEST=off the device opens without it, so that of a card on which one family of
 * kernels is wrong all the others can still be tried; tests/cuda/self_test.c says which is.
 */
#include "kernels/cuda/cuda.h"

#include <stdlib.h>
#include <string.h>

void __real_cuda_self_test(cuda_dev *c);
void __wrap_cuda_self_test(cuda_dev *c);

void __wrap_cuda_self_test(cuda_dev *c)
{
    const char *way = getenv("REFINE_SELF_TEST");
    if (!way || strcmp(way, "off") != 0)
        __real_cuda_self_test(c);
}
