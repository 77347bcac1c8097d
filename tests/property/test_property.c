/* tests/property/test_property.c -- a property that does not hold is found, and made small. */
#include "tests/property/property.h"

#include <signal.h>
#include <unistd.h>

static property_result result_of(property *p)
{
    property_result r;
    property_try(&r, p, 1, 3600, 1000);
    return r;
}

static void sums_are_small(draws *d)
{
    const int n = draw_integer(d, 0, 20);
    int sum = 0;
    for (int i = 0; i < n; i++)
        sum += draw_scale(d, 1, 1000);
    describe_case(d, "%d numbers make %d", n, sum);
    if (sum >= 1000)
        fail_case(d, "at least 1000");
}

Test(property, what_fails_is_made_as_small_as_can_be)
{
    const property_result r = result_of(sums_are_small);
    cr_assert(!r.held);
    cr_expect_not_null(strstr(r.what, " numbers make 1000"), "%s", r.what);
    cr_expect_str_eq(r.fault, "at least 1000");
    cr_expect_leq(r.choices, 6, "%s", r.what);
}

static void large_number_dies(draws *d)
{
    const int x = draw_integer(d, 0, 100000);
    describe_case(d, "%d", x);
    if (x > 70000)
        (void)raise(SIGKILL);
}

Test(property, a_case_that_dies_fails)
{
    const property_result r = result_of(large_number_dies);
    cr_assert(!r.held);
    cr_expect_str_eq(r.what, "70001");
    cr_expect(strstr(r.fault, "dies of"), "%s", r.fault);
}

static void assertion_fails_sometimes(draws *d)
{
    describe_case(d, "%d", draw_integer(d, 0, 9));
    cr_assert(!draw_once_in(d, 3), "once in three");
}

Test(property, an_assertion_that_fails_fails_the_case)
{
    const property_result r = result_of(assertion_fails_sometimes);
    cr_assert(!r.held);
    cr_expect_str_eq(r.what, "0");
    cr_expect_str_eq(r.fault, "an assertion fails");
    cr_expect_not_null(strstr(r.said, "once in three"));
}

static void draws_are_in_range(draws *d)
{
    const int low = draw_integer(d, -5, 5), high = low + draw_integer(d, 0, 7),
              x = draw_integer(d, low, high);
    const int y = draw_scale(d, 1, 9);
    if (x < low || x > high || y < 1 || y > 9)
        fail_case(d, "%d, %d", x, y);
}

Test(property, what_holds_is_tried_as_often_as_asked)
{
    const property_result r = result_of(draws_are_in_range);
    cr_expect(r.held);
    cr_expect_eq(r.cases, 1000);
}

static void fails_sometimes(draws *d)
{
    const int x = draw_integer(d, 0, 1 << 20);
    describe_case(d, "%d", x);
    if (x > 1000000)
        fail_case(d, "beyond a million");
}

Test(property, the_seed_that_is_told_fails_at_once)
{
    const property_result r = result_of(fails_sometimes);
    property_result again;
    cr_assert(!r.held && r.cases > 0);
    property_try(&again, fails_sometimes, r.seed, 60, 1);
    cr_expect(!again.held);
    cr_expect_str_eq(again.what, "1000001");
}
