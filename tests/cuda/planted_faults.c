/* tests/cuda/planted_faults.c -- is compute-sanitizer looking at all?
 *
 * Started as the tests are, with the same runner.  By itself it passes: what is written behind the
 * end lies in the same page.  Under racecheck and memcheck it must be reported; a tool that finds
 * nothing here has found nothing elsewhere either.
 */
#include "tests/cuda/planted_faults.h"

#include <criterion/criterion.h>

static int *alloc_card_ints(int n)
{
    void *p = NULL;
    if (cudaMalloc(&p, (size_t)n * sizeof(int)) != cudaSuccess)
        cr_skip_test("no GPU to test on");
    return p;
}

Test(planted, race)
{
    int *out = alloc_card_ints(PLANTED_THREADS);
    cr_assert_eq(planted_race(out), cudaSuccess);
    (void)cudaDeviceSynchronize(); /* the sanitizer may make it fail */
    (void)cudaFree(out);
}

Test(planted, overflow)
{
    int *out = alloc_card_ints(PLANTED_THREADS / 2);
    cr_assert_eq(planted_overflow(out, PLANTED_THREADS / 2), cudaSuccess);
    (void)cudaDeviceSynchronize();
    (void)cudaFree(out);
}
