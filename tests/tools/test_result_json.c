/* tests/tools/test_result_json.c -- the JSON of a result is whole, exact and always JSON. */
#define _POSIX_C_SOURCE 200809L /* open_memstream */
#include "tools/report/result_json.h"

#include <criterion/criterion.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double STEPS[] = { 2.5, 1.5 };

static refine_report make_sample_report(void)
{
    refine_report r = REFINE_REPORT_INIT;
    r.device = "cpu";
    r.device_model = "some processor";
    r.precision = "f32";
    r.reader = "pread";
    r.source_name = "model.safetensors";
    r.sampler = "euler ancestral";
    r.source_hash = 0x0123456789abcdefu;
    r.width = 64;
    r.height = 128;
    r.steps_run = 2;
    r.step = STEPS;
    r.total = 4.0;
    r.stall_disk = 1.0;
    r.mispredicted_rate = r.slow_part = "";
    r.memory.device_planned = 5000000000u;
    r.memory.device_peak = 4000000000u;
    return r;
}

static json_t *print_result_as_json(const refine_report *r, const run_record *run)
{
    char *text = NULL;
    size_t len;
    json_error_t e;
    refine_error err = { 0 };
    FILE *f = open_memstream(&text, &len);
    cr_assert_eq(result_print_json(f, r, run, &err), REFINE_OK, "%s", err.text);
    (void)fclose(f);
    json_t *j = json_loads(text, 0, &e);
    cr_assert_not_null(j, "%s: %s", e.text, text);
    cr_assert_eq(text[len - 1], '\n');
    free(text);
    return j;
}

static const json_t *get_result_member(const json_t *j, const char *object, const char *key)
{
    return json_object_get(object ? json_object_get(j, object) : j, key);
}

static const char *string_at(const json_t *j, const char *object, const char *key)
{
    const char *s = json_string_value(get_result_member(j, object, key));
    return s ? s : "(none)";
}

Test(tools_result_json, holds_what_the_report_holds)
{
    refine_job job = REFINE_JOB_INIT;
    job.guidance = 3.4f;
    job.seed = 12;
    job.rgb_in = &(uint8_t){ 0 };
    const refine_report r = make_sample_report();
    const run_record run = { .output = "out.png", .pack = "m.pack", .prompt = "cat", .job = &job };
    json_t *j = print_result_as_json(&r, &run);
    cr_assert_str_eq(string_at(j, NULL, "output"), "out.png");
    cr_assert_eq(json_integer_value(get_result_member(j, NULL, "height")), 128);
    cr_assert_eq(json_integer_value(get_result_member(j, "memory", "device_planned")), 5000000000);
    cr_assert_eq(json_integer_value(get_result_member(j, "memory", "device_peak")), 4000000000);
    cr_assert_eq(json_real_value(get_result_member(j, "stall", "share")), 0.25);
    cr_assert_eq(json_real_value(json_array_get(get_result_member(j, "seconds", "steps"), 0)), 2.5);
    cr_assert_eq(json_real_value(json_array_get(get_result_member(j, "seconds", "steps"), 1)), 1.5);
    cr_assert_str_eq(string_at(j, "run", "source_hash"), "0123456789abcdef");
    cr_assert_eq(json_integer_value(get_result_member(j, "run", "seed")), 12);
    cr_assert_eq(json_real_value(get_result_member(j, "run", "guidance")), 3.4);
    cr_assert_str_eq(string_at(j, "run", "scheduler"), "euler ancestral");
    cr_assert_eq(json_real_value(get_result_member(j, "run", "strength")), 0.3);
    cr_assert_null(get_result_member(j, "run", "denoising_start"));
    json_decref(j);
    job.rgb_in = NULL;
    j = print_result_as_json(&r, &run);
    cr_assert_null(get_result_member(j, "run", "strength"), "of an image from text");
    json_decref(j);
}

Test(tools_result_json, tells_of_a_job_what_few_have_where_this_one_does)
{
    refine_job job = REFINE_JOB_INIT;
    const refine_report r = make_sample_report();
    const run_record run = { .output = "out.png", .pack = "m.pack", .prompt = "cat", .job = &job };
    json_t *j = print_result_as_json(&r, &run);
    cr_expect_null(get_result_member(j, "run", "clip_skip"));
    cr_expect_null(get_result_member(j, "run", "crop"));
    json_decref(j);
    job.clip_skip = 2;
    job.crop_top = 16;
    job.negative_target_width = 640;
    job.negative_target_height = 480;
    j = print_result_as_json(&r, &run);
    cr_expect_eq(json_integer_value(get_result_member(j, "run", "clip_skip")), 2);
    const json_t *crop = get_result_member(j, "run", "crop"),
                 *target = get_result_member(j, "run", "negative_target_size");
    cr_expect_eq(json_integer_value(json_array_get(crop, 0)), 0);
    cr_expect_eq(json_integer_value(json_array_get(crop, 1)), 16);
    cr_expect_eq(json_integer_value(json_array_get(target, 0)), 640);
    cr_expect_eq(json_integer_value(json_array_get(target, 1)), 480);
    cr_expect_null(get_result_member(j, "run", "target_size"));
    json_decref(j);
}

Test(tools_result_json, leaves_out_of_a_plan_what_only_a_run_knows)
{
    refine_job job = REFINE_JOB_INIT;
    refine_report r = make_sample_report();
    job.denoising_start = 0.8;
    r.step = NULL;
    r.predicted_step = 1.25;
    r.predicted_unet = 2.5;
    r.predicted_text = 0.125;
    r.predicted_encode = 0.25;
    r.predicted_decode = 0.5;
    r.predicted_total = 3.375;
    const run_record run = { .pack = "m.pack", .base = "b.pack", .negative = "", .job = &job };
    json_t *j = print_result_as_json(&r, &run);
    cr_assert_str_eq(string_at(j, "run", "base_pack"), "b.pack");
    cr_assert_str_eq(string_at(j, "run", "negative"), "");
    cr_assert_null(get_result_member(j, NULL, "output"));
    cr_assert_null(get_result_member(j, NULL, "seconds"));
    cr_assert_null(get_result_member(j, NULL, "stall"));
    cr_assert_null(get_result_member(j, "memory", "device_peak"));
    cr_assert_eq(json_integer_value(get_result_member(j, "memory", "device_planned")), 5000000000);
    cr_assert_eq(json_real_value(get_result_member(j, "predicted", "unet")), 2.5);
    cr_assert_eq(json_real_value(get_result_member(j, "predicted", "text")), 0.125);
    cr_assert_eq(json_real_value(get_result_member(j, "predicted", "vae_encode")), 0.25);
    cr_assert_eq(json_real_value(get_result_member(j, "predicted", "vae_decode")), 0.5);
    cr_assert_eq(json_real_value(get_result_member(j, "predicted", "total")), 3.375);
    cr_assert_null(get_result_member(j, "predicted", "slowest_step"));
    cr_assert_eq(json_real_value(get_result_member(j, "run", "denoising_start")), 0.8);
    cr_assert_null(get_result_member(j, "run", "strength"));
    json_decref(j);
}

/* A step of 1.9 times its prediction, and one that is well enough. */
static refine_report slow_sample(bool slow)
{
    refine_report r = make_sample_report();
    r.predicted_step = 1.25;
    r.slow_step = slow ? 1.9 : 1.1;
    r.slow_part = slow ? "attention" : "";
    r.slow_part_by = 3.125;
    return r;
}

Test(tools_result_json, names_what_was_slow_where_something_was)
{
    refine_job job = REFINE_JOB_INIT;
    for (int slow = 0; slow < 2; slow++) {
        const refine_report r = slow_sample(slow);
        json_t *j = print_result_as_json(&r, &(run_record){ .output = "out.png", .job = &job });
        const json_t *step = get_result_member(j, "predicted", "slowest_step");
        cr_expect_eq(json_real_value(json_object_get(step, "times")), r.slow_step);
        cr_expect_eq(json_object_get(step, "part") != NULL, slow == 1);
        if (slow) {
            cr_expect_str_eq(json_string_value(json_object_get(step, "part")), "attention");
            cr_expect_eq(json_real_value(json_object_get(step, "part_times")), 3.125);
        }
        json_decref(j);
    }
}

static void expect_slow_line(const refine_report *r, const char *want)
{
    char text[256] = "";
    FILE *f = tmpfile();
    result_print_slow(f, r);
    rewind(f);
    text[fread(text, 1, sizeof text - 1, f)] = 0;
    cr_expect_str_eq(text, want, "%s", text);
    (void)fclose(f);
}

Test(tools_result_json, says_in_one_line_what_was_slow)
{
    refine_report r = slow_sample(true);
    expect_slow_line(&r,
                     "note: a step took 1.9 times as long as predicted: attention is 3.1 times as "
                     "slow as probed\n");
    r.slow_part = "copying";
    r.slow_part_by = 1;
    expect_slow_line(&r,
                     "note: a step took 1.9 times as long as predicted: most of the difference is "
                     "copying\n");
    r = slow_sample(false);
    expect_slow_line(&r, "");
}

Test(tools_result_json, is_json_whatever_it_is_given)
{
    refine_job job = REFINE_JOB_INIT;
    refine_report r = make_sample_report();
    job.seed = UINT64_MAX;
    r.disk_rate = (double)INFINITY;
    r.copy_rate = (double)NAN;
    r.memory.device_limit = UINT64_MAX;
    const run_record run = { .output = "\xff.png", .prompt = "\"caf\xe9\"\n", .job = &job };
    json_t *j = print_result_as_json(&r, &run);
    cr_assert_str_eq(string_at(j, "run", "prompt"), "\"caf\xef\xbf\xbd\"\n");
    cr_assert_str_eq(string_at(j, NULL, "output"), "\xef\xbf\xbd.png");
    cr_assert_str_eq(string_at(j, "run", "seed"), "18446744073709551615");
    cr_assert(json_is_null(get_result_member(j, "run", "negative")));
    cr_assert_null(get_result_member(j, "run", "base_pack"));
    cr_assert_eq(json_real_value(get_result_member(j, "io", "disk_rate")), 0.0);
    cr_assert_eq(json_integer_value(get_result_member(j, "memory", "device_limit")), INT64_MAX);
    json_decref(j);
}
