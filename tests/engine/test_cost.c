/* tests/engine/test_cost.c -- seconds are what the formula says, and rates are measured or 0. */
#define _POSIX_C_SOURCE 200809L /* nanosleep */
#include "engine/plan/cost.h"

#include "engine/base/clock.h"
#include "engine/base/mem.h"
#include "kernels/backend.h"
#include "tests/support/sanitized.h"

#include <criterion/criterion.h>
#include <time.h>

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
static bool is_cost_rate_plausible(double rate) { return rate >= 1e6 && rate <= 1e15; }

static bool all_plausible(const refine_rates *r)
{
    return is_cost_rate_plausible(r->linear) && is_cost_rate_plausible(r->conv) &&
           is_cost_rate_plausible(r->attention) && is_cost_rate_plausible(r->memory);
}

/* Three levels, of which the middle one has it all. */
#define LEVELS                                                                                     \
    .levels = 3, .level = {                                                                        \
        { .n = 2, .h = 64, .w = 48, .channels = 192, .convolves = true },                          \
        { .n = 2, .h = 32, .w = 24, .channels = 384, .heads = 6, .keys = 77, .convolves = true },  \
        { .n = 2, .h = 16, .w = 12, .channels = 768, .heads = 12, .causal = true },                \
    }

static const cost_job F32 = { .act = DT_F32, .weights = DT_F16, LEVELS },
                      BF16 = { .act = DT_BF16, .weights = DT_F16, LEVELS },
                      INT8 = { .act = DT_F32, .weights = DT_I8G64, LEVELS },
                      W8A8 = { .act = DT_BF16, .weights = DT_I8G64, LEVELS };

static dev *open_cost_device(bool cpu, const cost_job *j)
{
    const dev_options o = { .compute = j->act, .int8_math = j == &W8A8, .threads = 1 };
    refine_error err = { 0 };
    dev *d = cpu ? dev_open_cpu(&o, &err) : dev_open_ref(&o, &err);
    cr_assert_not_null(d, "%s", err.text);
    return d;
}

/* Large and small problems. */
static const uint64_t PLENTY = 64u << 20, LITTLE = 2u << 20;

/* What the device keeps after its first operators is its own; what the probe keeps is not. */
static void warm_up(dev *d, const cost_job *j)
{
    refine_rates r = { 0 };
    cost_probe(&r, d, j, LITTLE);
}

static void expect_rates(bool cpu, const cost_job *j, uint64_t most)
{
    refine_rates r = { 0 };
    dev *d = open_cost_device(cpu, j);
    cost_probe(&r, d, j, most);
    cr_assert(all_plausible(&r), "%g %g %g %g", r.linear, r.conv, r.attention, r.memory);
    cr_assert(r.disk == 0 && r.decode == 0 && r.copy == 0, "not this probe's");
    cr_assert_eq(dev_status(d), REFINE_OK, "%s", dev_why(d));
    dev_close(d);
}

Test(engine_cost, the_probe_measures_positive_and_plausible_rates)
{
    expect_rates(true, &F32, PLENTY);
    expect_rates(true, &BF16, PLENTY);
    expect_rates(true, &INT8, PLENTY);
    expect_rates(true, &W8A8, PLENTY);
}

Test(engine_cost, a_smaller_probe_measures_them_too)
{
    expect_rates(true, &F32, LITTLE);
    expect_rates(true, &BF16, LITTLE);
    expect_rates(false, &F32, LITTLE);
}

/* Text has no convolutions, most of the VAE no attention. */
static const struct dev_ops *prompt;

static void put_late(dev *d, void *dst, const void *src, size_t bytes)
{
    (void)nanosleep(&(struct timespec){ .tv_nsec = 120000000 }, NULL);
    prompt->put(d, dst, src, bytes);
}

/* As on a machine that is busy with other things: a trial that waits long before it begins is run
 * all the same. */
Test(engine_cost, a_probe_that_is_kept_waiting_still_measures)
{
    const cost_level l = { .n = 1, .h = 8, .w = 8, .channels = 64, .heads = 1, .convolves = true };
    const cost_job j = { DT_F32, DT_F16, { l }, 1 };
    dev *d = open_cost_device(true, &F32);
    refine_rates r = { 0 };
    prompt = d->ops;
    struct dev_ops late = *prompt;
    late.put = put_late;
    d->ops = &late;
    cost_probe(&r, d, &j, LITTLE);
    d->ops = prompt;
    cr_expect(all_plausible(&r), "%g %g %g %g", r.linear, r.conv, r.attention, r.memory);
    dev_close(d);
}

Test(engine_cost, what_the_job_does_not_do_is_not_measured)
{
    const cost_level text = { .n = 2,
                              .h = 1,
                              .w = 77,
                              .channels = 256,
                              .heads = 4,
                              .causal = true },
                     vae = { .n = 1, .h = 64, .w = 64, .channels = 64, .convolves = true };
    const cost_job jobs[] = { { DT_F32, DT_F16, { text }, 1 }, { DT_F32, DT_F16, { vae }, 1 } };
    dev *d = open_cost_device(true, &F32);
    refine_rates r[2] = { 0 };
    for (int i = 0; i < 2; i++)
        cost_probe(&r[i], d, &jobs[i], PLENTY);
    cr_expect(is_cost_rate_plausible(r[0].linear) && is_cost_rate_plausible(r[0].attention));
    cr_expect(r[0].conv == 0 && r[0].memory == 0);
    cr_expect(is_cost_rate_plausible(r[1].conv) && is_cost_rate_plausible(r[1].memory));
    cr_expect(r[1].linear == 0 && r[1].attention == 0);
    dev_close(d);
}

/* A device that multiplies integers is measured doing so. */
ReleaseTest(engine_cost, weights_and_the_devices_way_with_them_decide)
{
    const cost_level l = { .n = 1, .h = 32, .w = 32, .channels = 1536, .heads = 24 };
    const cost_job j = { DT_BF16, DT_I8G64, { l }, 1 };
    double best[2] = { 0 };
    for (int i = 0; i < 2; i++) {
        const dev_options o = { .compute = DT_BF16, .int8_math = i == 1, .threads = 1 };
        dev *d = dev_open_cpu(&o, NULL);
        for (int k = 0; k < 5; k++) {
            refine_rates r = { 0 };
            cost_probe(&r, d, &j, PLENTY);
            best[i] = r.linear > best[i] ? r.linear : best[i];
        }
        dev_close(d);
    }
    cr_expect(best[1] > 1.1 * best[0] || best[1] < 0.9 * best[0], "%g and %g", best[0], best[1]);
}

/* A large image takes no longer to probe than a small one. */
ReleaseTest(engine_cost, a_probe_takes_a_fraction_of_a_second_whatever_the_job)
{
    enum { ATTEMPTS = 5 };
    cost_job j = F32;
    double least = 1e9;
    for (int i = 0; i < j.levels; i++) {
        j.level[i].h *= 32;
        j.level[i].w *= 32;
    }
    dev *d = open_cost_device(true, &F32);
    for (int i = 0; i < ATTEMPTS && least > 0.3; i++) {
        refine_rates r = { 0 };
        const double t0 = clock_seconds();
        cost_probe(&r, d, &j, PLENTY);
        const double seconds = clock_seconds() - t0;
        least = seconds < least ? seconds : least;
        cr_expect(all_plausible(&r));
    }
    cr_expect_leq(least, 0.3, "%g s", least);
    dev_close(d);
}

/* The least of some attempts: others may have the processor meanwhile. */
static double seconds_of_warming(dev *d, const cost_job *j)
{
    enum { ATTEMPTS = 5 };
    double least = 1e9;
    for (int i = 0; i < ATTEMPTS; i++) {
        const double began = clock_seconds();
        cost_warm_up(d, j, PLENTY);
        const double seconds = clock_seconds() - began;
        least = seconds < least ? seconds : least;
    }
    return least;
}

/* Of a model of the real one's size, and of a small one. */
Test(engine_cost, a_processor_is_warmed_up_where_the_job_takes_longer_than_that)
{
    const cost_level l = { .n = 1, .h = 64, .w = 64, .channels = 320, .convolves = true },
                     s = { .n = 1, .h = 8, .w = 8, .channels = 64, .convolves = true };
    const cost_job large = { DT_F32, DT_F16, { l }, 1 }, small = { DT_F32, DT_F16, { s }, 1 };
    dev *d = open_cost_device(true, &F32);
    const uint64_t before = mem_used().now;
    cr_expect_geq(seconds_of_warming(d, &large), 0.15);
    cr_expect_eq(mem_used().now, before);
    cr_expect_lt(seconds_of_warming(d, &small), 0.1);
    dev_close(d);
}

Test(engine_cost, rates_that_are_given_stay)
{
    dev *d = open_cost_device(true, &F32);
    refine_rates r = { .linear = 1, .attention = 2 };
    cost_probe(&r, d, &F32, LITTLE);
    cr_assert_eq(r.linear, 1);
    cr_assert_eq(r.attention, 2);
    cr_assert(is_cost_rate_plausible(r.conv) && is_cost_rate_plausible(r.memory));
    dev_close(d);
}

Test(engine_cost, it_takes_what_it_said_and_gives_it_back)
{
    enum { OBJECTS = 4096 }; /* the plan device and an event */
    const uint64_t most[] = { LITTLE, PLENTY };
    dev *d = open_cost_device(true, &F32);
    warm_up(d, &F32);
    for (int i = 0; i < 2; i++) {
        refine_rates r = { 0 };
        const size_t said = cost_probe_memory(d, &F32, most[i]);
        cr_assert(said > 0 && said <= most[i], "%zu bytes", said);
        /* As much as ever was: from here on the peak is the probe's. */
        void *ballast = mem_alloc((size_t)(mem_used().peak - mem_used().now) + 1);
        const mem_usage before = mem_used();
        cost_probe(&r, d, &F32, most[i]);
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
    dev *d = open_cost_device(true, &F32);
    size_t last = 0;
    int sizes = 0;
    for (uint64_t most = 1u << 16; most <= PLENTY; most += most / 4) {
        const size_t said = cost_probe_memory(d, &F32, most);
        cr_assert(said <= most && said >= last, "%zu of %zu bytes", said, (size_t)most);
        sizes += said > last;
        last = said;
    }
    cr_assert_geq(sizes, 3, "only %d sizes", sizes);
    dev_close(d);
}

Test(engine_cost, without_room_nothing_is_measured)
{
    dev *d = open_cost_device(true, &F32);
    refine_rates r = { .conv = 3 };
    cr_assert_eq(cost_probe_memory(d, &F32, 1 << 10), 0);
    cost_probe(&r, d, &F32, 1 << 10);
    cr_assert(r.linear == 0 && r.conv == 3 && r.attention == 0 && r.memory == 0);
    cr_assert_eq(dev_status(d), REFINE_OK, "%s", dev_why(d));
    dev_close(d);
}

Test(engine_cost, each_failing_allocation_leaves_rates_or_zeros_and_nothing_behind)
{
    const cost_level l = { .n = 1, .h = 8, .w = 8, .channels = 64, .heads = 1, .convolves = true };
    const cost_job j = { DT_F32, DT_F16, { l }, 1 };
    int incomplete = 0;
    dev *d = open_cost_device(true, &F32);
    warm_up(d, &j);
    const uint64_t before = mem_used().now;
    for (long k = 0;; k++) {
        refine_rates r = { 0 };
        mem_fail_after(k, MEM_FAIL_ONCE);
        cost_probe(&r, d, &j, LITTLE);
        const bool is_whole = mem_fail_after(-1, MEM_FAIL_ONCE); /* the fault was not reached */
        cr_assert_eq(mem_used().now, before, "allocation %ld", k);
        if (is_whole) {
            cr_assert(all_plausible(&r));
            break;
        }
        const double rate[] = { r.linear, r.conv, r.attention, r.memory };
        for (int i = 0; i < 4; i++)
            cr_assert(rate[i] == 0 || is_cost_rate_plausible(rate[i]), "allocation %ld: %g", k,
                      rate[i]);
        incomplete += !all_plausible(&r); /* a second look is not needed */
    }
    cr_assert_geq(incomplete, 3, "the plan devices, the events and the space");
    dev_close(d);
}
