/* tests/tools/test_compare.c -- comparing finds no difference where there is none, and the right
 * ones where there are. */
#include "engine/base/mem.h"
#include "tests/support/picture_rig.h"
#include "tests/support/tiny_pack.h"
#include "tools/report/compare_report.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { W = 64, H = 72, PIXELS = W * H * 3, STEPS = 3 };

static char fp16[256], int8[256];

static void make_packs(void)
{
    tiny_pack(fp16, sizeof fp16, "");
    tiny_pack(int8, sizeof int8, "--weights int8");
}

static void drop_packs(void)
{
    (void)unlink(fp16);
    (void)unlink(int8);
}

TestSuite(tools_compare, .init = make_packs, .fini = drop_packs, .timeout = 100);

static refine_job make_compare_job(uint8_t *out)
{
    static uint8_t in[PIXELS];
    refine_job j = REFINE_JOB_INIT;
    for (int i = 0; i < PIXELS; i++)
        in[i] = (uint8_t)(i / 3 % W * 3 + i / 3 / W + i % 3 * 20);
    j.prompt = "a photo of a cat";
    j.width = W;
    j.height = H;
    j.steps = 10;
    j.seed = 42;
    j.rgb_in = in;
    j.rgb_out = out;
    return j;
}

/* As the program does it, but that the runs may have different options.  The reference is the
 * fp16 pack. */
static compare *run_compared_job(const refine_options *reference, const refine_options *o,
                                 refine_report *r)
{
    static uint8_t out[PIXELS];
    refine_job j = make_compare_job(out);
    refine_error err = { 0 };
    refine_engine *e;
    compare *c;

    cr_assert_eq(compare_open(&c, fp16, reference, &j, &err), REFINE_OK, "%s", err.text);
    cr_assert_eq(compare_plan(c, &err), REFINE_OK, "%s", err.text);
    cr_assert_eq(compare_record(c, &err), REFINE_OK, "%s", err.text);
    compare_attach(c, &j);
    cr_assert_eq(refine_open(&e, o, &j, &err), REFINE_OK, "%s", err.text);
    cr_assert_eq(compare_why(c, refine_run(e, &j, &err), &err), REFINE_OK, "%s", err.text);
    refine_get_report(e, r);
    refine_close(e);
    compare_finish(c, out);
    return c;
}

static const compare_layer *find_compared_output(const compare *c, const char *name, int step)
{
    for (int i = 0; i < c->n; i++)
        if (strcmp(c->layers[i].name, name) == 0 && c->layers[i].step == step)
            return &c->layers[i];
    cr_assert_fail("%s of step %d was not compared", name, step);
    return NULL;
}

static int count_compared_outputs(const compare *c, bool latents)
{
    int n = 0;
    for (int i = 0; i < c->n; i++)
        n += compare_is_latents(&c->layers[i]) == latents && c->layers[i].of.n > 0;
    return n;
}

/* ---- no difference ---- */

static void expect_the_same(const refine_options *reference, const refine_options *o, bool all)
{
    refine_report r = REFINE_REPORT_INIT;
    compare *c = run_compared_job(reference, o, &r);
    cr_expect(compare_same_source(c, &r));
    for (int i = 0; i < c->n; i++) {
        const quality *q = &c->layers[i].of;
        cr_expect(q->noise == 0 && isinf(quality_psnr(q)) && quality_relative(q) == 0, "%s",
                  c->layers[i].name);
        cr_expect(!all || q->n > 0, "%s was not seen", c->layers[i].name);
        cr_expect(compare_is_latents(&c->layers[i]) || c->layers[i].step == 0, "%s",
                  c->layers[i].name);
    }
    cr_expect_eq(count_compared_outputs(c, true), STEPS);
    cr_expect_geq(count_compared_outputs(c, false), 40);
    cr_expect(isinf(c->image_error.psnr) && c->image_error.apart == 0 &&
              c->image_error.ssim > 1 - 1e-12);
    cr_expect_eq(find_compared_output(c, "unet.out", 0)->of.n,
                 (uint64_t)(2 * 4 * (W / 8) * (H / 8)), "both halves of guidance");
    compare_close(c);
    cr_expect_eq(mem_used().now, 0u);
}

Test(tools_compare, a_pack_is_the_same_as_itself)
{
    const refine_options o = picture_probed_options(fp16, REFINE_F32);
    expect_the_same(&o, &o, true);
}

Test(tools_compare, runs_may_group_their_inputs_differently)
{
    refine_options reference = picture_probed_options(fp16, REFINE_F32), o = reference;
    reference.per_pass = 2;
    o.per_pass = 1;
    expect_the_same(&reference, &o, true);
    expect_the_same(&o, &reference, true);
}

Test(tools_compare, leaves_out_what_one_run_does_not_tell)
{
    refine_options reference = picture_probed_options(fp16, REFINE_F32), o = reference;
    o.spill = 2;
    expect_the_same(&reference, &o, false);
    expect_the_same(&o, &reference, false);
}

/* ---- differences ---- */

typedef struct compare_outcome {
    double latents, image_error, ssim, layer;
} compare_outcome;

static compare_outcome outcome_of(const char *pack, refine_precision precision)
{
    const refine_options o = picture_probed_options(pack, precision);
    refine_report r = REFINE_REPORT_INIT;
    compare *c = run_compared_job(&o, &o, &r);
    const compare_outcome v = { quality_psnr(&find_compared_output(c, "latents", STEPS - 1)->of),
                                c->image_error.psnr, c->image_error.ssim,
                                quality_sqnr(&find_compared_output(c, "unet.out", 0)->of) };
    cr_expect(compare_same_source(c, &r), "both are made of the same 16-bit weights");
    for (int i = 0; i < c->n; i++) {
        const double db = quality_sqnr(&c->layers[i].of);
        cr_expect(db > 15 && !isnan(db), "%s: %g dB", c->layers[i].name, db);
    }
    fprintf(stderr, "latents %.1f dB, image %.1f dB, SSIM %.5f, noise prediction %.1f dB\n",
            v.latents, v.image_error, v.ssim, v.layer);
    compare_close(c);
    return v;
}

Test(tools_compare, int8_costs_a_little_and_rounded_activations_more)
{
    const compare_outcome weights = outcome_of(int8, REFINE_F32),
                          both = outcome_of(int8, REFINE_INT8);
    cr_expect(weights.latents > 50 && weights.latents < 90);
    cr_expect(weights.image_error > 40 && weights.image_error < 70);
    cr_expect(weights.ssim > 0.99 && weights.ssim < 1);
    cr_expect(weights.layer > 30 && weights.layer < 60);
    cr_expect(both.latents < weights.latents - 3 && both.latents > 40);
    cr_expect(both.image_error < weights.image_error && both.image_error > 30);
    cr_expect(both.ssim < weights.ssim);
    cr_expect(both.layer < weights.layer - 3);
}

Test(tools_compare, the_reference_is_in_f32)
{
    const compare_outcome v = outcome_of(fp16, REFINE_BF16);
    cr_expect(v.latents > 40 && v.latents < 90);
}

/* ---- what is said ---- */

Test(tools_compare, is_json_whatever_is_found)
{
    const refine_options o = picture_probed_options(fp16, REFINE_F32);
    refine_report r = REFINE_REPORT_INIT;
    compare *c = run_compared_job(&o, &o, &r);
    c->layers[0].of.noise = (double)NAN;
    c->reference.source_hash ^= 1;
    json_t *j = compare_json(c, &r);
    cr_assert_not_null(j);
    char *text = json_dumps(j, 0);
    cr_assert_not_null(text);
    cr_expect(json_is_false(json_object_get(j, "same_source")));
    cr_expect_eq(json_array_size(json_object_get(j, "steps")), (size_t)STEPS);
    cr_expect_eq(json_array_size(json_object_get(j, "layers")),
                 (size_t)count_compared_outputs(c, false));
    cr_expect(json_is_null(json_object_get(json_object_get(j, "picture"), "psnr")));
    free(text);
    json_decref(j);
    compare_close(c);
}

/* ---- failures ---- */

Test(tools_compare, says_when_there_is_no_place_for_the_scratch_file)
{
    static uint8_t out[PIXELS];
    refine_options o = picture_probed_options(fp16, REFINE_F32);
    const refine_job j = make_compare_job(out);
    refine_error err = { 0 };
    compare *c;
    o.spill_dir = "/no/such/place";
    cr_expect_eq(compare_open(&c, fp16, &o, &j, &err), REFINE_EIO);
    cr_expect(strstr(err.text, "/no/such/place") && strstr(err.text, "TMPDIR"), "%s", err.text);
    cr_expect_null(c);
    cr_expect_eq(mem_used().now, 0u);
}

/* A closed file stands for a full one. */
Test(tools_compare, a_scratch_file_that_fails_stops_either_run_and_is_named)
{
    static uint8_t out[PIXELS];
    const refine_options o = picture_probed_options(fp16, REFINE_F32);
    for (int second = 0; second < 2; second++) {
        refine_job j = make_compare_job(out);
        refine_error err = { 0 };
        refine_engine *e;
        compare *c;
        cr_assert_eq(compare_open(&c, fp16, &o, &j, &err), REFINE_OK, "%s", err.text);
        if (second)
            cr_assert_eq(compare_record(c, &err), REFINE_OK, "%s", err.text);
        (void)close(c->fd);
        c->fd = -1;
        compare_attach(c, &j);
        refine_status st = REFINE_OK;
        if (second) {
            cr_assert_eq(refine_open(&e, &o, &j, &err), REFINE_OK, "%s", err.text);
            st = compare_why(c, refine_run(e, &j, &err), &err);
            refine_close(e);
        } else {
            st = compare_record(c, &err);
        }
        cr_expect_eq(st, REFINE_EIO);
        cr_expect(strstr(err.text, "scratch file"), "%s", err.text);
        compare_close(c);
        cr_expect_eq(mem_used().now, 0u);
    }
}

Test(tools_compare, survives_every_failed_allocation)
{
    static uint8_t out[PIXELS];
    const refine_options o = picture_probed_options(fp16, REFINE_F32);
    const refine_job j = make_compare_job(out);
    for (long k = 0;; k++) {
        compare *c;
        refine_error err = { 0 };
        mem_fail_after(k, MEM_FAIL_ONCE);
        const refine_status st = compare_open(&c, fp16, &o, &j, &err);
        mem_fail_after(-1, MEM_FAIL_ONCE);
        if (st == REFINE_OK) {
            cr_expect_eq(k, 3);
            compare_close(c);
            break;
        }
        cr_expect_eq(st, REFINE_ENOMEM);
        cr_expect_eq(mem_used().now, 0u);
    }
}
