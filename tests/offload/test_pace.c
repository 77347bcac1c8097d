/* tests/offload/test_pace.c -- bytes leave no faster than the rate, nor slower than they must. */
#include "offload/pace.h"

#include "engine/base/clock.h"

#include <criterion/criterion.h>

static const double RATE = 1e6; /* bytes a second */

enum { BYTES = 20000 }; /* 0.02 s of it */

Test(offload_pace, without_a_rate_nothing_waits)
{
    pace p = { 0 };
    for (int i = 0; i < 1000; i++)
        pace_send(&p, (size_t)1 << 30);
    pace_drain(&p);
    cr_expect_eq(p.free_at, 0.0);
}

Test(offload_pace, what_is_sent_waits_for_what_was_sent_before)
{
    pace p = { .rate = RATE };
    const double begin = clock_seconds();
    for (int i = 0; i < 4; i++) {
        pace_send(&p, BYTES);
        cr_expect_geq(clock_seconds() - begin, i * BYTES / RATE);
    }
    pace_drain(&p);
    cr_expect_geq(clock_seconds() - begin, 4 * BYTES / RATE);
}

Test(offload_pace, a_line_that_was_idle_owes_nothing)
{
    pace p = { .rate = RATE };
    pace_send(&p, BYTES);
    clock_sleep_until(p.free_at + 0.05);
    const double then = clock_seconds();
    pace_send(&p, BYTES);
    cr_expect_geq(p.free_at, then + BYTES / RATE);
}

/* Time is that of the line, not of the sleeper: what it slept too long it sleeps less later.  Where
 * the machine is so busy that the line was idle meanwhile, that time is lost. */
Test(offload_pace, waking_up_late_is_made_up_for)
{
    pace p = { .rate = RATE };
    int made_up = 0;
    pace_send(&p, BYTES);
    for (int i = 0; i < 20; i++) {
        const double next = p.free_at + BYTES / RATE;
        pace_send(&p, BYTES);
        cr_assert_geq(p.free_at, next - 1e-9);
        made_up += p.free_at <= next + 1e-9;
    }
    cr_expect_gt(made_up, 0);
}
