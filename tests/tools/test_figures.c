/* tests/tools/test_figures.c -- amounts as people read them, none of nothing included. */
#include "tools/files/figures.h"

#include <criterion/criterion.h>

Test(tools_figures, are_mib_and_percent)
{
    cr_expect_eq(bytes_to_mib(3u << 19), 1.5);
    cr_expect_eq(percent_of_whole(1, 4), 25.0);
}

Test(tools_figures, take_a_share_of_nothing_for_none)
{
    cr_expect_eq(percent_of_whole(1, 0), 0.0);
    cr_expect_eq(percent_of_whole(1, -1), 0.0);
}
