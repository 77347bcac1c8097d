/* tests/engine/test_forecast.c -- how long a run will take, and who is to blame when it takes
 * longer.
 *
 * The CPU device that the engine opens is one whose operators of one kind can be made slow, once
 * it has been probed.
 */
#include "engine/base/clock.h"
#include "kernels/backend.h"
#include "tests/support/opened_cpu.h"
#include "tests/support/picture_rig.h"
#include "tests/support/sanitized.h"
#include "tests/support/tiny_pack.h"
#include <refine/refine.h>

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

/* ---- the slow device ---- */

static const char *const KINDS[DEV_KINDS] = { "linear", "conv", "attention", "memory" };

static const struct dev_ops *real;
static dev_kind slow_kind;
static bool slow;

/* Times as long as it took. */
static void delay_operator(dev_kind kind, double began)
{
    enum { TIMES = 15 };
    const double now = clock_seconds();
    if (slow && kind == slow_kind)
        clock_sleep_until(now + TIMES * (now - began));
}

static void slow_linear(dev *d, const linear_args *a)
{
    const double began = clock_seconds();
    real->linear(d, a);
    delay_operator(DEV_LINEAR, began);
}

static void slow_conv2d(dev *d, const conv_args *a)
{
    const double began = clock_seconds();
    real->conv2d(d, a);
    delay_operator(DEV_CONV, began);
}

static void slow_attention(dev *d, const attention_args *a)
{
    const double began = clock_seconds();
    real->attention(d, a);
    delay_operator(DEV_ATTENTION, began);
}

static prepared_input slow_prepare(dev *d, void *p, const matrix_input *in, conv_geometry g)
{
    const double began = clock_seconds();
    const prepared_input out = real->prepare(d, p, in, g);
    delay_operator(DEV_MEMORY, began);
    return out;
}

static void slow_layernorm(dev *d, tensor y, tensor x, tensor gain, tensor bias, float eps)
{
    const double began = clock_seconds();
    real->layernorm(d, y, x, gain, bias, eps);
    delay_operator(DEV_MEMORY, began);
}

void opened_cpu(dev *d, struct dev_ops *ops, const struct dev_ops *its)
{
    (void)d;
    real = its;
    ops->linear = slow_linear;
    ops->conv2d = slow_conv2d;
    ops->attention = slow_attention;
    ops->prepare = slow_prepare;
    ops->layernorm = slow_layernorm;
    slow = false;
}

/* ---- a job ---- */

enum { W = 64, H = 64, PIXELS = W * H * 3, LATENTS = 4 * W * H / 64 };

static char pack_file[256];

static void make_forecast_pack(void) { tiny_pack(pack_file, sizeof pack_file, ""); }
static void remove_forecast_pack(void) { (void)unlink(pack_file); }

TestSuite(engine_forecast, .init = make_forecast_pack, .fini = remove_forecast_pack,
          .timeout = 200);

static refine_options forecast_options(void)
{
    refine_options o = picture_probed_options(pack_file, REFINE_F32);
    o.threads = 1;
    return o;
}

static refine_job forecast_job(void)
{
    static uint8_t out[PIXELS];
    refine_job j = picture_small_job(out);
    j.steps = 6;
    j.strength = 0.5;
    return j;
}

static refine_job forecast_latents_job(void)
{
    static float in[LATENTS], out[LATENTS];
    refine_job j = forecast_job();
    j.rgb_in = j.rgb_out = NULL;
    j.latents_in = in;
    j.latents_out = out;
    return j;
}

/* kind < 0: all at their own speed. */
static refine_report run_forecast_job(const refine_options *o, const refine_job *j, int kind)
{
    refine_report r = REFINE_REPORT_INIT;
    refine_error err = { 0 };
    refine_engine *e;
    cr_assert_eq(refine_open(&e, o, j, &err), REFINE_OK, "%s", err.text);
    slow = kind >= 0;
    slow_kind = kind >= 0 ? (dev_kind)kind : DEV_LINEAR;
    cr_assert_eq(refine_run(e, j, &err), REFINE_OK, "%s", err.text);
    refine_get_report(e, &r);
    refine_close(e);
    r.step = NULL;
    return r;
}

static refine_report plan_forecast_job(const refine_options *o, const refine_job *j)
{
    refine_report r = REFINE_REPORT_INIT;
    refine_error err = { 0 };
    cr_assert_eq(refine_plan(&r, o, j, &err), REFINE_OK, "%s", err.text);
    return r;
}

/* ---- who is to blame ---- */

static bool is_named(const refine_report *r, int kind)
{
    return r->slow_step > 1.5 && strcmp(r->slow_part, KINDS[kind]) == 0 && r->slow_part_by > 3 &&
           strcmp(r->mispredicted_rate, KINDS[kind]) == 0;
}

/* Others may disturb a probe or a run; what is not so is not so every time. */
enum { ATTEMPTS = 8 };

Test(engine_forecast, a_step_that_is_far_too_long_names_the_kind_of_operator_that_was_slow)
{
    const refine_options o = forecast_options();
    const refine_job j = forecast_latents_job();
    for (int k = 0; k < DEV_KINDS; k++) {
        refine_report r = run_forecast_job(&o, &j, k);
        for (int i = 1; i < ATTEMPTS && !is_named(&r, k); i++)
            r = run_forecast_job(&o, &j, k);
        cr_expect_gt(r.slow_step, 1.5, "%s: only %.2f times", KINDS[k], r.slow_step);
        cr_expect_str_eq(r.slow_part, KINDS[k], "%s, not %s", r.slow_part, KINDS[k]);
        cr_expect_gt(r.slow_part_by, 3, "%s: only %.2f times", KINDS[k], r.slow_part_by);
        cr_expect_str_eq(r.mispredicted_rate, KINDS[k]);
    }
}

static double *select_rate_field(refine_rates *r, int kind)
{
    double *const rate[DEV_KINDS] = { &r->linear, &r->conv, &r->attention, &r->memory };
    return rate[kind];
}

/* The rates of a run, a thousand times too high or too low for one kind: then it is to blame, and
 * the others are not. */
Test(engine_forecast, rates_are_measured_for_each_kind)
{
    const refine_job j = forecast_latents_job();
    refine_options o = forecast_options();
    const refine_rates probed = run_forecast_job(&o, &j, -1).measured;
    for (int k = 0; k < DEV_KINDS; k++) {
        o.rates = probed;
        *select_rate_field(&o.rates, k) /= 1000;
        refine_report r = run_forecast_job(&o, &j, -1);
        for (int i = 1;
             i < ATTEMPTS && (strcmp(r.mispredicted_rate, KINDS[k]) != 0 || r.slow_part[0] != '\0');
             i++)
            r = run_forecast_job(&o, &j, -1);
        cr_expect_str_eq(r.mispredicted_rate, KINDS[k], "%s, not %s", r.mispredicted_rate,
                         KINDS[k]);
        cr_expect_str_eq(r.slow_part, "");
        refine_rates measured = r.measured;
        cr_expect_gt(*select_rate_field(&measured, k), 50 * *select_rate_field(&o.rates, k));
    }
}

static int slow_while_decoding(void *context, const refine_progress *p)
{
    (void)context;
    slow = p->phase == REFINE_DECODING;
    return 0;
}

Test(engine_forecast, other_phases_do_not_count)
{
    const refine_options o = forecast_options();
    refine_job j = forecast_job();
    double decoded = 0, conv = 0; /* the most times of a run in which nothing is slow */
    for (int i = 0; i < ATTEMPTS && !(decoded > 3 && conv > 0.25); i++) {
        j.progress = NULL;
        const refine_report alone = run_forecast_job(&o, &j, -1);
        j.progress = slow_while_decoding;
        const refine_report r = run_forecast_job(&o, &j, DEV_CONV);
        decoded = fmax(decoded, r.vae_decode / alone.vae_decode);
        conv = fmax(conv, r.measured.conv / alone.measured.conv);
    }
    cr_expect_gt(decoded, 3, "it was slow: %g", decoded);
    cr_expect_gt(conv, 0.25, "but not in a step: %g", conv);
}

/* A link that is twice as fast as it was said to be: a step waits for it all the same. */
ReleaseTest(engine_forecast, a_transfer_is_named_too)
{
    const refine_job j = forecast_latents_job();
    refine_options o = forecast_options();
    o.resident_bytes = o.cached_bytes = UINT64_MAX;
    o.rates.copy = 10e6;
    o.copy_limit = 20e6;
    refine_report r = run_forecast_job(&o, &j, -1);
    for (int i = 1;
         i < ATTEMPTS && (strcmp(r.mispredicted_rate, "copying") != 0 || r.slow_part[0] != '\0');
         i++)
        r = run_forecast_job(&o, &j, -1);
    cr_expect_str_eq(r.mispredicted_rate, "copying", "%s", r.mispredicted_rate);
    cr_expect_str_eq(r.slow_part, "");
}

/* ---- what is predicted ---- */

static const refine_rates MADE_UP = { 1e9, 1e9, 1e9, 3e7, 3e7, 3e7, 3e7 };

Test(engine_forecast, every_phase_is_predicted)
{
    const refine_job j = forecast_job(), latents = forecast_latents_job();
    refine_options o = forecast_options();
    o.rates = MADE_UP;
    const refine_report r = plan_forecast_job(&o, &j), l = plan_forecast_job(&o, &latents);
    cr_expect(r.predicted_text > 0 && r.predicted_encode > 0 && r.predicted_decode > 0);
    const double phases = r.predicted_text + r.predicted_encode + r.predicted_decode;
    cr_expect_float_eq(r.predicted_total, phases + r.predicted_unet, 0.01 * r.predicted_total);
    cr_expect(l.predicted_encode == 0 && l.predicted_decode == 0);
    cr_expect_float_eq(l.predicted_text, r.predicted_text, 0.01 * r.predicted_text);

    /* Compute decides: at half the rates everything takes twice as long. */
    o.rates = (refine_rates){ 1e9, 1e9, 1e9, 1.5e7, 1.5e7, 1.5e7, 1.5e7 };
    const refine_report half = plan_forecast_job(&o, &j);
    cr_expect_float_eq(half.predicted_decode / r.predicted_decode, 2, 0.02);
    cr_expect_float_eq(half.predicted_encode / r.predicted_encode, 2, 0.02);
    cr_expect_float_eq(half.predicted_text / r.predicted_text, 2, 0.02);
    cr_expect_float_eq(half.predicted_total / r.predicted_total, 2, 0.02);

    /* More images are encoded and decoded one by one. */
    o.rates = MADE_UP;
    o.images = 3;
    const refine_report three = plan_forecast_job(&o, &j);
    cr_expect_float_eq(three.predicted_decode / r.predicted_decode, 3, 0.02);
}

Test(engine_forecast, phases_wait_for_their_weights)
{
    const refine_job j = forecast_job();
    refine_options o = forecast_options();
    o.rates = (refine_rates){ 1e6, 1e12, 1e12, 1e15, 1e15, 1e15, 1e15 };
    const refine_report r = plan_forecast_job(&o, &j);
    /* The tiny model's text encoder alone is more than 0.1 MB. */
    cr_expect_gt(r.predicted_text, 0.1);
    cr_expect_gt(r.predicted_decode, 0.1);
    cr_expect_gt(r.predicted_total, r.predicted_unet);
}

/* ---- how much is left ---- */

typedef struct progress_ear {
    double first, total, last;
    double left[REFINE_FINISHED + 1]; /* when a phase was told last */
    int told, unknown, negative;
    double began;
} progress_ear;

static int record_eta(void *context, const refine_progress *p)
{
    progress_ear *e = context;
    if (e->told++ == 0)
        e->first = p->eta;
    e->unknown += p->eta < 0;
    e->left[p->phase] = p->eta;
    e->total = p->elapsed;
    e->last = p->eta;
    return 0;
}

static progress_ear listen_to(const refine_options *o, refine_job j)
{
    progress_ear e = { 0 };
    j.progress = record_eta;
    j.progress_context = &e;
    (void)run_forecast_job(o, &j, -1);
    cr_assert_gt(e.told, 0);
    return e;
}

Test(engine_forecast, what_is_left_is_the_whole_run_from_the_first_line_on)
{
    const refine_job j = forecast_job();
    refine_options o = forecast_options();
    o.rates = MADE_UP;
    const double predicted = plan_forecast_job(&o, &j).predicted_total;
    const progress_ear e = listen_to(&o, j);
    cr_expect_float_eq(e.first, predicted, 0.02 * predicted, "%g of %g s", e.first, predicted);
    cr_expect_eq(e.unknown, 0);
    cr_expect_eq(e.last, 0);
}

/* Predicted are minutes, taken are milliseconds. */
Test(engine_forecast, what_was_measured_takes_over)
{
    refine_options o = forecast_options();
    const refine_rates slow_ones = { 1e9, 1e9, 1e9, 1e6, 1e6, 1e6, 1e6 };
    o.rates = slow_ones;
    const refine_job latents = forecast_latents_job(), pixels = forecast_job();
    const double predicted = plan_forecast_job(&o, &latents).predicted_total;
    const progress_ear e = listen_to(&o, latents), all = listen_to(&o, pixels);
    cr_expect_gt(e.first, 0.9 * predicted);
    cr_expect_lt(e.left[REFINE_DENOISING], 0.02 * predicted, "%g of %g s", e.left[REFINE_DENOISING],
                 predicted);
    /* Decoding is still to come, and will be faster than it seemed too. */
    cr_expect_lt(all.left[REFINE_DENOISING], 0.3 * plan_forecast_job(&o, &pixels).predicted_decode);
    cr_expect_lt(all.left[REFINE_DECODING], 1);
}

Test(engine_forecast, without_rates_nothing_is_known)
{
    refine_options o = forecast_options();
    o.device = REFINE_DEVICE_REF;
    const progress_ear e = listen_to(&o, forecast_latents_job());
    cr_expect_eq(e.unknown + 1, e.told, "but the end");
}

/* What is foretold wrongly is wrong every time. */
ReleaseTest(engine_forecast, the_first_line_is_right_within_a_factor_of_two)
{
    const refine_options o = forecast_options();
    double nearest = 1e9;
    for (int i = 0; i < ATTEMPTS && nearest > log(2); i++) {
        const progress_ear e = listen_to(&o, forecast_job());
        nearest = fmin(nearest, fabs(log(e.first / e.total)));
    }
    cr_expect_leq(nearest, log(2), "by a factor of %.2f", exp(nearest));
}
