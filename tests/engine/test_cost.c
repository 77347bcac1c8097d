/* tests/engine/test_cost.c -- seconds are what the formula says, and rates are measured or 0. */
#include "engine/cost.h"

#include "engine/base/mem.h"

#include <criterion/criterion.h>

/* ---- the formula ---- */

static const refine_rates ALL = { .disk = 1,
                                  .decode = 2,
                                  .copy = 3,
                                  .linear = 5e12,
                                  .conv = 7e12,
                                  .attention = 11e12,
                                  .memory = 13e9 };

static void expect_seconds(const refine_rates *r, dev_work w, double want)
{
    const double got = cost_seconds(r, w);
    cr_assert_float_eq(got, want, want * 1e-12, "%g s, not %g", got, want);
}

Test(engine_cost, seconds_are_what_the_formula_says)
{
    const dev_work w = { 3000000000, 17000000000, 19000000, 23000000 };
    expect_seconds(&ALL, (dev_work){ .linear = w.linear }, 2 * 3e9 / 5e12);
    expect_seconds(&ALL, (dev_work){ .conv = w.conv }, 2 * 17e9 / 7e12);
    expect_seconds(&ALL, (dev_work){ .attention = w.attention }, 2 * 19e6 / 11e12);
    expect_seconds(&ALL, (dev_work){ .bytes = w.bytes }, 23e6 / 13e9);
    expect_seconds(&ALL, w, 6e9 / 5e12 + 34e9 / 7e12 + 38e6 / 11e12 + 23e6 / 13e9);
    cr_assert_eq(cost_seconds(&ALL, (dev_work){ 0 }), 0);
}

Test(engine_cost, work_at_a_rate_that_is_not_known_takes_no_time)
{
    const dev_work w = { 1000, 1000, 1000, 1000 };
    refine_rates r = { .conv = 7e12 };
    cr_assert_float_eq(cost_seconds(&r, w), 2000 / 7e12, 1e-20);
    r.conv = 0;
    cr_assert_eq(cost_seconds(&r, w), 0);
}

Test(engine_cost, rates_are_known_when_none_is_missing)
{
    refine_rates r = ALL;
    double *const rate[] = { &r.disk, &r.decode,    &r.copy,  &r.linear,
                             &r.conv, &r.attention, &r.memory };
    cr_assert(cost_known(&r));
    for (size_t i = 0; i < sizeof rate / sizeof rate[0]; i++) {
        const double was = *rate[i];
        *rate[i] = 0;
        cr_assert_not(cost_known(&r), "without rate %zu", i);
        *rate[i] = was;
    }
}

/* ---- the probe ---- */

/* Operations, or bytes, a second. */
static bool is_plausible(double rate) { return rate >= 1e6 && rate <= 1e15; }

static bool all_plausible(const refine_rates *r)
{
    return is_plausible(r->linear) && is_plausible(r->conv) && is_plausible(r->attention) &&
           is_plausible(r->memory);
}

static dev *open_device(bool cpu, dtype type)
{
    const dev_options o = { .compute = type, .threads = 1 };
    refine_error err = { 0 };
    dev *d = cpu ? dev_open_cpu(&o, &err) : dev_open_ref(&o, &err);
    cr_assert_not_null(d, "%s", err.text);
    return d;
}

static const cost_types F32 = { DT_F32, DT_F16 }, BF16 = { DT_BF16, DT_F16 },
                        INT8 = { DT_F32, DT_I8G64 };

/* Large and small problems. */
static const uint64_t PLENTY = 64u << 20, LITTLE = 2u << 20;

/* What the device keeps after its first operators is its own; what the probe keeps is not. */
static void warm_up(dev *d, cost_types type)
{
    refine_rates r = { 0 };
    cost_probe(&r, d, type, LITTLE);
}

static void expect_rates(bool cpu, cost_types type, uint64_t most)
{
    refine_rates r = { 0 };
    dev *d = open_device(cpu, type.act);
    cost_probe(&r, d, type, most);
    cr_assert(all_plausible(&r), "%g %g %g %g", r.linear, r.conv, r.attention, r.memory);
    cr_assert(r.disk == 0 && r.decode == 0 && r.copy == 0, "not this probe's");
    cr_assert_eq(dev_status(d), REFINE_OK, "%s", dev_why(d));
    dev_close(d);
}

Test(engine_cost, the_probe_measures_positive_and_plausible_rates)
{
    expect_rates(true, F32, PLENTY);
    expect_rates(true, BF16, PLENTY);
    expect_rates(true, INT8, PLENTY);
}

Test(engine_cost, a_smaller_probe_measures_them_too)
{
    expect_rates(true, F32, LITTLE);
    expect_rates(true, BF16, LITTLE);
    expect_rates(false, F32, LITTLE);
}

Test(engine_cost, rates_that_are_given_stay)
{
    dev *d = open_device(true, DT_F32);
    refine_rates r = { .linear = 1, .attention = 2 };
    cost_probe(&r, d, F32, LITTLE);
    cr_assert_eq(r.linear, 1);
    cr_assert_eq(r.attention, 2);
    cr_assert(is_plausible(r.conv) && is_plausible(r.memory));
    dev_close(d);
}

Test(engine_cost, it_takes_what_it_said_and_gives_it_back)
{
    enum { OBJECTS = 4096 }; /* the plan device and an event */
    const uint64_t most[] = { LITTLE, PLENTY };
    dev *d = open_device(true, DT_F32);
    warm_up(d, F32);
    for (int i = 0; i < 2; i++) {
        refine_rates r = { 0 };
        const size_t said = cost_probe_memory(d, F32, most[i]);
        cr_assert(said > 0 && said <= most[i], "%zu bytes", said);
        /* As much as ever was: from here on the peak is the probe's. */
        void *ballast = mem_alloc((size_t)(mem_used().peak - mem_used().now) + 1);
        const mem_usage before = mem_used();
        cost_probe(&r, d, F32, most[i]);
        const mem_usage after = mem_used();
        cr_assert_eq(after.now, before.now);
        cr_assert_leq(after.peak - before.now, said + OBJECTS);
        cr_assert_geq(after.peak - before.now, said);
        mem_free(ballast);
    }
    dev_close(d);
}

Test(engine_cost, it_asks_for_more_where_there_is_more)
{
    dev *d = open_device(true, DT_F32);
    size_t last = 0;
    int sizes = 0;
    for (uint64_t most = 1u << 16; most <= PLENTY; most += most / 4) {
        const size_t said = cost_probe_memory(d, F32, most);
        cr_assert(said <= most && said >= last, "%zu of %zu bytes", said, (size_t)most);
        sizes += said > last;
        last = said;
    }
    cr_assert_geq(sizes, 3, "only %d sizes", sizes);
    dev_close(d);
}

Test(engine_cost, without_room_nothing_is_measured)
{
    dev *d = open_device(true, DT_F32);
    refine_rates r = { .conv = 3 };
    cr_assert_eq(cost_probe_memory(d, F32, 1 << 10), 0);
    cost_probe(&r, d, F32, 1 << 10);
    cr_assert(r.linear == 0 && r.conv == 3 && r.attention == 0 && r.memory == 0);
    cr_assert_eq(dev_status(d), REFINE_OK, "%s", dev_why(d));
    dev_close(d);
}

Test(engine_cost, each_failing_allocation_leaves_zeros_and_nothing_behind)
{
    int incomplete = 0;
    dev *d = open_device(true, DT_F32);
    warm_up(d, F32);
    const uint64_t before = mem_used().now;
    for (long k = 0;; k++) {
        refine_rates r = { 0 };
        mem_fail_after(k, MEM_FAIL_ONCE);
        cost_probe(&r, d, F32, LITTLE);
        void *reached = mem_alloc(1);
        mem_fail_after(-1, MEM_FAIL_ONCE);
        mem_free(reached);
        cr_assert_eq(mem_used().now, before, "allocation %ld", k);
        if (!reached) { /* the fault was not reached */
            cr_assert(all_plausible(&r));
            break;
        }
        cr_assert(r.linear == 0 && r.conv == 0 && r.attention == 0 && r.memory == 0,
                  "allocation %ld: %g %g %g %g", k, r.linear, r.conv, r.attention, r.memory);
        incomplete++;
    }
    cr_assert_geq(incomplete, 3, "the plan device, the event and the space");
    dev_close(d);
}
