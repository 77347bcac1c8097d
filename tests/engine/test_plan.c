/* tests/engine/test_plan.c -- what is foretold comes true.
 *
 * Transfers are limited so that they, and not the noise of a busy machine, decide; still this
 * runs alone, and where a sanitizer makes everything slow it does not compare times.
 */
#include "tests/support/picture_rig.h"
#include "tests/support/sanitized.h"
#include "tests/support/tiny_pack.h"
#include <refine/refine.h>

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

/* Small, and the rates low: with sanitizers on a slow machine too, computing is a few per cent
 * of a step that waits for its weights. */
enum { W = 64, H = 64, PIXELS = W * H * 3 };

static char pack_file[256];

static void make_plan_pack(void) { tiny_pack(pack_file, sizeof pack_file, ""); }
static void remove_plan_pack(void) { (void)unlink(pack_file); }

TestSuite(engine_plan, .init = make_plan_pack, .fini = remove_plan_pack, .timeout = 100);

/* Weights travel in every step. */
static refine_options streaming_options(void)
{
    refine_options o = picture_probed_options(pack_file, REFINE_F32);
    o.resident_bytes = UINT64_MAX;
    return o;
}

static refine_job streaming_job(void)
{
    static uint8_t out[PIXELS];
    refine_job j = picture_small_job(out);
    j.steps = 6;
    j.strength = 0.5;
    return j;
}

static refine_report run_streaming_job(const refine_options *o)
{
    const refine_job j = streaming_job();
    refine_report r = REFINE_REPORT_INIT;
    refine_error err = { 0 };
    refine_engine *e;
    cr_assert_eq(refine_open(&e, o, &j, &err), REFINE_OK, "%s", err.text);
    cr_assert_eq(refine_run(e, &j, &err), REFINE_OK, "%s", err.text);
    refine_get_report(e, &r);
    refine_close(e);
    return r;
}

static refine_report plan_streaming_job(const refine_options *o)
{
    const refine_job j = streaming_job();
    refine_report r = REFINE_REPORT_INIT;
    refine_error err = { 0 };
    cr_assert_eq(refine_plan(&r, o, &j, &err), REFINE_OK, "%s", err.text);
    return r;
}

static bool is_within_share(double a, double b, double share) { return fabs(a / b - 1) < share; }

/* Another program may disturb a run; what is foretold wrongly is wrong every time. */
static void expect_step_predicted(double disk, double copy, uint64_t cached, const char *what)
{
    enum { ATTEMPTS = 3 };
    refine_report r = REFINE_REPORT_INIT;
    bool foretold = false, resimulated = false, blamed = true;
    refine_options o = streaming_options();

    o.cached_bytes = cached;
    o.disk_limit = disk;
    o.copy_limit = copy;
    for (int i = 0; i < ATTEMPTS && !(foretold && resimulated && !blamed); i++) {
        r = run_streaming_job(&o);
        foretold = r.predicted_step > 0 && is_within_share(r.step_median, r.predicted_step, 0.1);
        resimulated = is_within_share(r.step_median, r.replayed_step, 0.1);
        blamed = strcmp(r.mispredicted_rate, "") != 0;
    }
    cr_expect(foretold, "%s: %.3f s a step, foretold %.3f", what, r.step_median, r.predicted_step);
    cr_expect(resimulated, "%s: %.3f s a step, replayed %.3f", what, r.step_median,
              r.replayed_step);
    cr_expect(!blamed && r.predicted_stall > 0.3, "%s: %s", what, r.mispredicted_rate);
}

ReleaseTest(engine_plan, foretells_a_step_that_waits_for_the_disk)
{
    expect_step_predicted(5e6, 0, UINT64_MAX, "slow disk");
}

ReleaseTest(engine_plan, foretells_a_step_that_waits_for_the_link)
{
    expect_step_predicted(0, 5e6, UINT64_MAX, "slow link");
}

ReleaseTest(engine_plan, foretells_a_step_with_some_weights_in_host_memory)
{
    expect_step_predicted(4e6, 10e6, 3u << 20, "slow disk, some weights cached");
}

/* Rates are probed within the ceilings, however low. */
Test(engine_plan, the_smallest_run_has_a_forecast_too)
{
    const refine_precision precision[] = { REFINE_F32, REFINE_BF16 };
    for (int i = 0; i < 2; i++) {
        refine_options o = streaming_options();
        o.precision = precision[i];
        const refine_report r = plan_streaming_job(&o);
        o.vram_bytes = r.memory.smallest_device;
        o.ram_bytes = r.memory.smallest_host;
        cr_expect_gt(plan_streaming_job(&o).predicted_step, 0, "%llu and %llu bytes",
                     (unsigned long long)o.vram_bytes, (unsigned long long)o.ram_bytes);
    }
}

Test(engine_plan, caches_only_what_helps)
{
    refine_options o = streaming_options();
    o.rates = (refine_rates){ 1e12, 1e12, 1e12, 1e9, 1e9, 1e9, 1e9 };
    cr_expect(plan_streaming_job(&o).memory.cached == 0);
    o.rates.disk = 1e6;
    const refine_report r = plan_streaming_job(&o);
    cr_expect(r.memory.cached > 0 && r.memory.host_planned <= o.ram_bytes);
    cr_expect(r.disk_bytes_per_step < r.copy_bytes_per_step);
}

Test(engine_plan, no_more_inputs_share_a_pass_than_is_asked)
{
    refine_options o = streaming_options();
    o.images = 4;
    for (o.per_pass = 1; o.per_pass < 4; o.per_pass++)
        cr_expect_eq(plan_streaming_job(&o).per_pass, o.per_pass);
}

/* One pass over the weights serves all images: where the disk decides, an image of eight
 * costs an eighth. */
ReleaseTest(engine_plan, many_pictures_share_what_the_disk_takes)
{
    refine_options o = streaming_options();
    o.cached_bytes = UINT64_MAX;
    o.disk_limit = 5e6;
    const double alone = plan_streaming_job(&o).predicted_step;
    for (int n = 2; n <= 8; n *= 2) {
        o.images = n;
        const double each = plan_streaming_job(&o).predicted_step / n;
        cr_expect(fabs(each * n / alone - 1) < 0.2, "%d: %.3f s each, alone %.3f", n, each, alone);
    }
}

Test(engine_plan, less_memory_never_plans_a_faster_step)
{
    refine_options o = streaming_options();
    const uint64_t least = plan_streaming_job(&o).memory.smallest_device;
    double last = 1e9;
    o.resident_bytes = 0;
    o.rates = (refine_rates){ 1e9, 1e9, 1e8, 1e11, 1e11, 1e11, 1e10 };
    for (uint64_t vram = least; vram < least + (24u << 20); vram += 2u << 20) {
        o.vram_bytes = vram;
        const refine_report r = plan_streaming_job(&o);
        cr_expect(r.predicted_step < last * 1.01, "%llu bytes", (unsigned long long)vram);
        cr_expect(r.memory.device_planned <= vram);
        last = r.predicted_step;
    }
}
