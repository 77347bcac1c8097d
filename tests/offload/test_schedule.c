/* tests/offload/test_schedule.c -- which uses travel. */
#include "offload/schedule.h"

#include "engine/base/mem.h"

#include <criterion/criterion.h>

static const stream_pass PASSES[] = { { 5, 5, 3 }, { 2, 4, 1 }, { 4, 7, 3 },
                                      { 7, 9, 0 }, { 4, 5, 2 }, { 9, 9, 1 } };

enum { N_PASSES = sizeof PASSES / sizeof PASSES[0], CHUNKS = 10 };

static const int ORDER[] = { 2, 3, 4, 5, 6, 4, 5, 6, 4, 5, 6, 4, 4 };

enum { VISITS = sizeof ORDER / sizeof ORDER[0] };

static schedule open_schedule(const bool *resident)
{
    schedule s;
    cr_assert(schedule_open(&s, PASSES, N_PASSES, resident, CHUNKS));
    return s;
}

/* Chunks of the transfers, as a string of digits. */
static void expect_schedule_transfers(const schedule *s, const char *want)
{
    char got[VISITS + 1] = "";
    int n = 0;
    cursor c = schedule_begin(s);
    while (schedule_to_transfer(s, &c)) {
        cr_assert_eq(c.transfer, (uint64_t)n);
        got[n++] = (char)('0' + c.chunk);
        schedule_next(s, &c);
    }
    got[n] = '\0';
    cr_assert_str_eq(got, want);
}

Test(offload_schedule, visits_follow_the_passes_and_skip_empty_ones)
{
    schedule s = open_schedule(NULL);
    cursor c = schedule_begin(&s);
    for (int i = 0; i < VISITS; i++) {
        cr_assert_not(schedule_at_end(&s, &c));
        cr_assert_eq(c.use, (uint64_t)i);
        cr_assert_eq(c.chunk, ORDER[i]);
        cr_assert(schedule_is_transfer(&s, &c));
        schedule_next(&s, &c);
    }
    cr_assert(schedule_at_end(&s, &c));
    schedule_close(&s);
}

Test(offload_schedule, a_script_of_nothing_is_at_its_end)
{
    schedule s;
    cr_assert(schedule_open(&s, NULL, 0, NULL, 0));
    cursor c = schedule_begin(&s);
    cr_assert(schedule_at_end(&s, &c));
    cr_assert_not(schedule_to_transfer(&s, &c));
    schedule_close(&s);
}

Test(offload_schedule, a_resident_chunk_travels_on_its_first_visit_only)
{
    bool resident[CHUNKS] = { [3] = true, [4] = true };
    schedule s = open_schedule(resident);
    expect_schedule_transfers(&s, "234565656");
    schedule_close(&s);
}

Test(offload_schedule, what_travelled_is_held_in_the_next_run)
{
    bool resident[CHUNKS] = { [3] = true, [4] = true, [6] = true };
    schedule s = open_schedule(resident);
    cursor c = schedule_begin(&s);
    for (int i = 0; i < 3; i++) /* 2 3 4, but not yet 6 */
        schedule_next(&s, &c);
    schedule_hold_before(&s, &c);
    expect_schedule_transfers(&s, "25655");

    c = schedule_begin(&s);
    while (!schedule_at_end(&s, &c))
        schedule_next(&s, &c);
    schedule_hold_before(&s, &c);
    expect_schedule_transfers(&s, "2555");
    schedule_close(&s);
}

Test(offload_schedule, it_knows_whether_residents_are_still_to_come)
{
    bool resident[CHUNKS] = { [5] = true };
    schedule s = open_schedule(resident);
    cursor c = schedule_begin(&s);
    for (int i = 0; i < VISITS; i++) {
        cr_assert_eq(schedule_needs_residents(&s, &c, CHUNKS), i <= 9, "visit %d", i);
        schedule_next(&s, &c);
    }
    cr_assert_not(schedule_needs_residents(&s, &c, CHUNKS));
    schedule_close(&s);
}

Test(offload_schedule, each_failing_allocation_is_answered)
{
    const uint64_t before = mem_used().now;
    schedule s;
    for (long k = 0; k < 4; k++) {
        mem_fail_after(k, MEM_FAIL_ONCE);
        cr_assert_not(schedule_open(&s, PASSES, N_PASSES, NULL, CHUNKS));
        cr_assert_eq(mem_used().now, before);
    }
    mem_fail_after(-1, MEM_FAIL_ONCE);
    s = open_schedule(NULL);
    cr_assert_leq(mem_used().now - before, schedule_memory(N_PASSES, CHUNKS));
    schedule_close(&s);
}
