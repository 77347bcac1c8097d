/* tests/engine/test_ensemble.c -- an engine of two models: a base begins, a refiner finishes. */
#include "engine/base/mem.h"
#include "tests/support/pack_fixture.h"
#include "tests/support/picture_rig.h"
#include "tests/support/tiny_pack.h"
#include <refine/refine.h>

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* BASE_STEPS of STEPS are the base's. */
enum { STEPS = 5, BASE_STEPS = 3, PIXELS = PICTURE_BYTES };

static char base_file[512], refiner_file[512];

static void find_two_packs(void)
{
    kept_pack_of(refiner_file, sizeof refiner_file, "synthetic:tiny", "");
    kept_pack_of(base_file, sizeof base_file, "synthetic:tiny-base", "");
}

TestSuite(engine_ensemble, .init = find_two_packs, .timeout = 300);

static refine_options two_model_options(void)
{
    refine_options o = picture_options(refiner_file, REFINE_DEVICE_CPU, REFINE_F32);
    o.base_path = base_file;
    return o;
}

static refine_job text_job(uint8_t *rgb_out)
{
    refine_job j = picture_job(rgb_out);
    j.rgb_in = NULL;
    j.steps = STEPS;
    j.handoff = 0.6;
    return j;
}

static refine_job two_stage_job(uint8_t *rgb_out, bool via_pixels)
{
    refine_job j = text_job(rgb_out);
    j.steps = 3;
    j.handoff = 0;
    j.strength = 0.7;
    j.via_pixels = via_pixels;
    return j;
}

static refine_engine *open_two_models(const refine_options *o, const refine_job *j)
{
    refine_engine *e;
    refine_error err = { 0 };
    cr_assert_eq(refine_open(&e, o, j, &err), REFINE_OK, "%s", err.text);
    return e;
}

static void run_two_models(refine_engine *e, const refine_job *j)
{
    refine_error err = { 0 };
    cr_assert_eq(refine_run(e, j, &err), REFINE_OK, "%s", err.text);
}

/* ---- again and again ---- */

/* With these options an image, thrice by one engine, is `want`; NULL: the first is. */
static void expect_the_same_again(const refine_options *o, refine_job j, const uint8_t *want)
{
    static uint8_t first[PIXELS], again[PIXELS];
    refine_report r = REFINE_REPORT_INIT;
    j.rgb_out = again;
    refine_engine *e = open_two_models(o, &j);
    const uint64_t calls = mem_used().calls;
    for (int run = 0; run < 3; run++) {
        memset(again, 0, sizeof again);
        run_two_models(e, &j);
        if (run == 0)
            memcpy(first, want ? want : again, sizeof first);
        cr_expect_eq(memcmp(first, again, sizeof first), 0, "run %d", run);
    }
    cr_expect_eq(mem_used().calls, calls, "a run took memory");
    refine_get_report(e, &r);
    cr_expect_eq(r.memory.device_peak, r.memory.device_planned);
    cr_expect_leq(r.memory.host_peak, r.memory.host_planned);
    refine_close(e);
    cr_expect_eq(mem_used().now, 0u, "everything was given back");
}

static void expect_the_same_in_all_tiers(const refine_job *j)
{
    static uint8_t want[PIXELS];
    refine_options o = two_model_options();
    refine_job own = *j;
    own.rgb_out = want;
    picture_run(&o, &own, NULL);
    expect_the_same_again(&o, *j, want);
    o.vram_bytes = picture_memory(&o, j).smallest_device;
    expect_the_same_again(&o, *j, want);
    o.vram_bytes += 3u << 20; /* some residents */
    o.cached_bytes = 2u << 20;
    expect_the_same_again(&o, *j, want);
}

Test(engine_ensemble, repeats_itself_in_every_tier)
{
    const refine_job j = text_job(NULL);
    expect_the_same_in_all_tiers(&j);
}

Test(engine_ensemble, repeats_two_stages_in_every_tier)
{
    for (int pixels = 0; pixels < 2; pixels++) {
        const refine_job j = two_stage_job(NULL, pixels);
        expect_the_same_in_all_tiers(&j);
    }
}

/* ---- what is told ---- */

typedef struct told_of_both {
    int last_step, steps, unknown_after_known;
    bool base_ended, base_after_refiner;
    double least_eta, last_eta; /* the first: while the base runs */
    int steps_of_base;          /* finished when the refiner began */
} told_of_both;

static int listen_to_both(void *context, const refine_progress *p)
{
    told_of_both *t = context;
    if (p->of_base)
        t->least_eta = fmin(t->least_eta, p->eta);
    t->unknown_after_known += t->last_eta >= 0 && p->eta < 0;
    t->last_eta = p->eta;
    cr_expect_geq(p->step, t->last_step, "a step is taken back");
    t->last_step = p->step;
    t->steps = p->steps;
    if (!p->of_base && !t->base_ended) {
        t->base_ended = true;
        t->steps_of_base = p->step;
    }
    t->base_after_refiner = t->base_after_refiner || (t->base_ended && p->of_base);
    return 0;
}

Test(engine_ensemble, progress_counts_the_steps_of_both)
{
    static uint8_t out[PIXELS];
    const refine_options o = two_model_options();
    refine_report r = REFINE_REPORT_INIT, base = REFINE_REPORT_INIT;
    refine_job j = text_job(out);
    told_of_both t;
    j.progress = listen_to_both;
    j.progress_context = &t;
    refine_engine *e = open_two_models(&o, &j);
    r.base = &base;
    refine_get_report(e, &r);
    const double of_refiner = r.predicted_total - base.predicted_total;
    cr_assert(of_refiner > 0 && base.predicted_total > 0);
    for (int run = 0; run < 2; run++) {
        t = (told_of_both){ .last_eta = -1, .least_eta = 1e9 };
        run_two_models(e, &j);
        cr_expect_eq(t.steps, STEPS);
        cr_expect(t.last_step == STEPS - 1 || t.last_step == STEPS, "%d", t.last_step);
        cr_expect_eq(t.steps_of_base, BASE_STEPS);
        cr_expect_not(t.base_after_refiner);
        cr_expect_eq(t.unknown_after_known, 0, "what was known is not");
        cr_expect_geq(t.least_eta, of_refiner * 0.999, "%.3f s were left, the refiner's are %.3f",
                      t.least_eta, of_refiner);
    }
    refine_close(e);
}

/* ---- what is read, and when ---- */

typedef struct handing_over {
    double base_ends;        /* its last step */
    double begins, has_come; /* the first of the refiner's weights */
    bool found;
} handing_over;

static handing_over trace_of_handing_over(const refine_options *o)
{
    static uint8_t out[PIXELS];
    const refine_job j = text_job(out);
    handing_over h = { 0 };
    size_t n, lost;
    refine_engine *e = open_two_models(o, &j);
    run_two_models(e, &j);
    const refine_event *v = refine_trace(e, &n, &lost);
    cr_assert_eq(lost, 0u);
    for (size_t i = 0; i < n; i++) {
        refine_chunk c;
        if (v[i].lane == REFINE_LANE_STEP && v[i].chunk == BASE_STEPS - 1)
            h.base_ends = v[i].end;
        if (v[i].lane != REFINE_LANE_DISK)
            continue;
        cr_assert_eq(refine_get_chunk(e, v[i].chunk, &c), REFINE_OK);
        if (c.of_base || (h.found && v[i].begin >= h.begins))
            continue;
        h.found = true;
        h.begins = v[i].begin;
        h.has_come = v[i].end;
    }
    cr_assert(h.found && h.base_ends > 0);
    refine_close(e);
    return h;
}

Test(engine_ensemble, the_refiners_first_weights_are_read_while_the_base_computes)
{
    refine_options o = two_model_options();
    o.trace = true;
    o.resident_bytes = o.cached_bytes = UINT64_MAX;
    for (int slow = 0; slow < 2; slow++) {
        o.disk_limit = slow ? 40e6 : 0;
        const handing_over h = trace_of_handing_over(&o);
        cr_expect_lt(h.begins, h.base_ends, "%.4f s, the base ended %.4f s", h.begins, h.base_ends);
        if (!slow)
            cr_expect_lt(h.has_come, h.base_ends, "%.4f s, the base ended %.4f s", h.has_come,
                         h.base_ends);
    }
}

/* ---- what is refused ---- */

static void expect_refused(const refine_options *o, const refine_job *j, const char *word)
{
    refine_engine *e;
    refine_error err = { 0 };
    cr_expect_eq(refine_open(&e, o, j, &err), REFINE_EINVAL, "%s", word);
    cr_expect_null(e);
    cr_expect(strstr(err.text, word), "\"%s\" is not in: %s", word, err.text);
    cr_expect_eq(mem_used().now, 0u);
}

Test(engine_ensemble, refuses_two_of_a_kind)
{
    static uint8_t out[PIXELS];
    const refine_job j = text_job(out);
    refine_options o = two_model_options();
    o.pack_path = base_file;
    expect_refused(&o, &j, "is a base, where a refiner is wanted");
    o.pack_path = o.base_path = refiner_file;
    expect_refused(&o, &j, "is a refiner, where a base is wanted");
    o.base_path = refiner_file;
    o.pack_path = base_file;
    expect_refused(&o, &j, "is a refiner, where a base is wanted");
}

/* A refiner whose latents are scaled in another way; its name, to be removed. */
static void make_other_scaling(char *path, size_t size)
{
    static const char KEY[] = "\"scaling_factor\"";
    size_t bytes;
    tiny_pack(path, size, "");
    uint8_t *file = temp_read(path, &bytes);
    const pack_superblock *s = (const pack_superblock *)(const void *)file;
    char *meta = (char *)file + s->meta_at, *const end = meta + s->meta_bytes - sizeof KEY;
    while (meta < end && memcmp(meta, KEY, sizeof KEY - 1) != 0)
        meta++;
    cr_assert_lt(meta, end, "the pack says nothing of its scaling");
    for (meta += sizeof KEY; meta < end && *meta != '1'; meta++) {}
    *meta = '2'; /* 0.13025 */
    pack_fixture_rehash(file, bytes);
    temp_write(path, file, bytes);
    free(file);
}

Test(engine_ensemble, refuses_models_whose_latents_are_scaled_differently)
{
    static uint8_t out[PIXELS];
    const refine_job j = text_job(out);
    refine_options o = two_model_options();
    char other[256];
    make_other_scaling(other, sizeof other);
    o.pack_path = other;
    expect_refused(&o, &j, "do not belong together");
    o.base_path = NULL; /* alone it is a model like any other */
    const refine_job alone = picture_job(out);
    picture_run(&o, &alone, NULL);
    (void)unlink(other);
}

Test(engine_ensemble, refuses_what_does_not_divide_the_schedule)
{
    static uint8_t out[PIXELS];
    static float latents[PICTURE_LATENTS];
    static const double OUTSIDE[] = { -0.1, 1, 1.5, NAN, INFINITY };
    const refine_options o = two_model_options();
    for (size_t i = 0; i < sizeof OUTSIDE / sizeof OUTSIDE[0]; i++) {
        refine_job j = text_job(out);
        j.handoff = OUTSIDE[i];
        expect_refused(&o, &j, "the handoff must be between 0 and 1");
    }
    refine_job j = text_job(out);
    j.denoising_start = 0.5;
    expect_refused(&o, &j, "by the handoff alone");
    j.denoising_start = 0;
    j.denoising_end = 0.5;
    expect_refused(&o, &j, "by the handoff alone");
    j = text_job(out);
    j.via_pixels = true;
    expect_refused(&o, &j, "partly denoised");
    j = two_stage_job(out, false);
    j.rgb_in = picture_photo();
    expect_refused(&o, &j, "begin with text");
    j.rgb_in = NULL;
    j.latents_in = latents;
    expect_refused(&o, &j, "begin with text");
    j = two_stage_job(NULL, true);
    j.latents_out = latents;
    expect_refused(&o, &j, "pixels must be wanted");
}

/* The engine's memory is that of the job that it was opened for. */
Test(engine_ensemble, refuses_to_run_a_job_of_another_kind)
{
    static uint8_t out[PIXELS];
    const refine_options o = two_model_options();
    const refine_job opened = text_job(out);
    refine_engine *e = open_two_models(&o, &opened);
    for (int i = 0; i < 4; i++) {
        refine_job j = i == 1 ? two_stage_job(out, false) : opened;
        refine_error err = { 0 };
        if (i == 0)
            j.steps = STEPS + 5;
        if (i == 2)
            j.rgb_in = picture_photo();
        if (i == 3)
            j.handoff = 0.2;
        cr_expect_eq(refine_run(e, &j, &err), REFINE_EINVAL, "change %d", i);
        cr_expect(strstr(err.text, "opened for"), "change %d: %s", i, err.text);
    }
    run_two_models(e, &opened);
    refine_close(e);
}
