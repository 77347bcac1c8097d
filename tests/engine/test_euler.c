/* tests/engine/test_euler.c -- schedules, their parts, and whole runs of a toy model. */
#include "engine/sampling/euler.h"
#include "engine/sampling/rng.h"
#include "tests/support/vectors.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const schedule_config SDXL = {
    .beta_start = 0.00085f, .beta_end = 0.012f, .train_steps = 1000, .steps_offset = 1
};

static euler open_steps(int steps)
{
    euler s;
    cr_assert_eq(euler_open(&s, &SDXL, steps), REFINE_OK);
    return s;
}

Test(engine_euler, has_the_published_sigmas_to_the_bit)
{
    const euler s = open_steps(1000), fifty = open_steps(50);
    cr_expect_eq(s.sigma[999], 0.04131447896361351f); /* timestep 1 */
    cr_expect_eq(s.sigma[998], 0.05068043991923332f);
    cr_expect_eq(s.sigma[1], 14.614646911621094f); /* timestep 999 */
    cr_expect_eq(s.timestep[0], 1000.0f);
    cr_expect_eq(s.sigma[0], s.sigma[1]); /* past the table: its last entry */
    cr_expect_eq(s.sigma[1000], 0.0f);
    cr_expect_eq(fifty.timestep[35], 281.0f);
    cr_expect_eq(fifty.sigma[0], 13.120415687561035f);
    cr_expect_eq(fifty.sigma[35], 0.778923749923706f);
}

Test(engine_euler, counts_steps_of_a_strength_as_the_reference_does)
{
    /* In double: 0.29 * 100 is just below 29, 0.7 * 10 is 7. */
    static const struct {
        int steps;
        double strength;
        int run;
    } cases[] = { { 50, 0.3, 15 }, { 20, 0.3, 6 },  { 10, 0.3, 3 },    { 100, 0.29, 28 },
                  { 10, 0.7, 7 },  { 50, 1.0, 50 }, { 50, 7.0, 50 },   { 50, 0.0, 0 },
                  { 50, -1, 0 },   { 50, NAN, 0 },  { 10, 0.0999, 0 }, { 1, 0.999, 0 },
                  { 1, 1.0, 1 } };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const euler s = open_steps(cases[i].steps);
        cr_expect_eq(s.steps - euler_first(&s, cases[i].strength, 0), cases[i].run, "%d x %g",
                     cases[i].steps, cases[i].strength);
    }
}

Test(engine_euler, splits_between_base_and_refiner)
{
    static const int steps[] = { 10, 20, 25, 30, 40, 50 }, refiner[] = { 2, 4, 5, 7, 8, 10 };
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        const euler s = open_steps(steps[i]);
        cr_expect_eq(s.steps - euler_first(&s, 0.3, 0.8), refiner[i], "%d steps", steps[i]);
        cr_expect_eq(euler_end(&s, 0.8), s.steps - refiner[i]);
    }
    const euler s = open_steps(50);
    cr_expect_eq(euler_first(&s, 0.3, 1.0), 35, "1.0 is not a start: strength counts");
    cr_expect_eq(euler_end(&s, 0.0), 50);
    cr_expect_eq(euler_end(&s, 1.0), 50);
    /* 1000 - 823.5 is a tie: 176 by half-to-even, and timestep 176 is not below that. */
    const euler forty = open_steps(40);
    cr_expect_eq(forty.timestep[32], 176.0f);
    cr_expect_eq(euler_first(&forty, 0.3, 0.8235), 33);
}

Test(engine_euler, refuses_impossible_numbers_of_steps)
{
    schedule_config tiny = SDXL;
    euler s;
    tiny.train_steps = 10;
    cr_expect_eq(euler_open(&s, &SDXL, 0), REFINE_EINVAL);
    cr_expect_eq(euler_open(&s, &SDXL, -1), REFINE_EINVAL);
    cr_expect_eq(euler_open(&s, &SDXL, 1001), REFINE_EINVAL);
    cr_expect_eq(euler_open(&s, &tiny, 11), REFINE_EINVAL);
    cr_expect_eq(euler_open(&s, &tiny, 10), REFINE_OK);
}

Test(engine_euler, has_falling_sigmas_for_every_number_of_steps)
{
    for (int n = 1; n < 1000; n++) {
        const euler s = open_steps(n);
        for (int i = 0; i < n; i++) {
            cr_assert_gt(s.sigma[i], s.sigma[i + 1], "%d steps, %d", n, i);
            cr_assert(i == 0 || s.timestep[i] < s.timestep[i - 1]);
        }
        cr_assert_eq(s.timestep[n - 1], 1.0f);
    }
}

/* The toy model of the traces: eps = 0.3 x_in + 0.05 (i + 1), i counting executed steps. */
static void trace_toy_sampler(int steps, double strength, double *out)
{
    const euler s = open_steps(steps);
    const int first = euler_first(&s, strength, 0);
    const float noise = -0.4f;
    float x = 0.7f;
    euler_add_noise(&s, first, &x, &noise, 1);
    *out++ = (double)x;
    for (int i = first; i < steps; i++) {
        const float in = x / euler_input_scale(&s, i);
        const float eps = 0.3f * in + 0.05f * (float)(i - first + 1);
        euler_step(&s, i, &x, &eps, NULL, 1);
        *out++ = (double)x;
    }
}

Test(engine_euler, follows_the_reference_through_a_run)
{
    static const double want[] = { 0.4703797101974487, 0.43109999401656474, 0.3633530523907138,
                                   0.35265619652127445 };
    double got[4];
    trace_toy_sampler(10, 0.3, got);
    for (int i = 0; i < 4; i++)
        cr_expect_float_eq(got[i], want[i], 2e-7, "%d: %.9g, expected %.9g", i, got[i], want[i]);
}

Test(engine_euler, recovers_the_picture_from_its_true_noise)
{
    const euler s = open_steps(30);
    const float noise[3] = { 1.5f, -0.25f, 0.0f };
    float x[3] = { 0.5f, -2.0f, 3.0f };
    euler_add_noise(&s, 5, x, noise, 3);
    for (int i = 5; i < 30; i++)
        euler_step(&s, i, x, noise, NULL, 3);
    cr_expect_float_eq(x[0], 0.5f, 1e-5);
    cr_expect_float_eq(x[1], -2.0f, 1e-5);
    cr_expect_float_eq(x[2], 3.0f, 1e-5);
}

static void same_part(const euler *s, const json_t *part, int first, int end)
{
    const json_t *t = json_object_get(part, "timesteps"), *sigma = json_object_get(part, "sigmas");
    cr_assert_eq((int)json_array_size(t), end - first);
    for (int i = first; i < end; i++)
        cr_expect_eq(s->timestep[i],
                     (float)json_number_value(json_array_get(t, (size_t)(i - first))));
    for (size_t i = 0; i < json_array_size(sigma); i++)
        cr_expect_eq(s->sigma[first + (int)i], (float)json_number_value(json_array_get(sigma, i)),
                     "%d steps: sigma %zu", s->steps, i);
}

Test(engine_euler, matches_every_shared_schedule_to_the_bit)
{
    json_t *root = vectors_load("spec/schedules.json"), *v;
    const char *steps;
    if (!root)
        cr_skip_test("no shared vectors");
    json_object_foreach(json_object_get(root, "schedules"), steps, v)
    {
        int n = 0;
        cr_assert_eq(sscanf(steps, "%d", &n), 1);
        const euler s = open_steps(n);
        const json_t *want = json_object_get(v, "euler");
        const double start = json_number_value(json_object_get(want, "init_noise_sigma"));
        same_part(&s, want, 0, n);
        same_part(&s, json_object_get(want, "strength_0_3"), euler_first(&s, 0.3, 0), n);
        same_part(&s, json_object_get(want, "denoising_start_0_8"), euler_first(&s, 1, 0.8), n);
        same_part(&s, json_object_get(want, "denoising_end_0_8"), 0, euler_end(&s, 0.8));
        cr_expect_float_eq(euler_input_scale(&s, 0), start, 1e-6 * start);
    }
    json_decref(root);
}

Test(engine_euler, matches_every_shared_euler_trace)
{
    json_t *root = vectors_load("spec/scheduler_traces.json"), *v;
    const char *name;
    int n_traces = 0;
    if (!root)
        cr_skip_test("no shared vectors");
    json_object_foreach(json_object_get(root, "traces"), name, v)
    {
        int steps;
        double strength, want[64], got[64];
        if (sscanf(name, "euler N=%d strength=%lf", &steps, &strength) != 2)
            continue;
        const size_t n = vectors_doubles(v, "trace", want, 64);
        trace_toy_sampler(steps, strength, got);
        n_traces++;
        /* The traces are double throughout; ours rounds to float at each step. */
        for (size_t i = 0; i < n; i++)
            cr_expect_float_eq(got[i], want[i], 1e-5, "%s, %zu: %.9g, expected %.9g", name, i,
                               got[i], want[i]);
    }
    cr_assert_eq(n_traces, 4);
    json_decref(root);
}

/* ---- every spacing, prediction and kind, by the shared tables and traces ---- */

static const struct {
    const char *name;
    timestep_spacing spacing;
    prediction_type prediction;
    bool ancestral;
} KINDS[] = {
    { "euler", SPACING_LEADING, PREDICTS_EPSILON, false },
    { "euler_trailing", SPACING_TRAILING, PREDICTS_EPSILON, false },
    { "euler_linspace", SPACING_LINSPACE, PREDICTS_EPSILON, false },
    { "euler_v", SPACING_LEADING, PREDICTS_V, false },
    { "euler_a", SPACING_LEADING, PREDICTS_EPSILON, true },
    { "euler_a_trailing", SPACING_TRAILING, PREDICTS_EPSILON, true },
    { "euler_a_linspace", SPACING_LINSPACE, PREDICTS_EPSILON, true },
};

enum { N_KINDS = sizeof KINDS / sizeof KINDS[0], TRACE_VALUES = 16 };

/* N_KINDS: none of these. */
static size_t find_kind(const char *name)
{
    size_t kind = 0;
    while (kind < N_KINDS && strcmp(KINDS[kind].name, name) != 0)
        kind++;
    return kind;
}

static euler open_sampler_kind(size_t kind, int steps)
{
    schedule_config c = SDXL;
    euler s;
    c.spacing = KINDS[kind].spacing;
    c.prediction = KINDS[kind].prediction;
    c.sampler = KINDS[kind].ancestral ? SAMPLER_EULER_ANCESTRAL : SAMPLER_EULER;
    cr_assert_eq(euler_open(&s, &c, steps), REFINE_OK);
    return s;
}

/* The tables are another torch's than the schedules above, an ulp away here and there. */
static void expect_digits(double got, double want, const char *what, int i)
{
    cr_expect_float_eq(got, want, 2e-7 * fabs(want), "%s, %d: %.9g, expected %.9g", what, i, got,
                       want);
}

Test(engine_euler, spaces_its_steps_as_the_reference_does)
{
    json_t *root = vectors_load("spec/sampler_tables.json"), *v;
    const char *n;
    int tried = 0;
    if (!root)
        cr_skip_test("no shared vectors");
    for (size_t kind = 0; kind < N_KINDS; kind++) {
        const char *name = KINDS[kind].name;
        json_t *c = json_object_get(json_object_get(root, "configs"), name);
        json_object_foreach(json_object_get(c, "n"), n, v)
        {
            const euler s = open_sampler_kind(kind, (int)strtol(n, NULL, 10));
            json_t *t = json_object_get(v, "t"), *sigma = json_object_get(v, "sigma");
            cr_assert_eq((int)json_array_size(t), s.steps);
            for (int i = 0; i <= s.steps; i++) {
                if (i < s.steps)
                    expect_digits((double)s.timestep[i],
                                  json_number_value(json_array_get(t, (size_t)i)), name, i);
                expect_digits((double)s.sigma[i],
                              json_number_value(json_array_get(sigma, (size_t)i)), name, i);
            }
            expect_digits((double)s.init_noise,
                          json_number_value(json_object_get(v, "init_noise_sigma")), name, -1);
            tried++;
        }
    }
    cr_assert_eq(tried, 3 * N_KINDS);
    json_decref(root);
}

/* The model that the traces give; that of the pipelines' runs says 0.1 more of a prompt. */
static void predict_trace(const euler *s, int i, float guidance, const float *x, float *out)
{
    for (int j = 0; j < TRACE_VALUES; j++)
        out[j] = 0.25f * (x[j] / euler_input_scale(s, i)) +
                 0.1f * (float)cos(0.01 * (double)s->timestep[i]) +
                 0.02f * ((float)(j % 4) - 1.5f) + 0.1f * guidance;
}

static bool follow_trace(size_t kind, const json_t *trace)
{
    const json_t *want = json_object_get(trace, "x");
    const euler s = open_sampler_kind(kind, (int)json_integer_value(json_object_get(trace, "N")));
    float x[TRACE_VALUES], predicted[TRACE_VALUES], noise[TRACE_VALUES];
    rng g;

    rng_open(&g, RNG_TORCH, 7);
    rng_randn(&g, x, TRACE_VALUES);
    for (int j = 0; j < TRACE_VALUES; j++)
        x[j] *= s.init_noise;
    cr_assert_eq((int)json_array_size(want), s.steps);
    for (int i = 0; i < s.steps; i++) {
        predict_trace(&s, i, 0, x, predicted);
        if (s.ancestral)
            rng_randn(&g, noise, TRACE_VALUES);
        euler_step(&s, i, x, predicted, noise, TRACE_VALUES);
        for (size_t k = 0; k < 4; k++) {
            const double is = json_number_value(json_array_get(json_array_get(want, (size_t)i), k));
            cr_assert_float_eq((double)x[5 * k], is, 2e-5 * fabs(is) + 1e-6,
                               "%s of %d steps, step %d, value %zu: %.9g, expected %.9g",
                               KINDS[kind].name, s.steps, i, k, (double)x[5 * k], is);
        }
    }
    return true;
}

/* Of the rows of a shared file, those of a sampler that is ours; how many that were.  of: the row's
 * sampler. */
static int try_shared_rows(const char *file, const char *rows, const char *(*of)(const json_t *),
                           bool (*try)(size_t kind, const json_t *row))
{
    json_t *root = vectors_load(file), *row;
    size_t i;
    int tried = 0;
    if (!root)
        cr_skip_test("no shared vectors");
    json_array_foreach(json_object_get(root, rows), i, row)
    {
        const size_t kind = find_kind(of(row));
        tried += kind < N_KINDS && try(kind, row);
    }
    json_decref(root);
    return tried;
}

static const char *sampler_of_trace(const json_t *trace)
{
    return json_string_value(json_object_get(trace, "config"));
}

Test(engine_euler, follows_every_shared_run_of_its_kinds)
{
    cr_assert_geq(
        try_shared_rows("spec/sampler_traces.json", "traces", sampler_of_trace, follow_trace), 14);
}

/* ---- where a base stops and a refiner goes on ---- */

static double vector_number(const json_t *row, size_t i)
{
    return json_number_value(json_array_get(row, i));
}

static bool expect_handoff(size_t kind, const json_t *row)
{
    enum { NAME, STEPS, SHARE, CUTOFF, BASE_STEPS, BASE_T, FIRST, REFINER_STEPS, REFINER_T, LEFT };
    const euler s = open_sampler_kind(kind, (int)vector_number(row, STEPS));
    const double share = vector_number(row, SHARE);
    const int end = euler_end(&s, share), first = euler_first(&s, 0.3, share);
    cr_assert(end > 0 && first < s.steps);
    cr_expect_eq(end, (int)vector_number(row, BASE_STEPS), "%d steps, %g", s.steps, share);
    cr_expect_eq((double)s.timestep[end - 1], vector_number(row, BASE_T));
    cr_expect_eq(first, (int)vector_number(row, FIRST), "%d steps, %g", s.steps, share);
    cr_expect_eq(s.steps - first, (int)vector_number(row, REFINER_STEPS));
    cr_expect_eq((double)s.timestep[first], vector_number(row, REFINER_T));
    expect_digits((double)s.sigma[end], vector_number(row, LEFT), KINDS[kind].name, end);
    expect_digits((double)s.sigma[first], vector_number(row, LEFT + 1), KINDS[kind].name, first);
    return true;
}

static const char *sampler_of_handoff(const json_t *row)
{
    return json_string_value(json_array_get(row, 0));
}

Test(engine_euler, hands_over_where_every_shared_handoff_of_its_kinds_does)
{
    cr_assert_eq(try_shared_rows("spec/handoff.json", "rows", sampler_of_handoff, expect_handoff),
                 24);
}

/* ---- runs of the pipelines, with a model in the UNet's place ---- */

static double argument_of(const json_t *run, const char *name)
{
    return json_number_value(json_object_get(json_object_get(run, "args"), name));
}

/* The steps from `first` on whose timesteps and end the run has under these names. */
static void follow_part(const euler *s, int first, const json_t *run, const char *times,
                        const char *final, rng *g, float *x)
{
    const json_t *t = json_object_get(run, times), *want = json_object_get(run, final);
    const json_t *name = json_object_get(json_object_get(run, "args"), "guidance_scale");
    const float guidance = (float)(name ? json_number_value(name) : argument_of(run, "guidance"));
    float predicted[TRACE_VALUES], noise[TRACE_VALUES];

    for (size_t k = 0; k < json_array_size(t); k++) {
        const int i = first + (int)k;
        cr_assert_lt(i, s->steps);
        cr_expect_eq((double)s->timestep[i], vector_number(t, k), "%s %zu", times, k);
        predict_trace(s, i, guidance, x, predicted);
        if (s->ancestral)
            rng_randn(g, noise, TRACE_VALUES);
        euler_step(s, i, x, predicted, noise, TRACE_VALUES);
    }
    cr_assert_eq(json_array_size(want), (size_t)TRACE_VALUES);
    for (size_t j = 0; j < TRACE_VALUES; j++)
        cr_expect_float_eq(
            (double)x[j], vector_number(want, j), 2e-5 * fabs(vector_number(want, j)) + 1e-6,
            "%s, value %zu: %.9g, expected %.9g", final, j, (double)x[j], vector_number(want, j));
}

static void follow_ensemble(size_t kind, const json_t *run)
{
    const euler s = open_sampler_kind(kind, (int)argument_of(run, "N"));
    const double share = argument_of(run, "handoff");
    const int end = euler_end(&s, share), first = euler_first(&s, 0.3, share);
    float x[TRACE_VALUES];
    rng g;

    cr_expect_eq((int)json_array_size(json_object_get(run, "base_t")), end);
    cr_expect_eq((int)json_array_size(json_object_get(run, "refiner_t")), s.steps - first);
    rng_open(&g, RNG_TORCH, (uint64_t)argument_of(run, "gen_base"));
    rng_randn(&g, x, TRACE_VALUES);
    for (int j = 0; j < TRACE_VALUES; j++)
        x[j] *= s.init_noise;
    follow_part(&s, 0, run, "base_t", "base_final", &g, x);
    rng_open(&g, RNG_TORCH, (uint64_t)argument_of(run, "gen_refiner"));
    follow_part(&s, first, run, "refiner_t", "refiner_final", &g, x);
}

/* From text, or from latents that are said. */
static void follow_one_model(size_t kind, const json_t *run, bool from_latents)
{
    const euler s = open_sampler_kind(kind, (int)argument_of(run, "num_inference_steps"));
    const int first = from_latents ? euler_first(&s, argument_of(run, "strength"), 0) : 0;
    float x[TRACE_VALUES], noise[TRACE_VALUES];
    rng g;

    rng_open(&g, RNG_TORCH, (uint64_t)argument_of(run, "gen"));
    rng_randn(&g, noise, TRACE_VALUES);
    for (int j = 0; j < TRACE_VALUES; j++)
        x[j] = from_latents ? 0.05f * ((float)j - 7.5f) : noise[j] * s.init_noise;
    if (from_latents)
        euler_add_noise(&s, first, x, noise, TRACE_VALUES);
    cr_expect_eq((int)json_array_size(json_object_get(run, "t")), s.steps - first);
    follow_part(&s, first, run, "t", "final", &g, x);
}

static const char *sampler_of_run(const json_t *run)
{
    return json_string_value(json_object_get(run, "scheduler"));
}

/* Inpainting and a rescaled guidance are not ours. */
static bool follow_run(size_t kind, const json_t *run)
{
    const char *what = json_string_value(json_object_get(run, "kind"));
    if (strstr(what, "inpaint") || strstr(what, "guidance_rescale"))
        return false;
    if (strcmp(what, "ensemble") == 0)
        follow_ensemble(kind, run);
    else
        follow_one_model(kind, run, strstr(what, "img2img") != NULL);
    return true;
}

Test(engine_euler, follows_every_shared_run_of_a_pipeline)
{
    cr_assert_eq(try_shared_rows("spec/pipeline_vectors.json", "runs", sampler_of_run, follow_run),
                 7);
}

Test(engine_euler, spaces_trailing_steps_as_written_for_every_number_of_them)
{
    for (int n = 1; n <= 1000; n++) {
        const euler s = open_sampler_kind(1, n);
        cr_assert_eq(s.timestep[0], 999.0f, "%d steps", n);
        for (int i = 1; i < n; i++)
            cr_assert(s.timestep[i] < s.timestep[i - 1] && s.timestep[i] >= 0, "%d of %d", i, n);
    }
}

Test(engine_euler, of_one_step_goes_from_pure_noise_to_the_image)
{
    const euler s = open_sampler_kind(5, 1); /* as a distilled model is run */
    float x = 3.0f * s.init_noise;
    const float eps = 3.0f, noise = 1.0f;
    euler_step(&s, 0, &x, &eps, &noise, 1);
    cr_expect_float_eq(x, 0.0f, 1e-5);
}
