/* tests/engine/test_refine.c -- the promise: any budget, the same image, or a refusal. */
#include "engine/base/clock.h"
#include "engine/base/mem.h"
#include "engine/engine_state.h"
#include "offload/pack.h"
#include "tests/support/picture_rig.h"
#include "tests/support/sanitized.h"
#include "tests/support/tiny_pack.h"
#include <refine/refine.h>

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { W = PICTURE_W, H = PICTURE_H, PIXELS = PICTURE_BYTES, LATENTS = PICTURE_LATENTS };

static char pack_file[256];

static void make_refine_pack(void) { tiny_pack(pack_file, sizeof pack_file, ""); }
static void make_refine_int8_pack(void)
{
    tiny_pack(pack_file, sizeof pack_file, "--weights int8");
}
static void remove_refine_pack(void) { (void)unlink(pack_file); }

TestSuite(engine_refine, .init = make_refine_pack, .fini = remove_refine_pack, .timeout = 300);
TestSuite(engine_refine_int8, .init = make_refine_int8_pack, .fini = remove_refine_pack,
          .timeout = 300);

static refine_options cpu_f32_options(const char *path)
{
    return picture_options(path, REFINE_DEVICE_CPU, REFINE_F32);
}

static refine_options options_in(refine_precision precision)
{
    return picture_options(pack_file, REFINE_DEVICE_CPU, precision);
}

static const uint8_t *expected_image(refine_precision precision)
{
    static uint8_t rgb[PIXELS];
    const refine_options o = options_in(precision);
    const refine_job j = picture_job(rgb);
    picture_run(&o, &j, NULL);
    return rgb;
}

/* ---- the image does not depend on anything but the job ---- */

static void expect_image_invariant(refine_precision precision)
{
    const refine_options o = options_in(precision);
    const refine_job j = picture_job(NULL);
    picture_invariant(&o, &j);
}

static void invariant_to_spill(refine_precision precision)
{
    const refine_options o = options_in(precision);
    const refine_job j = picture_job(NULL);
    picture_invariant_to_spill(&o, &j);
}

static void invariant_to_company(refine_precision precision, const int *per_pass, int n)
{
    const refine_options o = options_in(precision);
    const refine_job j = picture_job(NULL);
    picture_invariant_to_company(&o, &j, per_pass, n);
}

Test(engine_refine, the_picture_does_not_depend_on_where_the_vae_keeps_its_pictures_in_f32)
{
    invariant_to_spill(REFINE_F32);
}

Test(engine_refine, the_picture_does_not_depend_on_where_the_vae_keeps_its_pictures_in_bf16)
{
    invariant_to_spill(REFINE_BF16);
}

Test(engine_refine, says_when_there_is_no_room_for_what_leaves_the_device)
{
    refine_options o = cpu_f32_options(pack_file);
    static uint8_t out[PIXELS];
    const refine_job j = picture_job(out);
    refine_engine *e;
    refine_error err = { 0 };
    o.spill = 2;
    o.cached_bytes = UINT64_MAX;
    o.ram_bytes = picture_memory(&o, &j).smallest_host;
    o.spill_dir = "/no/such/place";
    cr_expect_eq(refine_open(&e, &o, &j, &err), REFINE_ENOMEM);
    cr_expect(strstr(err.text, "/no/such/place") && strstr(err.text, "TMPDIR"), "%s", err.text);
}

/* ---- many images ---- */

Test(engine_refine, a_picture_does_not_depend_on_its_company)
{
    static const int F32[] = { 0, 1, 2, 2 * PICTURE_MANY, 3 }, BF16[] = { 5 };
    invariant_to_company(REFINE_F32, F32, 5);
    invariant_to_company(REFINE_BF16, BF16, 1);
}

Test(engine_refine, the_device_peak_is_as_planned_over_a_matrix)
{
    enum { WIDEST = 88 };
    static uint8_t in[WIDEST * H * 3], out[WIDEST * H * 3];
    const refine_precision precisions[] = { REFINE_F32, REFINE_BF16 };
    for (int i = 0; i < 2; i++)
        for (int budget = 0; budget < 4; budget += SANITIZED ? 3 : 1) {
            refine_options o = cpu_f32_options(pack_file);
            refine_job j = picture_job(out);
            refine_report r = REFINE_REPORT_INIT;
            o.precision = precisions[i];
            j.width = WIDEST - 8 * budget;
            j.rgb_in = in;
            refine_report p = REFINE_REPORT_INIT;
            cr_assert_eq(refine_plan(&p, &o, &j, NULL), REFINE_OK);
            o.vram_bytes = p.memory.smallest_device + ((uint64_t)budget << 20);
            picture_run(&o, &j, &r);
            cr_expect(r.memory.device_peak == r.memory.device_planned);
            cr_expect(r.memory.device_peak <= o.vram_bytes);
        }
}

/* ---- the trace ---- */

/* A run whose compute waits where a phase begins (the last step, of denoising) until weights of the
 * next have been copied. */
typedef struct phase_hold {
    refine_engine *e;
    uint64_t through[REFINE_FINISHED]; /* bytes that travel up to the end of a phase */
    bool held[REFINE_FINISHED];
    bool ahead[REFINE_FINISHED]; /* more than that had been copied in time */
} phase_hold;

static int hold_phase(void *context, const refine_progress *p)
{
    phase_hold *h = context;
    const double until = clock_seconds() + 10;
    if (p->phase >= REFINE_DECODING || h->held[p->phase] ||
        (p->phase == REFINE_DENOISING && p->step + 1 < p->steps))
        return 0;
    h->held[p->phase] = true;
    while (!h->ahead[p->phase] && clock_seconds() < until) {
        h->ahead[p->phase] = stream_get_stats(h->e->s).copied_bytes > h->through[p->phase];
        clock_sleep_until(clock_seconds() + 0.001);
    }
    return 0;
}

/* The ring has room for all weights once. */
Test(engine_refine, weights_of_a_phase_are_copied_while_those_before_it_run)
{
    static uint8_t out[PIXELS];
    refine_options o = cpu_f32_options(pack_file);
    refine_job j = picture_job(out);
    phase_hold h = { 0 };
    refine_chunk c;
    o.resident_bytes = o.cached_bytes = UINT64_MAX;
    o.ring_bytes = 64 << 20;
    cr_assert_eq(refine_open(&h.e, &o, &j, NULL), REFINE_OK);
    for (int i = 0; i < refine_chunks(h.e); i++) {
        cr_assert_eq(refine_get_chunk(h.e, i, &c), REFINE_OK);
        const int passes = c.phase == REFINE_DENOISING ? refine_steps_to_run(&j) : 1;
        for (int phase = (int)c.phase; c.flops > 0 && phase < REFINE_FINISHED; phase++)
            h.through[phase] += c.bytes * (uint64_t)passes;
    }
    j.progress = hold_phase;
    j.progress_context = &h;
    cr_assert_eq(refine_run(h.e, &j, NULL), REFINE_OK);
    for (int phase = REFINE_ENCODING; phase < REFINE_DECODING; phase++)
        cr_expect(h.ahead[phase], "phase %d", phase);
    refine_close(h.e);
}

Test(engine_refine, leaves_a_trace_of_everything)
{
    static uint8_t out[PIXELS];
    refine_options o = cpu_f32_options(pack_file);
    const refine_job j = picture_job(out);
    refine_engine *e;
    refine_chunk c;
    size_t n, lost, lanes[REFINE_LANES] = { 0 };
    o.trace = true;
    o.resident_bytes = o.cached_bytes = UINT64_MAX;
    cr_assert_eq(refine_open(&e, &o, &j, NULL), REFINE_OK);
    clock_sleep_until(clock_seconds() + 0.05); /* reading has begun: it is told of too */
    cr_assert_eq(refine_run(e, &j, NULL), REFINE_OK);
    const refine_event *v = refine_trace(e, &n, &lost);
    for (size_t i = 0; i < n; i++) {
        cr_assert(v[i].end >= v[i].begin && v[i].begin >= 0);
        lanes[v[i].lane]++;
    }
    cr_expect(lost == 0 && lanes[REFINE_LANE_STEP] == 3 && lanes[REFINE_LANE_PHASE] == 5);
    cr_expect(lanes[REFINE_LANE_DISK] == lanes[REFINE_LANE_COPY]);
    cr_expect(lanes[REFINE_LANE_DISK] == lanes[REFINE_LANE_COMPUTE]);
    cr_expect(lanes[REFINE_LANE_DISK] > 3u * 100);
    cr_expect_eq(refine_get_chunk(e, refine_chunks(e), &c), REFINE_EINVAL);
    double seconds = 0;
    for (int i = 0; i < refine_chunks(e); i++) {
        cr_assert_eq(refine_get_chunk(e, i, &c), REFINE_OK);
        cr_assert(c.name && c.bytes > 0);
        seconds += c.phase == REFINE_DENOISING ? c.seconds : 0;
    }
    cr_expect(seconds > 0);
    refine_close(e);
}

/* ---- stages ---- */

/* What was told, the pieces of a stage put together. */
typedef struct told {
    char name[64];
    refine_phase phase;
    int step, batch_index, h, w, c;
    size_t seen;
    double sum;
} told;

typedef struct listener {
    told of[512];
    int n, stop_after; /* pieces left until it asks to stop; -1: never */
    bool stopped;
    uint64_t calls; /* allocations there had been when it was last told */
    float latents[LATENTS];
} listener;

static int record_watched_output(void *context, const refine_layer_output *s)
{
    listener *l = context;
    told *t = l->n ? &l->of[l->n - 1] : NULL;
    cr_assert(!l->stopped, "told again after it had stopped");
    if (s->first == 0) {
        cr_assert_lt(l->n, 512);
        t = &l->of[l->n++];
        *t = (told){ "", s->phase, s->step, s->batch_index, s->h, s->w, s->c, 0, 0 };
        snprintf(t->name, sizeof t->name, "%s", s->name);
    }
    cr_assert(t && strcmp(t->name, s->name) == 0 && t->batch_index == s->batch_index, "%s",
              s->name);
    cr_assert(s->first == t->seen && s->count > 0, "%s: a gap", s->name);
    t->seen += s->count;
    cr_assert_leq(t->seen, (size_t)s->h * (size_t)s->w * (size_t)s->c);
    for (size_t i = 0; i < s->count; i++)
        t->sum += (double)s->value[i] * (double)(1 + (s->first + i) % 7);
    if (strcmp(s->name, "latents") == 0)
        memcpy(l->latents + s->first, s->value, s->count * sizeof(float));
    l->calls = mem_used().calls;
    l->stopped = l->stop_after >= 0 && l->stop_after-- == 0;
    return l->stopped;
}

static refine_job make_watched_job(listener *l, uint8_t *out)
{
    refine_job j = picture_job(out);
    *l = (listener){ .stop_after = -1 };
    j.layer_output = record_watched_output;
    j.layer_output_context = l;
    return j;
}

static const told *find_recorded_output(const listener *l, const char *name, int step,
                                        int batch_index)
{
    for (int i = 0; i < l->n; i++)
        if (strcmp(l->of[i].name, name) == 0 && l->of[i].step == step &&
            l->of[i].batch_index == batch_index)
            return &l->of[i];
    cr_assert_fail("%s of step %d, batch_index %d was not told", name, step, batch_index);
    return NULL;
}

static bool has_shape(const told *t, refine_phase phase, int h, int w, int c)
{
    return t->phase == phase && t->h == h && t->w == w && t->c == c &&
           t->seen == (size_t)h * (size_t)w * (size_t)c;
}

/* What was told of the latents is [h][w][4]. */
static bool are_the_latents(const listener *l, const float *latents)
{
    bool same = true;
    for (int i = 0; i < LATENTS; i++)
        same = same && l->latents[i] == latents[i % 4 * (LATENTS / 4) + i / 4];
    return same;
}

Test(engine_refine, tells_of_every_stage_of_every_input_and_step)
{
    enum { CONV_OUT = 4, MOMENTS = 8 };
    static listener l;
    static uint8_t out[PIXELS];
    static float latents[LATENTS];
    const refine_options o = cpu_f32_options(pack_file);
    refine_job j = make_watched_job(&l, out);
    j.latents_out = latents;
    picture_run(&o, &j, NULL);
    for (int i = 0; i < l.n; i++)
        cr_expect_eq(l.of[i].seen, (size_t)(l.of[i].h * l.of[i].w * l.of[i].c), "%s is not whole",
                     l.of[i].name);
    cr_expect(has_shape(find_recorded_output(&l, "vae.moments", 0, 0), REFINE_ENCODING, H / 8,
                        W / 8, MOMENTS));
    cr_expect(
        has_shape(find_recorded_output(&l, "vae.decoder.out", 0, 0), REFINE_DECODING, H, W, 3));
    for (int batch_index = 0; batch_index < 2; batch_index++) {
        cr_expect_eq(find_recorded_output(&l, "text.pooled", 0, batch_index)->phase, REFINE_TEXT);
        cr_expect_eq(find_recorded_output(&l, "unet.mid_block.attentions.0", 2, batch_index)->phase,
                     REFINE_DENOISING);
        for (int step = 0; step < 3; step++)
            cr_expect(has_shape(find_recorded_output(&l, "unet.out", step, batch_index),
                                REFINE_DENOISING, H / 8, W / 8, CONV_OUT));
    }
    for (int step = 0; step < 3; step++)
        cr_expect(has_shape(find_recorded_output(&l, "latents", step, 0), REFINE_DENOISING, H / 8,
                            W / 8, 4));
    cr_expect(are_the_latents(&l, latents));
    cr_expect_neq(find_recorded_output(&l, "unet.out", 0, 0)->sum,
                  find_recorded_output(&l, "unet.out", 0, 1)->sum);
}

Test(engine_refine, stages_are_the_same_however_inputs_go_together)
{
    static listener together, apart;
    static uint8_t out[PIXELS];
    refine_options o = cpu_f32_options(pack_file);
    const refine_job a = make_watched_job(&together, out), b = make_watched_job(&apart, out);
    picture_run(&o, &a, NULL);
    o.per_pass = 1;
    picture_run(&o, &b, NULL);
    cr_assert_eq(together.n, apart.n);
    for (int i = 0; i < together.n; i++) {
        const told *t = &together.of[i];
        cr_expect_eq(find_recorded_output(&apart, t->name, t->step, t->batch_index)->sum, t->sum,
                     "%s", t->name);
    }
}

/* Activations of 16 bits, the VAE's scaled, are told as the numbers that they stand for. */
Test(engine_refine, tells_the_values_whatever_they_are_kept_in)
{
    static listener f32, bf16;
    static uint8_t out[PIXELS];
    refine_options o = cpu_f32_options(pack_file);
    const refine_job a = make_watched_job(&f32, out), b = make_watched_job(&bf16, out);
    picture_run(&o, &a, NULL);
    o.precision = REFINE_BF16;
    picture_run(&o, &b, NULL);
    for (int i = 0; i < f32.n; i++) {
        const told *t = &f32.of[i];
        if (t->step == 0 && strcmp(t->name, "latents") != 0)
            cr_expect_float_eq(
                find_recorded_output(&bf16, t->name, 0, t->batch_index)->sum / t->sum, 1.0, 0.5,
                "%s: %g", t->name,
                find_recorded_output(&bf16, t->name, 0, t->batch_index)->sum / t->sum);
    }
}

Test(engine_refine, being_looked_into_keeps_to_its_plan)
{
    static listener l;
    static uint8_t out[PIXELS];
    refine_options o = cpu_f32_options(pack_file);
    refine_report r = REFINE_REPORT_INIT;
    refine_error err = { 0 };
    refine_engine *e;
    const refine_job j = make_watched_job(&l, out);

    o.cached_bytes = UINT64_MAX;
    cr_assert_eq(refine_open(&e, &o, &j, &err), REFINE_OK, "%s", err.text);
    const uint64_t calls = mem_used().calls;
    cr_assert_eq(refine_run(e, &j, &err), REFINE_OK, "%s", err.text);
    cr_expect_eq(l.calls, calls, "the run took memory");
    refine_get_report(e, &r);
    refine_close(e);
    cr_expect_eq(r.memory.device_peak, r.memory.device_planned);
    cr_expect_leq(r.memory.host_peak, r.memory.host_planned);
}

Test(engine_refine, being_looked_into_takes_memory_and_changes_no_picture)
{
    static listener l;
    static uint8_t out[PIXELS];
    const uint8_t *want = expected_image(REFINE_F32);
    refine_options o = cpu_f32_options(pack_file);
    refine_report planned = REFINE_REPORT_INIT;
    refine_error err = { 0 };
    refine_engine *e;
    const refine_job plain = picture_job(out), j = make_watched_job(&l, out);

    picture_run(&o, &j, NULL);
    cr_expect_eq(memcmp(out, want, PIXELS), 0);
    o.cached_bytes = UINT64_MAX;
    cr_assert_eq(refine_plan(&planned, &o, &j, &err), REFINE_OK, "%s", err.text);
    cr_expect_gt(planned.memory.smallest_host, picture_memory(&o, &plain).smallest_host);
    o.ram_bytes = planned.memory.smallest_host - 1;
    cr_expect_eq(refine_open(&e, &o, &j, &err), REFINE_EBUDGET);
    cr_assert_eq(refine_open(&e, &o, &plain, &err), REFINE_OK, "%s", err.text);
    cr_expect_eq(refine_run(e, &j, &err), REFINE_EINVAL, "no memory was taken for it");
    refine_close(e);
}

Test(engine_refine, stops_when_the_one_who_looks_asks)
{
    static listener l;
    static uint8_t out[PIXELS];
    const refine_options o = cpu_f32_options(pack_file);
    for (int after = 0; after < 400; after += 57) {
        refine_engine *e;
        refine_error err = { 0 };
        const refine_job j = make_watched_job(&l, out);
        l.stop_after = after;
        cr_assert_eq(refine_open(&e, &o, &j, &err), REFINE_OK, "%s", err.text);
        const refine_status st = refine_run(e, &j, &err);
        cr_expect_eq(st, l.stopped ? REFINE_ECANCELLED : REFINE_OK, "%d", after);
        cr_expect(l.stopped || after > 0);
        refine_close(e);
    }
}

Test(engine_refine, the_picture_does_not_depend_on_budget_threads_reader_or_bands_in_f32)
{
    expect_image_invariant(REFINE_F32);
}

Test(engine_refine, the_picture_does_not_depend_on_budget_threads_reader_or_bands_in_bf16)
{
    expect_image_invariant(REFINE_BF16);
}

static void invariant_to_packing(refine_precision precision, const char *quantised)
{
    const uint8_t *want = expected_image(precision);
    const refine_job j = picture_job(NULL);
    const char *const variants[] = { "--codec raw", "--codec zstd --chunk 64K", "--chunk 256K",
                                     "--codec raw --chunk 1M" };
    for (int i = 0; i < (SANITIZED ? 2 : 4); i++) {
        char other[256], how[64];
        (void)snprintf(how, sizeof how, "%s %s", variants[i], quantised);
        tiny_pack(other, sizeof other, how);
        refine_options o = cpu_f32_options(other);
        o.precision = precision;
        picture_same(&o, &j, want, how);
        (void)unlink(other);
    }
}

Test(engine_refine, the_picture_does_not_depend_on_chunks_or_codec)
{
    invariant_to_packing(REFINE_F32, "");
}

Test(engine_refine, depends_on_prompt_seed_strength_and_scores)
{
    const uint8_t *want = expected_image(REFINE_F32);
    uint8_t out[PIXELS];
    const refine_options o = cpu_f32_options(pack_file);
    for (int i = 0; i < 5; i++) {
        refine_job j = picture_job(out);
        if (i == 0)
            j.prompt = "a drawing";
        if (i == 1)
            j.seed = 43;
        if (i == 2)
            j.strength = 0.5;
        if (i == 3)
            j.aesthetic_score = 1.0f;
        if (i == 4)
            j.rng = REFINE_RNG_PHILOX;
        picture_run(&o, &j, NULL);
        cr_assert_neq(memcmp(out, want, PIXELS), 0, "change %d made no difference", i);
    }
}

/* ---- budgets ---- */

static void smallest_budgets(refine_precision precision)
{
    const refine_options o = options_in(precision);
    uint8_t out[PIXELS];
    const refine_job j = picture_job(out);
    picture_smallest_budgets(&o, &j);
}

Test(engine_refine, the_smallest_budget_runs_and_one_page_less_is_refused)
{
    smallest_budgets(REFINE_F32);
}

Test(engine_refine, the_host_keeps_below_its_plan)
{
    uint8_t out[PIXELS];
    const refine_job j = picture_job(out);
    const refine_options o = cpu_f32_options(pack_file);
    refine_report run = REFINE_REPORT_INIT;
    picture_run(&o, &j, &run);
    cr_assert_leq(run.memory.host_peak, run.memory.host_planned);
    cr_assert_leq(run.memory.host_planned, run.memory.host_limit);
}

/* What rates are measured in is device memory, more than the arena then takes. */
Test(engine_refine_int8, the_host_keeps_below_its_plan_where_rates_were_measured)
{
    enum { WIDE = 432 };
    static uint8_t in[WIDE * H * 3], out[WIDE * H * 3];
    refine_options o = picture_probed_options(pack_file, REFINE_BF16);
    refine_job j = picture_job(out);
    refine_report run = REFINE_REPORT_INIT;
    j.rgb_in = in;
    j.width = WIDE;
    j.guidance = 1;
    o.resident_bytes = o.cached_bytes = UINT64_MAX;
    o.ring_bytes = 64 << 20;
    o.band_rows = 8;
    refine_report planned = REFINE_REPORT_INIT;
    cr_assert_eq(refine_plan(&planned, &o, &j, NULL), REFINE_OK);
    o.ram_bytes = planned.memory.smallest_host;
    picture_run(&o, &j, &run);
    cr_assert_leq(run.memory.host_peak, run.memory.host_planned);
}

Test(engine_refine, a_run_allocates_nothing_and_repeats_itself)
{
    static uint8_t first[PIXELS], second[PIXELS];
    refine_engine *e;
    refine_error err = { 0 };
    const refine_options o = cpu_f32_options(pack_file);
    refine_job j = picture_job(first);

    cr_assert_eq(refine_open(&e, &o, &j, &err), REFINE_OK, "%s", err.text);
    cr_assert_eq(refine_run(e, &j, &err), REFINE_OK, "%s", err.text);
    const uint64_t calls = mem_used().calls;
    j.rgb_out = second;
    cr_assert_eq(refine_run(e, &j, &err), REFINE_OK, "%s", err.text);
    cr_assert_eq(mem_used().calls, calls);
    refine_close(e);
    cr_assert_eq(memcmp(first, second, PIXELS), 0);
    cr_assert_eq(mem_used().now, 0u, "everything was given back");
}

/* ---- int8: all that is promised holds for its packs too ---- */

Test(engine_refine_int8, the_picture_does_not_depend_on_budget_threads_reader_or_bands)
{
    expect_image_invariant(REFINE_F32);
}

Test(engine_refine_int8, nor_does_it_in_integers) { expect_image_invariant(REFINE_INT8); }

Test(engine_refine_int8, the_picture_does_not_depend_on_chunks_or_codec)
{
    invariant_to_packing(REFINE_F32, "--weights int8");
    invariant_to_packing(REFINE_INT8, "--weights int8");
}

Test(engine_refine_int8, the_picture_does_not_depend_on_where_the_vae_keeps_its_pictures)
{
    invariant_to_spill(REFINE_INT8);
}

Test(engine_refine_int8, a_picture_does_not_depend_on_its_company)
{
    static const int INT8[] = { 0, 5 };
    invariant_to_company(REFINE_INT8, INT8, 2);
}

Test(engine_refine_int8, the_smallest_budget_runs_and_one_page_less_is_refused)
{
    smallest_budgets(REFINE_F32);
    smallest_budgets(REFINE_INT8);
}

static uint64_t bytes_of_a_step(const char *path)
{
    static uint8_t out[PIXELS];
    refine_options o = cpu_f32_options(path);
    const refine_job j = picture_job(out);
    refine_report r = REFINE_REPORT_INIT;
    o.resident_bytes = UINT64_MAX;
    cr_assert_eq(refine_plan(&r, &o, &j, NULL), REFINE_OK);
    return r.copy_bytes_per_step;
}

Test(engine_refine_int8, fewer_bytes_travel_and_the_picture_is_nearly_the_same)
{
    static uint8_t wide[PIXELS], coded[PIXELS], int8_math[PIXELS];
    char wide_pack[256];

    memcpy(coded, expected_image(REFINE_F32), PIXELS);
    memcpy(int8_math, expected_image(REFINE_INT8), PIXELS);
    tiny_pack(wide_pack, sizeof wide_pack, "");
    const refine_options o = cpu_f32_options(wide_pack);
    const refine_job j = picture_job(wide);
    picture_run(&o, &j, NULL);
    cr_expect_lt(bytes_of_a_step(pack_file), bytes_of_a_step(wide_pack) * 3 / 4);

    double by_coding = 0, by_ints = 0;
    for (int i = 0; i < PIXELS; i++) {
        by_coding += pow(coded[i] - wide[i], 2) / PIXELS;
        by_ints += pow(int8_math[i] - wide[i], 2) / PIXELS;
    }
    const double at_45_db = 2.06, at_35_db = 20.6;
    cr_expect(by_coding > 0 && by_coding < at_45_db, "mean square %g", by_coding);
    cr_expect(by_ints > by_coding && by_ints < at_35_db, "mean square %g", by_ints);
    (void)unlink(wide_pack);
}

Test(engine_refine, integers_need_a_pack_of_integers)
{
    static uint8_t out[PIXELS];
    refine_options o = cpu_f32_options(pack_file);
    const refine_job j = picture_job(out);
    refine_engine *e;
    refine_error err = { 0 };
    o.precision = REFINE_INT8;
    cr_expect_eq(refine_open(&e, &o, &j, &err), REFINE_EINVAL);
    cr_expect(strstr(err.text, "--weights int8"), "%s", err.text);
}

/* ---- the second flow ---- */

Test(engine_refine, takes_up_latents_where_another_run_left_them)
{
    static float half_way[LATENTS], whole[LATENTS], second[LATENTS];
    static uint8_t out[PIXELS];
    const refine_options o = cpu_f32_options(pack_file);
    refine_job j = picture_job(out);

    for (int i = 0; i < LATENTS; i++)
        half_way[i] = sinf((float)i * 0.37f);
    j.rgb_in = NULL;
    j.latents_in = half_way;
    j.latents_out = whole;
    j.steps = 20;
    j.denoising_start = 0.8;
    picture_run(&o, &j, NULL);
    j.rgb_out = NULL;
    j.latents_out = second;
    picture_run(&o, &j, NULL);
    cr_assert_eq(memcmp(whole, second, sizeof whole), 0, "decoding changes no latents");
    cr_assert_neq(memcmp(whole, half_way, sizeof whole), 0);
}

/* ---- devices agree ---- */

ReleaseTest(engine_refine, the_cpu_device_agrees_with_the_referee)
{
    static uint8_t cpu[PIXELS], ref[PIXELS];
    refine_options o = cpu_f32_options(pack_file);
    refine_job j = picture_job(cpu);
    picture_run(&o, &j, NULL);
    j.rgb_out = ref;
    o.device = REFINE_DEVICE_REF;
    picture_run(&o, &j, NULL);
    int worst = 0;
    for (int i = 0; i < PIXELS; i++)
        worst = abs(cpu[i] - ref[i]) > worst ? abs(cpu[i] - ref[i]) : worst;
    cr_assert_leq(worst, 1, "%d grey levels", worst);
}

/* ---- failures ---- */

static int stop_at_once(void *context, const refine_progress *p)
{
    (void)p;
    int *left = context;
    return (*left)-- <= 0;
}

static void stop_at_any_point(refine_precision precision)
{
    uint8_t out[PIXELS];
    refine_options o = cpu_f32_options(pack_file);
    o.precision = precision;
    for (int after = 0; after < 2000; after += 97) {
        refine_engine *e;
        refine_error err = { 0 };
        refine_job j = picture_job(out);
        int left = after;
        cr_assert_eq(refine_open(&e, &o, &j, &err), REFINE_OK, "%s", err.text);
        j.progress = stop_at_once;
        j.progress_context = &left;
        const refine_status st = refine_run(e, &j, &err);
        cr_assert(st == REFINE_ECANCELLED || (st == REFINE_OK && left > 0));
        refine_close(e);
        cr_assert_eq(mem_used().now, 0u);
        if (st == REFINE_OK)
            break;
    }
}

Test(engine_refine, stops_when_asked_at_any_point) { stop_at_any_point(REFINE_F32); }
Test(engine_refine_int8, stops_when_asked_at_any_point) { stop_at_any_point(REFINE_INT8); }

static void flip_file_bit(const char *path, uint64_t at)
{
    FILE *f = fopen(path, "r+b");
    cr_assert(f && fseek(f, (long)at, SEEK_SET) == 0);
    const int c = fgetc(f);
    cr_assert(fseek(f, (long)at, SEEK_SET) == 0 && fputc(c ^ 4, f) != EOF && fclose(f) == 0);
}

/* Of every kind of chunk some; rows of tokens that no prompt asks for are not looked at. */
static void find_flipped_bits(refine_precision precision)
{
    enum { TRIED = 12 };
    uint8_t out[PIXELS];
    const refine_job j = picture_job(out);
    refine_options o = cpu_f32_options(pack_file);
    pack *p;
    int first, end;

    o.precision = precision;
    cr_assert_eq(pack_open(&p, pack_file, NULL), REFINE_OK);
    pack_segment(p, PACK_SEGMENT_TOKENS, &first, &end);
    for (int i = 0; i < TRIED; i++) {
        const int chunk = i * first / TRIED;
        const uint64_t at = pack_chunk_at(p, chunk)->file_at + 5;
        refine_engine *e;
        refine_error err = { 0 };
        flip_file_bit(pack_file, at);
        refine_status st = refine_open(&e, &o, &j, &err);
        if (st == REFINE_OK)
            st = refine_run(e, &j, &err);
        cr_expect_eq(st, REFINE_EFORMAT, "chunk %d: status %d (%s)", chunk, (int)st, err.text);
        refine_close(e);
        flip_file_bit(pack_file, at);
    }
    pack_close(p);
}

Test(engine_refine, finds_a_flipped_bit_in_any_chunk) { find_flipped_bits(REFINE_F32); }
Test(engine_refine_int8, finds_a_flipped_bit_in_any_chunk) { find_flipped_bits(REFINE_INT8); }

static void fail_every_allocation(refine_precision precision)
{
    uint8_t out[PIXELS];
    const refine_job j = picture_job(out);
    refine_options o = cpu_f32_options(pack_file);
    o.precision = precision;
    for (long k = 0;; k++) {
        refine_engine *e;
        refine_error err = { 0 };
        mem_fail_after(k, MEM_FAIL_ONCE);
        const refine_status st = refine_open(&e, &o, &j, &err);
        mem_fail_after(-1, MEM_FAIL_ONCE);
        if (st == REFINE_OK) {
            refine_close(e);
            cr_assert_gt(k, 20);
            break;
        }
        cr_assert(st == REFINE_ENOMEM || st == REFINE_EBUDGET, "allocation %ld: status %d (%s)", k,
                  (int)st, err.text);
        cr_assert_gt(strlen(err.text), 0u);
        cr_assert_null(e);
        cr_assert_eq(mem_used().now, 0u, "allocation %ld leaks", k);
    }
}

Test(engine_refine, survives_every_failed_allocation_in_open) { fail_every_allocation(REFINE_F32); }

Test(engine_refine_int8, survives_every_failed_allocation_in_open)
{
    fail_every_allocation(REFINE_INT8);
}

Test(engine_refine, refuses_what_is_no_job)
{
    uint8_t out[PIXELS];
    const refine_options o = cpu_f32_options(pack_file);
    refine_engine *e;
    for (int i = 0; i < 12; i++) {
        refine_job j = picture_job(out);
        refine_error err = { 0 };
        if (i == 0)
            j.width = 70;
        if (i == 1)
            j.height = 0;
        if (i == 2)
            j.rgb_in = NULL;
        if (i == 3)
            j.rgb_out = NULL;
        if (i == 4)
            j.steps = 0;
        if (i == 5)
            j.strength = 0.01;
        if (i == 6)
            j.guidance = NAN;
        if (i == 7)
            j.denoising_start = 1.5;
        if (i == 8)
            j.clip_skip = -1;
        if (i == 9)
            j.clip_skip = 3; /* of 3 layers */
        if (i == 10)
            j.negative_crop_top = 65537;
        if (i == 11)
            j.negative_original_width = 64; /* and no height */
        cr_assert_eq(refine_open(&e, &o, &j, &err), REFINE_EINVAL, "case %d", i);
        cr_assert_gt(strlen(err.text), 0u);
    }
}
