/* tests/tools/test_refine_lowmem.c -- the program as a script sees it: what goes to stdout and what
 * to stderr, files made, the image they hold.  What fails and what a list of images makes are in
 * test_refine_lowmem_failures.c and test_refine_lowmem_files.c. */
#define _XOPEN_SOURCE 700
#include "tests/support/checkpoint_fixture.h"
#include "tests/support/lowmem_bench.h"
#include "tests/support/tiny_pack.h"
#include "tools/files/latents_io.h"
#include "tools/image/image_io.h"

#include <criterion/criterion.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FIT_W = 96, FIT_H = 64 }; /* what the bench's image is made to fit */
static const float FACTOR = 0.13025f;

/* ---- a run ---- */

Test(tools_refine_lowmem, refines_a_picture_and_writes_in_it_how)
{
    static const char *const TEXTS[][2] = {
        { "prompt", "caf\xc3\xa9" },
        { "negative_prompt", "blurry" },
        { "seed", "7" },
        { "steps", "10" },
        { "strength", "0.4" },
        { "guidance", "3.5" },
        { "rng", "philox" },
        { "scheduler", "euler" },
        { "aesthetic_scores", "7, 1" },
    };
    lowmem_bench b = lowmem_bench_open();
    image im;
    lowmem_outcome o = run_refine_lowmem(
        &b, "-m @ -i @in.png -o @out.png -p caf\xc3\xa9 -n blurry --steps 10 --seed 7 "
            "--strength 0.4 --guidance 3.5 --rng philox --aesthetic-score 7 "
            "--negative-aesthetic-score 1 --threads 1");
    cr_assert_eq(o.code, 0, "%s", o.err);
    cr_assert_str_eq(o.out, "");
    cr_assert_not_null(strstr(o.err, "4 steps in"), "%s", o.err);
    outcome_free(&o);
    cr_assert_eq(image_load(&im, bench_path(&b, "out.png"), NULL), REFINE_OK);
    cr_assert(im.width == FIT_W && im.height == FIT_H, "%d x %d", im.width, im.height);
    image_free(&im);
    for (size_t i = 0; i < sizeof TEXTS / sizeof TEXTS[0]; i++) {
        char *value = png_text_of(bench_path(&b, "out.png"), TEXTS[i][0]);
        cr_assert_not_null(value, "%s is missing", TEXTS[i][0]);
        cr_assert_str_eq(value, TEXTS[i][1], "%s: %s", TEXTS[i][0], value);
        free(value);
    }
    cr_assert_eq(lowmem_bench_close(&b), 1);
}

Test(tools_refine_lowmem, names_the_sampler_that_the_model_is_meant_for)
{
    lowmem_bench b = lowmem_bench_open();
    const char *bin = getenv("REFINE_BIN");
    char command[2048];
    fixture_directory(bench_path(&b, "model"), 1, 1);
    (void)snprintf(command, sizeof command,
                   "cd '%s' && sed -i s/EulerDiscrete/EulerAncestralDiscrete/ "
                   "model/scheduler/*.json && cd - >/dev/null && '%s/refine-pack' '%s/model' "
                   "-o '%s/m.pack' --tokenizer docs/sample/demo_merges.txt --quiet >/dev/null && "
                   "rm -r '%s/model'",
                   b.dir, bin ? bin : "build/release/bin", b.dir, b.dir, b.dir);
    cr_assert_eq(system(command), 0);
    lowmem_outcome o = run_refine_lowmem(
        &b, "-m @m.pack -i @in.png -o @out.png -p cat --steps 4 --threads 1 --json");
    cr_assert_eq(o.code, 0, "%s", o.err);
    cr_expect_not_null(strstr(o.out, "\"scheduler\": \"euler ancestral\""), "%s", o.out);
    outcome_free(&o);
    char *value = png_text_of(bench_path(&b, "out.png"), "scheduler");
    cr_expect_str_eq(value, "euler ancestral");
    free(value);
    cr_assert_eq(lowmem_bench_close(&b), 2);
}

static void has_numbers(const json_t *o, const char *object, const char *keys)
{
    const json_t *inner = json_object_get(o, object);
    char text[256];
    cr_assert(json_is_object(inner), "%s", object);
    (void)snprintf(text, sizeof text, "%s", keys);
    for (char *p = text, *space; *p; p = space ? space + 1 : p + strlen(p)) {
        space = strchr(p, ' ');
        if (space)
            *space = 0;
        cr_assert(json_is_number(json_object_get(inner, p)), "%s.%s", object, p);
    }
}

static json_t *json_of(const lowmem_outcome *o)
{
    json_error_t e;
    json_t *j = json_loads(o->out, 0, &e);
    cr_assert_not_null(j, "%s: %s", e.text, o->out);
    return j;
}

static json_int_t int_of(const json_t *o, const char *object, const char *key)
{
    return json_integer_value(json_object_get(json_object_get(o, object), key));
}

static const char *string_of(const json_t *o, const char *object, const char *key)
{
    const char *s = json_string_value(json_object_get(json_object_get(o, object), key));
    return s ? s : "(none)";
}

Test(tools_refine_lowmem, prints_the_result_that_scripts_rely_on)
{
    lowmem_bench b = lowmem_bench_open();
    lowmem_outcome o = run_refine_lowmem(&b, JOB
                                         "-o @out.png --strength 0.4 --vram 48M --json --quiet");
    cr_assert_eq(o.code, 0, "%s", o.err);
    cr_assert_str_eq(o.err, "");
    json_t *j = json_of(&o);
    cr_assert_str_eq(json_string_value(json_object_get(j, "output")), bench_path(&b, "out.png"));
    cr_assert(json_is_string(json_object_get(j, "version")));
    cr_assert(json_is_string(json_object_get(j, "device")));
    cr_assert(json_is_string(json_object_get(j, "precision")));
    cr_assert_eq(json_integer_value(json_object_get(j, "width")), FIT_W);
    cr_assert_eq(json_integer_value(json_object_get(j, "height")), FIT_H);
    cr_assert_eq(json_integer_value(json_object_get(j, "images")), 1);
    cr_assert_eq(json_integer_value(json_object_get(j, "steps_run")), 4);
    has_numbers(j, "seconds", "total open text vae_encode unet vae_decode first_step step_median");
    has_numbers(j, "memory",
                "device_planned device_peak device_limit host_planned host_peak "
                "host_limit ring resident activations");
    has_numbers(j, "io", "disk_bytes disk_bytes_per_step copy_bytes_per_step disk_rate copy_rate");
    has_numbers(j, "stall", "share disk decode copy");
    cr_assert(json_is_object(json_object_get(j, "predicted")));
    cr_assert_eq(json_array_size(json_object_get(json_object_get(j, "seconds"), "steps")), 4u);
    cr_assert_str_neq(string_of(j, "io", "reader"), "");
    cr_assert_str_eq(string_of(j, "run", "prompt"), "cat");
    cr_assert_eq(int_of(j, "run", "seed"), 7);
    cr_assert_eq(strlen(string_of(j, "run", "source_hash")), 16u);
    cr_assert_eq(int_of(j, "memory", "device_limit"), 48 << 20);
    cr_assert_leq(int_of(j, "memory", "device_peak"), int_of(j, "memory", "device_planned"));
    cr_assert_leq(int_of(j, "memory", "device_planned"), 48 << 20);
    json_decref(j);
    outcome_free(&o);
    (void)lowmem_bench_close(&b);
}

Test(tools_refine_lowmem, plans_without_making_anything)
{
    lowmem_bench b = lowmem_bench_open();
    lowmem_outcome o = run_refine_lowmem(&b, "-m @ -i @in.png --plan --vram 48M");
    cr_assert_eq(o.code, 0, "%s", o.err);
    cr_assert_not_null(strstr(o.out, "MiB of 48.0"), "%s", o.out);
    cr_assert_str_eq(o.err, "");
    outcome_free(&o);

    o = run_refine_lowmem(&b, JOB "-o @out.png --plan --json");
    cr_assert_eq(o.code, 0, "%s", o.err);
    json_t *j = json_of(&o);
    has_numbers(j, "memory", "device_planned device_limit host_planned host_limit ring resident");
    cr_assert(json_is_object(json_object_get(j, "predicted")));
    cr_assert_null(json_object_get(j, "seconds"));
    cr_assert_null(json_object_get(j, "stall"));
    cr_assert_null(json_object_get(json_object_get(j, "memory"), "device_peak"));
    json_decref(j);
    outcome_free(&o);
    cr_assert_eq(lowmem_bench_close(&b), 0);
}

/* The bench's image as a JPEG without its last two bytes. */
static void write_endless_jpeg(const lowmem_bench *b, const char *name)
{
    image im;
    size_t n;
    cr_assert_eq(image_load(&im, b->picture, NULL), REFINE_OK);
    cr_assert_eq(image_save(bench_path(b, name), &im, NULL, 0, NULL), REFINE_OK);
    image_free(&im);
    unsigned char *bytes = temp_read(bench_path(b, name), &n);
    temp_write(bench_path(b, name), bytes, n - 2);
    free(bytes);
}

static void expect_once(const char *text, const char *said)
{
    const char *told = strstr(text, said);
    cr_expect(told && !strstr(told + 1, said), "%s", text);
}

Test(tools_refine_lowmem, says_in_a_plan_of_an_input_what_a_run_says)
{
    static const char *const NOTES[] = { "no_end.jpg: the JPEG has no end marker",
                                         "no_end.jpg: 101 x 67 pixels became 96 x 64" };
    lowmem_bench b = lowmem_bench_open();
    write_endless_jpeg(&b, "no_end.jpg");
    lowmem_outcome text = run_refine_lowmem(&b, "-m @ -i @no_end.jpg --plan");
    lowmem_outcome object = run_refine_lowmem(&b, "-m @ -i @no_end.jpg --plan --json");
    lowmem_outcome run = run_refine_lowmem(
        &b, "-m @ -i @no_end.jpg -p cat --steps 10 --threads 1 -o @o.png");
    cr_assert(text.code == 0 && object.code == 0 && run.code == 0, "%s", run.err);
    cr_expect_str_eq(text.err, "");
    cr_expect_str_eq(object.err, "");
    json_t *j = json_of(&object);
    char *listed = json_dumps(json_object_get(j, "notes"), JSON_COMPACT);
    cr_assert_not_null(listed);
    for (int k = 0; k < 2; k++) {
        expect_once(text.out, NOTES[k]);
        expect_once(listed, NOTES[k]);
        expect_once(run.err, NOTES[k]);
    }
    free(listed);
    json_decref(j);
    outcome_free(&text);
    outcome_free(&object);
    outcome_free(&run);
    cr_assert_eq(lowmem_bench_close(&b), 2);
}

Test(tools_refine_lowmem, lists_the_devices_there_are)
{
    lowmem_bench b = lowmem_bench_open();
    lowmem_outcome o = run_refine_lowmem(&b, "--list-devices");
    cr_assert_eq(o.code, 0);
    cr_assert_not_null(strstr(o.out, "cpu      "), "%s", o.out);
    cr_assert(strstr(o.out, "cuda:0") || strstr(o.err, "no GPU: "), "%s%s", o.out, o.err);
    outcome_free(&o);
    cr_assert_eq(lowmem_bench_close(&b), 0);
}

Test(tools_refine_lowmem, says_what_it_is_and_how_it_is_used)
{
    lowmem_bench b = lowmem_bench_open();
    lowmem_outcome o = run_refine_lowmem(&b, "--version");
    cr_assert_eq(o.code, 0);
    cr_assert_eq(strncmp(o.out, "refine-lowmem 0.", 16), 0, "%s", o.out);
    outcome_free(&o);
    o = run_refine_lowmem(&b, "--help");
    cr_assert_eq(o.code, 0);
    cr_assert_not_null(strstr(o.out, "--denoising-start"));
    cr_assert_str_eq(o.err, "");
    outcome_free(&o);
    (void)lowmem_bench_close(&b);
}

Test(tools_refine_lowmem, writes_a_timeline_of_every_step)
{
    lowmem_bench b = lowmem_bench_open();
    json_error_t e;
    int steps = 0;
    expect_lowmem_success(&b, JOB "-o @o.png --trace @t.json");
    json_t *j = json_load_file(bench_path(&b, "t.json"), 0, &e);
    cr_assert_not_null(j, "%s", e.text);
    json_t *events = json_object_get(j, "traceEvents"), *event;
    size_t i;
    json_array_foreach(events, i, event)
        steps += strncmp(json_string_value(json_object_get(event, "name")), "step", 4) == 0;
    cr_assert_eq(steps, 3);
    json_decref(j);
    (void)lowmem_bench_close(&b);
}

Test(tools_refine_lowmem, says_what_was_predicted_beside_what_was)
{
    lowmem_bench b = lowmem_bench_open();
    lowmem_outcome o = run_refine_lowmem(&b,
                                         JOB "-o @out.png --limit-disk 20M --vram 40M --ram 32M");
    cr_expect_eq(o.code, 0, "%s", o.err);
    cr_expect(strstr(o.err, "predicted") && strstr(o.err, "compute waited") &&
                  strstr(o.err, "device memory: planned"),
              "%s", o.err);
    outcome_free(&o);
    o = run_refine_lowmem(&b, JOB "--plan --json");
    cr_expect(strstr(o.out, "\"stall_share\"") && strstr(o.out, "\"spill_file\""), "%s", o.out);
    outcome_free(&o);
    lowmem_bench_close(&b);
}

/* ---- the same image ---- */

Test(tools_refine_lowmem, makes_the_same_picture_in_every_budget)
{
    lowmem_bench b = lowmem_bench_open();
    expect_lowmem_success(&b, JOB "-o @large.png");
    expect_lowmem_success(&b, JOB "-o @small.png --vram 8M --reader pread");
    cr_assert(is_bench_file_equal(&b, "large.png", "small.png"));
    expect_lowmem_success(&b, JOB "-o @other.png --seed 8");
    cr_assert(!same_picture(&b, "large.png", "other.png"));
    (void)lowmem_bench_close(&b);
}

Test(tools_refine_lowmem, draws_a_seed_and_says_which)
{
    lowmem_bench b = lowmem_bench_open();
    char words[256];
    unsigned long long seed;
    lowmem_outcome o = run_refine_lowmem(&b, UNSEEDED "-o @a.png");
    cr_assert_eq(o.code, 0, "%s", o.err);
    const char *said = strstr(o.err, "seed ");
    cr_assert(said && sscanf(said, "seed %llu", &seed) == 1, "%s", o.err);
    outcome_free(&o);
    (void)snprintf(words, sizeof words, UNSEEDED "-o @b.png --seed %llu", seed);
    expect_lowmem_success(&b, words);
    cr_assert(is_bench_file_equal(&b, "a.png", "b.png"));
    (void)lowmem_bench_close(&b);
}

Test(tools_refine_lowmem, works_in_a_pipe)
{
    lowmem_bench b = lowmem_bench_open();
    expect_lowmem_success(&b, JOB "-o @file.png");
    lowmem_outcome o = wait_refine_lowmem(
        &b, start_refine_lowmem(&b, "-m @ -i - -o - -p cat --steps 10 --threads 1 --seed 7",
                                b.picture));
    cr_assert_eq(o.code, 0, "%s", o.err);
    temp_write(bench_path(&b, "piped.png"), o.out, o.out_len);
    outcome_free(&o);
    cr_assert(is_bench_file_equal(&b, "file.png", "piped.png"));
    (void)lowmem_bench_close(&b);
}

/* ---- latents ---- */

Test(tools_refine_lowmem, takes_and_gives_latents_in_every_format)
{
    static const char *const NAMES[] = { "l.safetensors", "l.npy", "l.latent" };
    lowmem_bench b = lowmem_bench_open();
    latents first = { 0 };
    char words[256];
    for (int i = 0; i < 3; i++) {
        latents l;
        (void)snprintf(words, sizeof words, JOB "--output-latents @%s", NAMES[i]);
        expect_lowmem_success(&b, words);
        cr_assert_eq(latents_load(&l, bench_path(&b, NAMES[i]), FACTOR, NULL), REFINE_OK);
        cr_assert(l.w == FIT_W / 8 && l.h == FIT_H / 8);
        for (int k = 0; i > 0 && k < LATENT_CHANNELS * l.h * l.w; k++)
            cr_assert_leq(fabsf(l.v[k] - first.v[k]), 0x1p-22f * fabsf(first.v[k]));
        if (i == 0)
            first = l;
        else
            latents_free(&l);
    }
    latents_free(&first);
    expect_lowmem_success(
        &b, "-m @ -i @l.npy -o @a.png -p cat --steps 10 --threads 1 --denoising-start 0.8");
    expect_lowmem_success(&b, "-m @ -i @l.safetensors -o @b.png -p cat --steps 10 --threads 1 "
                              "--denoising-start 0.8 --seed 99");
    cr_assert(same_picture(&b, "a.png", "b.png"), "noise was added");
    char *start_at = png_text_of(bench_path(&b, "a.png"), "denoising_start");
    cr_assert_str_eq(start_at, "0.8");
    free(start_at);
    (void)lowmem_bench_close(&b);
}

/* ---- comparing ---- */

#define COMPARE "-i @in.png -p cat --steps 10 --threads 1 --seed 7 --compare "

Test(tools_refine_lowmem, compares_two_packs)
{
    lowmem_bench b = lowmem_bench_open();
    char other[TEMP_NAME], words[1024];
    tiny_pack(other, sizeof other, "--weights int8");
    (void)snprintf(words, sizeof words, "-m %s --precision int8 " COMPARE "@ -o @out.png --quiet",
                   other);
    lowmem_outcome o = run_refine_lowmem(&b, words);
    cr_assert_eq(o.code, 0, "%s", o.err);
    cr_expect_str_eq(o.err, "");
    cr_expect(strstr(o.out, "in int8\nagainst ") && strstr(o.out, "in f32: 96 x 64, 3 steps"), "%s",
              o.out);
    cr_expect(strstr(o.out, "image  PSNR ") && strstr(o.out, "SSIM 0.99"), "%s", o.out);
    cr_expect(strstr(o.out, "unet.out") && strstr(o.out, "unet.conv_in"), "%s", o.out);
    cr_expect(!strstr(o.out, "different weights"), "%s", o.out);
    outcome_free(&o);
    (void)snprintf(words, sizeof words,
                   "-m %s --precision int8 -i @in.png -p cat --steps 10 --threads 1 --seed 7 "
                   "-o @plain.png",
                   other);
    expect_lowmem_success(&b, words);
    cr_expect(is_bench_file_equal(&b, "out.png", "plain.png"), "being compared changes the image");
    (void)unlink(other);
    (void)lowmem_bench_close(&b);
}

Test(tools_refine_lowmem, compares_for_scripts_without_making_a_picture)
{
    lowmem_bench b = lowmem_bench_open();
    lowmem_outcome o = run_refine_lowmem(&b, "-m @ --precision f32 " COMPARE "@ --json --quiet");
    cr_assert_eq(o.code, 0, "%s", o.err);
    json_t *j = json_of(&o), *c = json_object_get(j, "comparison"), *step;
    size_t i;
    cr_expect(json_is_true(json_object_get(c, "same_source")));
    cr_expect_str_eq(string_of(j, "comparison", "reference_precision"), "f32");
    cr_expect_eq(json_array_size(json_object_get(c, "steps")), 3u);
    json_array_foreach(json_object_get(c, "steps"), i, step)
    {
        cr_expect(json_is_null(json_object_get(step, "psnr")));
        cr_expect_eq(json_number_value(json_object_get(step, "relative_error")), 0.0);
    }
    cr_expect_eq(int_of(c, "picture", "largest_difference"), 0);
    cr_expect_geq(json_array_size(json_object_get(c, "layers")), 40u);
    cr_expect(json_is_object(json_object_get(j, "seconds")), "it is the result of a run");
    json_decref(j);
    outcome_free(&o);
    cr_expect_eq(lowmem_bench_close(&b), 0);
}

/* The input's memory is the output's: the reference's run must leave it alone. */
Test(tools_refine_lowmem, compares_from_latents_to_latents)
{
    lowmem_bench b = lowmem_bench_open();
    expect_lowmem_success(&b, JOB "--output-latents @l.npy");
    lowmem_outcome o = run_refine_lowmem(
        &b, "-m @ -i @l.npy --output-latents @m.npy -p cat --steps 10 --threads 1 "
            "--denoising-start 0.8 --precision f32 --compare @ --quiet");
    cr_assert_eq(o.code, 0, "%s", o.err);
    cr_expect(strstr(o.out, "PSNR the same, SSIM 1.00000, at most 0 grey"), "%s", o.out);
    outcome_free(&o);
    (void)lowmem_bench_close(&b);
}

Test(tools_refine_lowmem, warns_when_packs_are_of_different_weights)
{
    lowmem_bench b = lowmem_bench_open();
    const char *bin = getenv("REFINE_BIN");
    char words[1024];
    (void)snprintf(words, sizeof words,
                   "'%s/refine-pack' synthetic:tiny:5 --tokenizer docs/sample/demo_merges.txt "
                   "-o '%s' >/dev/null 2>&1",
                   bin ? bin : "build/release/bin", bench_path(&b, "other.pack"));
    cr_assert_eq(system(words), 0);
    lowmem_outcome o = run_refine_lowmem(&b, "-m @ " COMPARE "@other.pack");
    cr_assert_eq(o.code, 0, "%s", o.err);
    cr_expect(strstr(o.err, "warning") && strstr(o.err, "different weights"), "%s", o.err);
    cr_expect(strstr(o.out, "different weights"), "%s", o.out);
    outcome_free(&o);
    (void)lowmem_bench_close(&b);
}

/* What is wrong with either pack is said as of one. */
Test(tools_refine_lowmem, refuses_what_cannot_be_compared)
{
    static const refusal REFUSALS[] = {
        { 2, "-m @ -i @in.png " COMPARE "@ -o @out", "--compare is for one image" },
        { 2, "-m @ " COMPARE "@ --plan", "--plan" },
        { 2, "-m @ " COMPARE "@ -o -", "stdout" },
        { 2, "-m @ " COMPARE "@ --precision int8 --quiet", "holds 16-bit weights" },
        { 4, "-m @ " COMPARE "@in.png", "not a pack" },
        { 4, "-m @none.pack " COMPARE "@", "none.pack" },
        { 3, "-m @ " COMPARE "@ --vram 64K", "--vram" },
    };
    lowmem_bench b = lowmem_bench_open();
    for (size_t i = 0; i < sizeof REFUSALS / sizeof REFUSALS[0]; i++)
        expect_lowmem_refusal(&b, &REFUSALS[i]);
    cr_assert_eq(lowmem_bench_close(&b), 0);
}
