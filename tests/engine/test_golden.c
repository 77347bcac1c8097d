/* tests/engine/test_golden.c -- the engine against diffusers and transformers, stage by stage.
 *
 * Two small refiners of random weights (tests/golden/README.md) are packed as any other, and
 * run on the reference device and on the CPU device.  Each stage is fed the golden input of
 * that stage, so that an error is reported where it is made; whole images, with the noise
 * of engine/sampling/rng.c, follow; and then runs through a base and a refiner by way of the API.
 *
 * Bounds are on max |computed - golden| / max |golden|.
 */
#define _GNU_SOURCE /* mkstemp */
#include "engine/base/mem.h"
#include "engine/base/num.h"
#include "engine/plan/plan.h"
#include "engine/sampling/rng.h"
#include "quant/f16.h"
#include "tests/support/compare.h"
#include "tests/support/picture_rig.h"
#include "tests/support/sanitized.h"
#include "tools/packer/pack_write.h"
#include "tools/source/synthetic.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What an arithmetic may be off by. */
typedef struct bounds {
    double stage;   /* a stage given its golden input */
    double guided;  /* the guided noise: negative + 5 (positive - negative) */
    double latents; /* after any step of a whole run */
    int grey;       /* levels of 255, any pixel */
} bounds;

/* A stage ends some twenty roundings deep: a few 1e-6 of its largest value.  Guidance takes 5
 * times one half and 4 times the other, so up to 9 of their errors.  A step then adds that times
 * the difference of two sigmas, at most a third here, so that a run's four or five steps add up to
 * about one guided error.  The greys are rounded: one level may always fall either way. */
static const bounds IN_F32 = { 1e-5, 5e-5, 1e-5, 1 };
/* Activations of 8 bits; about twice what was measured (0.016, 0.066, 0.011, 10).  It is the
 * VAE's scaled fp16 and the latents' error together that the greys show. */
static const bounds IN_BF16 = { 0.035, 0.14, 0.022, 20 };

typedef struct golden_rig golden_rig;

/* All chunks of the pack on the device, for use in any order. */
typedef struct shelf {
    weights w; /* first: acquire and release return here */
    golden_rig *owner;
    void **chunk;
} shelf;

struct golden_rig {
    gold *g;
    model m;
    dev *d;
    phases *p;
    plan plan;
    char *arena, *region;
    shelf shelf;
    forward_ctx r;
    refine_job job;
    uint8_t *rgb_in, *rgb_out;
    bounds allowed;
    double worst; /* of the outputs so far */
    int outputs;
    char worst_name[GOLD_NAME];
};

/* ---- putting it together ---- */

static char *read_golden_text(const char *path)
{
    FILE *f = fopen(path, "rbe");
    char *text = mem_calloc(1, 1 << 16);
    cr_assert(f && text, "%s", path);
    cr_assert_lt(fread(text, 1, (1 << 16) - 1, f), (size_t)(1 << 16) - 1);
    (void)fclose(f);
    return text;
}

static model_config config_of(const char *name)
{
    char path[256];
    model_config c;
    refine_error err = { 0 };
    snprintf(path, sizeof path, "tests/golden/%s.json", name);
    char *text = read_golden_text(path);
    cr_assert_eq(model_config_parse(&c, text, strlen(text), &err), REFINE_OK, "%s", err.text);
    mem_free(text);
    return c;
}

/* Samplers other than the configuration's that some flows were made with. */
static void set_flow_schedule(schedule_config *c, const char *flow)
{
    if (strcmp(flow, "turbo") == 0) {
        c->spacing = SPACING_TRAILING;
        c->sampler = SAMPLER_EULER_ANCESTRAL;
    } else if (strcmp(flow, "velocity") == 0) {
        c->spacing = SPACING_LINSPACE;
        c->prediction = PREDICTS_V;
    }
}

enum { PATH = 256 };

static void make_golden_pack(char path[PATH], const char *name, const char *flow)
{
    const char *tmp = getenv("TMPDIR");
    model_config c = config_of(name);
    weight_source *s;
    pack_written written;
    refine_error err = { 0 };

    snprintf(path, PATH, "%s/refine-golden-XXXXXX", tmp ? tmp : "/tmp");
    const int fd = mkstemp(path);
    cr_assert_geq(fd, 0);
    (void)close(fd);
    set_flow_schedule(&c.schedule, flow);
    cr_assert_eq(synthetic_open_config(&s, &c, 0, name, &err), REFINE_OK, "%s", err.text);
    /* Small chunks, so that every matrix of some size is cut. */
    const pack_write_options o = {
        .path = path, .replace = true, .raw = true, .chunk_bytes = PACK_CHUNK_MIN, .threads = 1
    };
    cr_assert_eq(pack_write(&written, s, &o, &err), REFINE_OK, "%s", err.text);
    s->close(s);
}

static const void *shelf_acquire(weights *w, int chunk) { return ((shelf *)w)->chunk[chunk]; }
static void shelf_release(weights *w, int chunk) { (void)w, (void)chunk; }

static bool on_device(const golden_rig *k, int chunk)
{
    const uint32_t seg = pack_chunk_at(k->m.p, chunk)->segment;
    return seg != SEG_VECTORS && seg != SEG_TOKENS;
}

static void fill_shelf(golden_rig *k)
{
    const int n = n_pack_chunks(k->m.p);
    char *host = mem_alloc(pack_biggest(k->m.p));
    refine_error err = { 0 };

    k->shelf = (shelf){ { shelf_acquire, shelf_release },
                        k,
                        mem_calloc((size_t)n, sizeof(void *)) };
    cr_assert(host && k->shelf.chunk);
    for (int i = 0; i < n; i++) {
        const size_t bytes = pack_chunk_at(k->m.p, i)->bytes;
        if (!on_device(k, i))
            continue;
        cr_assert_eq(pack_read_chunk(k->m.p, i, host, &err), REFINE_OK, "%s", err.text);
        k->shelf.chunk[i] = dev_alloc(k->d, bytes, DEV_VRAM);
        cr_assert_not_null(k->shelf.chunk[i]);
        dev_put(k->d, k->shelf.chunk[i], host, bytes);
    }
    mem_free(host);
}

static void empty_shelf(golden_rig *k)
{
    for (int i = 0; i < n_pack_chunks(k->m.p); i++)
        if (on_device(k, i))
            dev_free(k->d, k->shelf.chunk[i], pack_chunk_at(k->m.p, i)->bytes, DEV_VRAM);
    mem_free(k->shelf.chunk);
}

static void load_golden_vectors(golden_rig *k)
{
    char *host = mem_alloc(pack_biggest(k->m.p));
    refine_error err = { 0 };
    size_t at = 0;
    int first, end;

    cr_assert_not_null(host);
    pack_segment(k->m.p, SEG_VECTORS, &first, &end);
    for (int i = first; i < end; i++) {
        const size_t bytes = pack_chunk_at(k->m.p, i)->bytes;
        cr_assert_eq(pack_read_chunk(k->m.p, i, host, &err), REFINE_OK, "%s", err.text);
        dev_put(k->d, k->arena + at, host, bytes);
        phases_keep_vectors(k->p, i, host);
        at += num_align(bytes, PACK_VECTOR_ALIGN);
    }
    mem_free(host);
}

static const gold_entry *find_golden(const golden_rig *k, const char *name)
{
    const gold_entry *e = gold_find(k->g, name);
    cr_assert_not_null(e, "%s", name);
    cr_assert_eq(e->stride, 1, "%s", name);
    return e;
}

/* "img2img" from pixels; "refine" and "ensemble" from latents; all others from text alone. */
static refine_job golden_job(golden_rig *k, const char *flow)
{
    char name[GOLD_NAME];
    refine_job j = REFINE_JOB_INIT;
    snprintf(name, sizeof name, "%s.job", flow);
    const float *v = find_golden(k, name)->value;
    j.width = (int)v[0];
    j.height = (int)v[1];
    j.steps = (int)v[2];
    j.strength = (double)v[3];
    j.guidance = v[4];
    j.aesthetic_score = v[5];
    j.negative_aesthetic_score = v[6];
    j.seed = (uint64_t)v[7];
    j.rgb_out = k->rgb_out;
    if (strcmp(flow, "img2img") == 0)
        j.rgb_in = k->rgb_in;
    else if (strcmp(flow, "refine") == 0)
        j.latents_in = find_golden(k, "refine.latents.in")->value;
    else if (strcmp(flow, "ensemble") == 0)
        j.latents_in = find_golden(k, "ensemble.latents")->value;
    *(j.latents_in ? &j.denoising_start : &j.denoising_end) = (double)v[8];
    return j;
}

static void take_pictures(golden_rig *k)
{
    const gold_entry *e = find_golden(k, "img2img.input_u8");
    const size_t hw = (size_t)e->h * e->w;
    k->rgb_in = mem_alloc(3 * hw);
    k->rgb_out = mem_alloc(3 * hw);
    cr_assert(k->rgb_in && k->rgb_out);
    for (size_t i = 0; i < 3 * hw; i++)
        k->rgb_in[i] = (uint8_t)e->value[i % 3 * hw + i / 3];
}

static void take_plan(golden_rig *k)
{
    refine_options o = REFINE_OPTIONS_INIT;
    refine_error err = { 0 };
    o.vram_bytes = 512u << 20;
    o.resident_bytes = UINT64_MAX;
    o.band_rows = 16; /* several bands even of these images */
    const phases *p = k->p;
    cr_assert_eq(plan_make(&k->plan, &p, 1, k->d, &o, &k->job, &err), REFINE_OK, "%s", err.text);
    k->p->per_pass = k->plan.unet.per_pass;
    k->arena = dev_alloc(k->d, k->plan.arena.bytes, DEV_VRAM);
    cr_assert_not_null(k->arena);
    k->region = k->arena + arena_region_at(&k->plan.arena);
    dev_workspace_set(k->d, k->arena + arena_workspace_at(&k->plan.arena), k->plan.arena.workspace);
}

/* The model `name`, beside the values of `of`. */
static void golden_rig_open(golden_rig *k, const char *name, const char *of, const char *flow,
                            bool reference, dtype compute)
{
    const dev_options o = { .compute = compute, .threads = 2 };
    refine_error err = { 0 };
    char path[PATH];

    memset(k, 0, sizeof *k);
    k->allowed = compute == DT_F32 ? IN_F32 : IN_BF16;
    snprintf(path, sizeof path, "tests/golden/%s.gold", of);
    cr_assert_eq(gold_open(&k->g, path, &err), REFINE_OK, "%s", err.text);
    make_golden_pack(path, name, flow);
    cr_assert_eq(model_open(&k->m, path, &err), REFINE_OK, "%s", err.text);
    (void)unlink(path); /* the open file lives on, and no crash leaves it behind */
    k->d = reference ? dev_open_ref(&o, &err) : dev_open_cpu(&o, &err);
    cr_assert_not_null(k->d, "%s", err.text);
    take_pictures(k);
    k->job = golden_job(k, flow);
    cr_assert_eq(phases_open(&k->p, &k->m, &k->job, 1, &err), REFINE_OK, "%s", err.text);
    phases_precision(&k->r, k->d, compute);
    k->p->act = k->r.act;
    take_plan(k);
    load_golden_vectors(k);
    fill_shelf(k);
    k->r.m = &k->m;
    k->r.w = &k->shelf.w;
    k->r.vectors = k->arena;
    k->r.band_rows = k->plan.vae.band_rows;
    k->r.spill_from = SIZE_MAX;
    k->r.layer_output_context = k;
}

static void golden_rig_close(golden_rig *k)
{
    scratch_close(&k->r.mem);
    empty_shelf(k);
    dev_free(k->d, k->arena, k->plan.arena.bytes, DEV_VRAM);
    plan_close(&k->plan);
    phases_close(k->p);
    dev_close(k->d);
    model_close(&k->m);
    gold_close(k->g);
    mem_free(k->rgb_in);
    mem_free(k->rgb_out);
}

static void fresh_region(golden_rig *k)
{
    scratch_close(&k->r.mem);
    scratch_open(&k->r.mem, k->d, k->region, k->plan.arena.region, k->plan.arena.zone);
}

static void device_is_fine(const golden_rig *k)
{
    cr_assert_eq(dev_status(k->d), REFINE_OK, "%s", dev_why(k->d));
}

/* ---- comparing ---- */

static void expect_golden_error(golden_rig *k, const char *name, double error, double allowed)
{
    if (getenv("REFINE_GOLDEN_VERBOSE"))
        fprintf(stderr, "%-48s %.2e\n", name, error);
    cr_expect_leq(error, allowed, "%s: relative error %.2e", name, error);
    k->outputs++;
    if (error >= k->worst) {
        k->worst = error;
        snprintf(k->worst_name, sizeof k->worst_name, "%s", name);
    }
}

static void tell_worst(const golden_rig *k, const char *what)
{
    fprintf(stderr, "%s: %d outputs, worst %s %.2e\n", what, k->outputs, k->worst_name, k->worst);
}

/* The tensor's values as numbers; mem_free them. */
static float *values_of(golden_rig *k, tensor t)
{
    const size_t n = tensor_bytes(t) / dtype_bytes(t.type);
    float *wide = mem_alloc(n * sizeof *wide);
    uint16_t *raw = mem_alloc(n * sizeof(float));

    cr_assert(wide && raw);
    cr_assert_eq(t.stride, t.c);
    dev_get(k->d, raw, t.data, tensor_bytes(t));
    device_is_fine(k);
    if (t.type == DT_F32)
        memcpy(wide, raw, n * sizeof *wide);
    else if (t.type == DT_F16)
        f16_decode(wide, raw, n);
    else
        bf16_decode(wide, raw, n);
    for (size_t i = 0; i < n; i++)
        wide[i] = ldexpf(wide[i], t.exp2);
    mem_free(raw);
    return wide;
}

static void compare_golden_output(forward_ctx *r, const char *name, tensor t)
{
    golden_rig *k = r->layer_output_context;
    float *v = values_of(k, t);
    expect_golden_error(k, name, gold_compare(k->g, name, v, t.n, t.h, t.w, t.c), k->allowed.stage);
    mem_free(v);
}

static double planes_error(const golden_rig *k, const char *name, const float *v)
{
    return gold_compare_planes(k->g, name, v, 1, 4, k->p->h, k->p->w);
}

static int grey_levels_apart(const golden_rig *k, const char *flow)
{
    char name[GOLD_NAME];
    snprintf(name, sizeof name, "%s.image_u8", flow);
    const gold_entry *e = gold_find(k->g, name);
    cr_assert_not_null(e, "%s", name);
    const size_t hw = (size_t)e->h * e->w;
    int worst = 0;

    cr_assert(e->h == (uint32_t)k->job.height && e->w == (uint32_t)k->job.width && e->c == 3);
    for (size_t i = 0; i < e->stored; i++) {
        const size_t at = i * e->stride; /* [3][h][w] */
        const int apart = abs((int)k->rgb_out[at % hw * 3 + at / hw] - (int)e->value[i]);
        worst = apart > worst ? apart : worst;
    }
    return worst;
}

/* ---- layer outputs, each from its golden input ---- */

/* The gold's prompts are [negative, prompt]. */
static void set_prompt_ids(golden_rig *k, prompt_encoder *e, int branch)
{
    char name[GOLD_NAME];
    int ids[TEXT_TOKENS];
    refine_error err = { 0 };
    snprintf(name, sizeof name, "%s.ids", e->text.at);
    const float *v = find_golden(k, name)->value + (2 - k->p->branches + branch) * TEXT_TOKENS;
    for (int i = 0; i < TEXT_TOKENS; i++)
        ids[i] = (int)v[i];
    cr_assert_eq(phases_set_prompt(k->p, e, branch, ids, &err), REFINE_OK, "%s", err.text);
    /* An empty negative prompt was left out, where that makes a difference. */
    k->p->zeroed[branch] = k->p->zeros && branch + 1 < k->p->branches && ids[1] == TEXT_EOS;
}

static void set_prompts(golden_rig *k)
{
    for (int branch = 0; branch < k->p->branches; branch++)
        for (int i = 0; i < k->p->n_encoders; i++)
            set_prompt_ids(k, &k->p->encoder[i], branch);
}

static void golden_latents(golden_rig *k, const char *name)
{
    const gold_entry *e = find_golden(k, name);
    cr_assert_eq(e->stored, (size_t)(4 * k->p->h * k->p->w));
    memcpy(k->p->latents, e->value, e->stored * sizeof *e->value);
}

static bool has_gold_prefix(const char *name, const char *with)
{
    return strncmp(name, with, strlen(with)) == 0;
}

/* Stages of the models that diffusers went through. */
static int golden_outputs(const golden_rig *k)
{
    const gold_entry *e;
    int n = 0;
    for (uint32_t i = 0; (e = gold_at(k->g, i)) != NULL; i++)
        n += has_gold_prefix(e->name, "unet.") || has_gold_prefix(e->name, "vae.") ||
             (has_gold_prefix(e->name, "text") && !strstr(e->name, ".ids"));
    return n;
}

/* The prompts, and the first step of a flow from its golden latents. */
static void first_pass(golden_rig *k, const char *flow)
{
    char name[GOLD_NAME];
    fresh_region(k);
    set_prompts(k);
    phases_text(k->p, &k->r, &k->job);
    snprintf(name, sizeof name, "%s.latents.init", flow);
    golden_latents(k, name);
    phases_scale_input(k->p, 0);
    phases_pass(k->p, &k->r, 0, 0);
    device_is_fine(k);
    phases_advance(k->p, 0, 0, k->job.guidance);
    snprintf(name, sizeof name, "%s.step.0.eps", flow);
    expect_golden_error(k, name, planes_error(k, name, k->p->noise), k->allowed.guided);
}

static void every_stage(const char *name, bool reference, dtype compute, const char *what)
{
    static golden_rig k;
    char last[GOLD_NAME];

    golden_rig_open(&k, name, name, "img2img", reference, compute);
    k.r.layer_output = compare_golden_output;
    fresh_region(&k);
    phases_encode(k.p, &k.r, k.rgb_in);

    first_pass(&k, "img2img");

    fresh_region(&k);
    snprintf(last, sizeof last, "img2img.step.%d.latents", k.p->steps - 1);
    golden_latents(&k, last);
    phases_decode(k.p, &k.r, 0, k.rgb_out);
    device_is_fine(&k);
    cr_expect_leq(grey_levels_apart(&k, "img2img"), k.allowed.grey);

    cr_expect_eq(k.outputs, golden_outputs(&k) + 1, "a stage was not seen, or seen twice");
    tell_worst(&k, what);
    golden_rig_close(&k);
}

/* Of a base: both text encoders and the UNet; the VAE is a refiner's. */
static void every_base_stage(const char *name, bool reference, dtype compute, const char *what)
{
    static golden_rig k;

    golden_rig_open(&k, name, name, "txt2img", reference, compute);
    k.r.layer_output = compare_golden_output;
    first_pass(&k, "txt2img");
    cr_expect_eq(k.outputs, golden_outputs(&k) + 1, "an output was not seen, or seen twice");
    tell_worst(&k, what);
    golden_rig_close(&k);
}

Test(engine_golden, every_output_of_a_small_base_on_the_cpu_is_diffusers)
{
    every_base_stage("tiny_base", false, DT_F32, "tiny base cpu f32");
}

ReleaseTest(engine_golden, every_output_of_a_small_base_on_the_reference_device_is_diffusers)
{
    every_base_stage("tiny_base", true, DT_F32, "tiny base ref f32");
}

ReleaseTest(engine_golden, every_output_of_a_base_of_odd_sizes_on_the_cpu_is_diffusers)
{
    every_base_stage("odd_base", false, DT_F32, "odd base cpu f32");
}

ReleaseTest(engine_golden, every_output_of_a_base_in_bf16_is_diffusers_but_for_rounding)
{
    every_base_stage("odd_base", false, DT_BF16, "odd base cpu bf16");
}

Test(engine_golden, every_stage_of_tiny_on_the_reference_device_is_diffusers)
{
    every_stage("tiny", true, DT_F32, "tiny ref f32");
}

ReleaseTest(engine_golden, every_stage_of_tiny_on_the_cpu_in_f32_is_diffusers)
{
    every_stage("tiny", false, DT_F32, "tiny cpu f32");
}

ReleaseTest(engine_golden, every_stage_of_tiny_on_the_cpu_in_bf16_is_diffusers_but_for_rounding)
{
    every_stage("tiny", false, DT_BF16, "tiny cpu bf16");
}

ReleaseTest(engine_golden, every_stage_of_odd_sizes_on_the_reference_device_is_diffusers)
{
    every_stage("odd", true, DT_F32, "odd ref f32");
}

Test(engine_golden, every_stage_of_odd_sizes_on_the_cpu_in_f32_is_diffusers)
{
    every_stage("odd", false, DT_F32, "odd cpu f32");
}

Test(engine_golden, every_stage_of_odd_sizes_on_the_cpu_in_bf16_is_diffusers_but_for_rounding)
{
    every_stage("odd", false, DT_BF16, "odd cpu bf16");
}

/* ---- whole images ---- */

/* The same draws; values to a few ulp (engine/sampling/rng.h). */
static void noise_is_torchs(const golden_rig *k, const char *name)
{
    const double error = planes_error(k, name, k->p->noise);
    cr_expect_leq(error, 1e-6, "%s: relative error %.2e", name, error);
}

static void init_golden_latents(golden_rig *k)
{
    const size_t n = (size_t)(4 * k->p->h * k->p->w);
    rng *g = &k->p->generator[0];

    rng_open(g, RNG_TORCH, k->job.seed);
    if (k->p->from_noise) {
        rng_randn(g, k->p->latents, n);
        for (size_t i = 0; i < n; i++)
            k->p->latents[i] *= k->p->sampler.init_noise;
        return;
    }
    if (k->job.latents_in) {
        memcpy(k->p->latents, k->job.latents_in, n * sizeof *k->p->latents);
        return;
    }
    fresh_region(k);
    phases_encode(k->p, &k->r, k->rgb_in);
    device_is_fine(k);
    rng_randn(g, k->p->noise, n);
    if (gold_find(k->g, "img2img.noise.posterior"))
        noise_is_torchs(k, "img2img.noise.posterior");
    phases_sample_moments(k->p, 0);
    rng_randn(g, k->p->noise, n);
    if (gold_find(k->g, "img2img.noise.init"))
        noise_is_torchs(k, "img2img.noise.init");
    euler_add_noise(&k->p->sampler, k->p->first, k->p->latents, k->p->noise, n);
}

static double step_latents_error(const golden_rig *k, const char *flow, int step)
{
    char name[GOLD_NAME];
    snprintf(name, sizeof name, "%s.step.%d.timestep", flow, step);
    cr_assert_eq(*find_golden(k, name)->value, k->p->sampler.timestep[k->p->first + step], "%s",
                 name);
    snprintf(name, sizeof name, "%s.step.%d.latents", flow, step);
    return planes_error(k, name, k->p->latents);
}

static void whole_image_of(const char *name, const char *of, const char *flow, bool reference,
                           dtype compute, const char *what)
{
    static golden_rig k;
    char past[GOLD_NAME], init[GOLD_NAME];
    double worst;

    golden_rig_open(&k, name, of, flow, reference, compute);
    init_golden_latents(&k);
    snprintf(init, sizeof init, "%s.latents.init", flow);
    worst = planes_error(&k, init, k.p->latents);
    fresh_region(&k);
    set_prompts(&k);
    phases_text(k.p, &k.r, &k.job);
    for (int i = 0; i < k.p->steps; i++) {
        phases_scale_input(k.p, i);
        phases_pass(k.p, &k.r, i, 0);
        device_is_fine(&k);
        phases_advance(k.p, i, 0, k.job.guidance);
        worst = fmax(worst, step_latents_error(&k, flow, i));
    }
    snprintf(past, sizeof past, "%s.step.%d.latents", flow, k.p->steps);
    cr_expect_null(gold_find(k.g, past), "diffusers runs more steps");
    int grey = 0;
    if (!(k.job.denoising_end > 0)) {
        fresh_region(&k);
        phases_decode(k.p, &k.r, 0, k.rgb_out);
        device_is_fine(&k);
        grey = grey_levels_apart(&k, flow);
    }
    fprintf(stderr, "%s %s: %d steps, latents %.2e, image %d grey levels\n", what, flow, k.p->steps,
            worst, grey);
    cr_expect_leq(worst, k.allowed.latents, "latents: relative error %.2e", worst);
    cr_expect_leq(grey, k.allowed.grey, "the image is %d grey levels off", grey);
    golden_rig_close(&k);
}

static void whole_image(const char *name, const char *flow, bool reference, dtype compute,
                        const char *what)
{
    whole_image_of(name, name, flow, reference, compute, what);
}

/* From text, distilled, with velocities, from an image, and both halves of an ensemble. */
static void base_flows(const char *base, const char *refiner, dtype compute, const char *what)
{
    static const char *const FLOWS[] = { "txt2img", "turbo", "velocity", "img2img",
                                         "ensemble_base" };
    for (size_t i = 0; i < sizeof FLOWS / sizeof FLOWS[0]; i++)
        whole_image(base, FLOWS[i], false, compute, what);
    whole_image_of(refiner, base, "ensemble", false, compute, what);
}

Test(engine_golden, every_flow_of_a_small_base_is_diffusers)
{
    base_flows("tiny_base", "tiny", DT_F32, "tiny base cpu f32");
}

ReleaseTest(engine_golden, every_flow_of_a_base_of_odd_sizes_is_diffusers)
{
    base_flows("odd_base", "odd", DT_F32, "odd base cpu f32");
}

static void both_flows(const char *name, bool reference, dtype compute, const char *what)
{
    whole_image(name, "img2img", reference, compute, what);
    whole_image(name, "refine", reference, compute, what);
}

ReleaseTest(engine_golden, pictures_of_tiny_on_the_reference_device_are_diffusers)
{
    both_flows("tiny", true, DT_F32, "tiny ref f32");
}

Test(engine_golden, pictures_of_tiny_on_the_cpu_in_f32_are_diffusers)
{
    both_flows("tiny", false, DT_F32, "tiny cpu f32");
}

ReleaseTest(engine_golden, pictures_of_tiny_on_the_cpu_in_bf16_are_diffusers_but_for_rounding)
{
    both_flows("tiny", false, DT_BF16, "tiny cpu bf16");
}

/* The other flow there takes long, and has no stage of its own. */
ReleaseTest(engine_golden, a_picture_of_odd_size_refined_on_the_reference_device_is_diffusers)
{
    whole_image("odd", "refine", true, DT_F32, "odd ref f32");
}

ReleaseTest(engine_golden, pictures_of_odd_sizes_on_the_cpu_in_f32_are_diffusers)
{
    both_flows("odd", false, DT_F32, "odd cpu f32");
}

ReleaseTest(engine_golden, pictures_of_odd_sizes_on_the_cpu_in_bf16_are_diffusers_but_for_rounding)
{
    both_flows("odd", false, DT_BF16, "odd cpu bf16");
}

/* ---- a base and a refiner in one engine ---- */

/* Of letters without merges, as make_golden.py reads them; there must be one, which no text has. */
static const char LETTERS[] = "#version: letters\nq q</w>\n";

typedef struct golden_pair {
    const char *base, *refiner, *flows, *text, *against;
} golden_pair;

static void set_golden_sizes(refine_job *j, const float *v)
{
    int *const sizes[] = {
        &j->original_width,
        &j->original_height,
        &j->crop_left,
        &j->crop_top,
        &j->target_width,
        &j->target_height,
        &j->negative_original_width,
        &j->negative_original_height,
        &j->negative_crop_left,
        &j->negative_crop_top,
        &j->negative_target_width,
        &j->negative_target_height,
    };
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        *sizes[i] = (int)v[i];
}

static refine_job golden_pair_job(const golden_rig *k, const golden_pair *pair, const char *flow)
{
    char name[GOLD_NAME];
    refine_job j = REFINE_JOB_INIT;
    snprintf(name, sizeof name, "%s.job", flow);
    const gold_entry *e = find_golden(k, name);
    const float *v = e->value;
    cr_assert_eq(e->stored, 24u);
    j.prompt = pair->text;
    j.negative = pair->against;
    j.width = (int)v[0];
    j.height = (int)v[1];
    j.steps = (int)v[2];
    j.strength = nearbyint((double)v[3] * 100) / 100; /* the decimal number that was meant */
    j.guidance = v[4];
    j.aesthetic_score = v[5];
    j.negative_aesthetic_score = v[6];
    j.seed = (uint64_t)v[7];
    j.handoff = nearbyint((double)v[8] * 100) / 100;
    j.via_pixels = v[9] > 0;
    j.rgb_in = v[10] > 0 ? k->rgb_in : NULL;
    j.clip_skip = (int)v[11];
    set_golden_sizes(&j, v + 12);
    j.rgb_out = k->rgb_out;
    return j;
}

static void run_golden_pair(const refine_options *o, const refine_job *j)
{
    refine_engine *e;
    refine_error err = { 0 };
    cr_assert_eq(refine_open(&e, o, j, &err), REFINE_OK, "%s", err.text);
    cr_assert_eq(refine_run(e, j, &err), REFINE_OK, "%s", err.text);
    refine_close(e);
}

static void compare_golden_pair(golden_rig *k, const char *flow, const float *latents)
{
    char name[GOLD_NAME];
    snprintf(name, sizeof name, "%s.latents", flow);
    const double error = gold_compare_planes(k->g, name, latents, 1, 4, k->job.height / 8,
                                             k->job.width / 8);
    const int grey = grey_levels_apart(k, flow);
    fprintf(stderr, "%s: latents %.2e, image %d grey levels\n", flow, error, grey);
    /* A byte that falls the other way is a grey level of what is encoded. */
    const double allowed = k->job.via_pixels ? 1e-4 : IN_F32.latents;
    cr_expect_leq(error, allowed, "%s: relative error %.2e", flow, error);
    cr_expect_leq(grey, IN_F32.grey, "%s: the image is %d grey levels off", flow, grey);
}

static void open_golden_flows(golden_rig *k, const golden_pair *pair)
{
    const char *const golds[] = { pair->base, pair->flows };
    refine_error err = { 0 };
    memset(k, 0, sizeof *k);
    for (int i = 0; i < 2; i++) { /* the photo is the base's */
        char path[PATH];
        snprintf(path, sizeof path, "tests/golden/%s.gold", golds[i]);
        cr_assert_eq(gold_open(&k->g, path, &err), REFINE_OK, "%s", err.text);
        if (i == 0) {
            take_pictures(k);
            gold_close(k->g);
        }
    }
}

static void golden_pair_flows(const golden_pair *pair)
{
    static const char *const FLOWS[] = { "two_stage", "two_stage_pixels", "photo", "clip_skip",
                                         "sizes",     "sizes_photo" };
    static golden_rig k;
    char base[PATH], refiner[PATH];

    open_golden_flows(&k, pair);
    make_golden_pack(base, pair->base, "");
    make_golden_pack(refiner, pair->refiner, "");
    refine_options o = picture_options(refiner, REFINE_DEVICE_CPU, REFINE_F32);
    o.base_path = base;
    o.merges = LETTERS;
    o.merges_len = sizeof LETTERS - 1;
    for (size_t i = 0; i < sizeof FLOWS / sizeof FLOWS[0]; i++) {
        k.job = golden_pair_job(&k, pair, FLOWS[i]);
        float *latents = mem_alloc((size_t)(k.job.width * k.job.height / 16) * sizeof *latents);
        cr_assert_not_null(latents);
        k.job.latents_out = latents;
        run_golden_pair(&o, &k.job);
        compare_golden_pair(&k, FLOWS[i], latents);
        mem_free(latents);
    }
    (void)unlink(base);
    (void)unlink(refiner);
    gold_close(k.g);
    mem_free(k.rgb_in);
    mem_free(k.rgb_out);
}

Test(engine_golden, every_flow_through_a_small_base_and_a_refiner_is_diffusers)
{
    static const golden_pair TINY = { "tiny_base", "tiny", "tiny_flows", "a red cat", NULL };
    golden_pair_flows(&TINY);
}

ReleaseTest(engine_golden, every_flow_through_both_of_odd_sizes_is_diffusers)
{
    static const golden_pair ODD = { "odd_base", "odd", "odd_flows", "a cat on a lawn", "fog" };
    golden_pair_flows(&ODD);
}

/* ---- the files themselves ---- */

Test(engine_golden, the_tiny_configuration_is_the_one_that_is_built_in)
{
    const model_config c = config_of("tiny");
    char *file = model_config_dump(&c), *built_in = model_config_dump(&MODEL_TINY);
    cr_assert(file && built_in);
    cr_expect_str_eq(file, built_in);
    mem_free(file);
    mem_free(built_in);
}

Test(engine_golden, a_damaged_gold_file_is_refused_at_every_length)
{
    static unsigned char bytes[512];
    FILE *f = fopen("tests/golden/tiny.gold", "rbe");
    gold *g;
    cr_assert_not_null(f);
    cr_assert_eq(fread(bytes, 1, sizeof bytes, f), sizeof bytes);
    (void)fclose(f);
    for (size_t len = 0; len <= sizeof bytes; len++)
        cr_expect_eq(gold_parse(&g, bytes, len, NULL), REFINE_EFORMAT, "%zu bytes", len);
}
