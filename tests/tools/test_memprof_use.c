/* tests/tools/test_memprof_use.c -- the roofline counts denoising, and that once. */
#include "tests/support/trace_fixture.h"
#include "tools/memprof/memprof_use.h"

#include <criterion/criterion.h>

Test(tools_memprof_use, divides_work_by_the_time_of_denoising)
{
    recording t = trace_fixture();
    const use u = use_of(&t);
    cr_assert_float_eq(u.wall, 5.0, 1e-9);
    cr_assert_float_eq(u.busy[RESOURCE_DISK], 1.5, 1e-9);
    cr_assert_float_eq(use_rate(&u, RESOURCE_DISK), 2097152 / 5.0, 1e-6);
    cr_assert_float_eq(use_reached(&u, RESOURCE_DISK), 2097152 / 5.0 / 2e6, 1e-9);
    cr_assert_float_eq(u.work[RESOURCE_COMPUTE], 24e6, 1e-3);
    /* Four visits of half a second each were predicted, and took 3.5. */
    cr_assert_float_eq(u.roof[RESOURCE_COMPUTE], 24e6 / 2.0, 1e-3);
    cr_assert_float_eq(u.stall[0], 0.5, 1e-9);
    cr_assert_float_eq(u.stall[2], 1.0, 1e-9);
    cr_assert_eq(u.bound, RESOURCE_COMPUTE);
    cr_assert_eq(use_reached(&u, RESOURCE_LINK), 0.0);
    trace_free(&t);
}

Test(tools_memprof_use, is_nothing_where_nothing_was_denoised)
{
    const recording t = { 0 };
    const use u = use_of(&t);
    cr_assert_eq(u.wall, 0.0);
    cr_assert_eq(use_rate(&u, RESOURCE_DISK), 0.0);
}
