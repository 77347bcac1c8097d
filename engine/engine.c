/* engine/engine.c -- the public API: plan, open, run, report, close.
 *
 * The composition root.  What refine_open takes, in order: the pack's index, the device, host
 * buffers (pipeline), the plan, the arena, the stream with its staging.  Closing goes backwards.
 * refine_run allocates nothing.
 */
#include "engine/refine.h"

#include "engine/arena.h"
#include "engine/base/clock.h"
#include "engine/base/mem.h"
#include "engine/base/num.h"
#include "engine/base/try.h"
#include "engine/device_choice.h"
#include "engine/finite.h"
#include "engine/forecast.h"
#include "engine/rng.h"
#include "engine/stages.h"
#include "engine/tokenizer.h"
#include "offload/spill.h"
#include "refine_version.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MAX_SCRIPT = 5 };

/* What libraries and threads' stacks take once a run is under way, and what malloc keeps of
 * what is freed while opening: half of all jobs within half a MiB of it (docs/memory.md). */
#define LIBRARY_BYTES ((uint64_t)5 << 17)

struct refine_engine {
    model m;
    device_choice device;
    dev *d; /* device.d */
    pipeline *p;
    tokenizer *tok;
    plan plan;
    forecast forecast; /* of the plan */
    char *arena;
    stream *s;
    spill *spill;
    trace *t;
    stages *stages; /* NULL: nobody looks */
    run r;
    bool used; /* a run has consumed the stream's script */

    const refine_job *job; /* the first one, during a run */
    refine_phase phase;
    int step, image;               /* under way; image: of the VAE's */
    int phase_chunks, chunks_left; /* of the phase or step, for progress */
    double open_began, open_ended, started, phase_started, last_report;
    uint64_t rss_before, heap_before; /* when the plan was made */
    stream_stats before;              /* at the last report, */
    stream_stats at_start;            /* at the start of the run */
    double disk_rate;
    double *step_seconds; /* p->steps of them, and as many to sort */
    refine_report report;
    char device_model[96];
};

const char *refine_version(void) { return REFINE_VERSION; }

/* A line of /proc/self/status in bytes: "VmRSS" or "VmHWM", its peak.  0: not to be had. */
static uint64_t process_memory(const char *key)
{
    unsigned long long kib = 0;
    const size_t n = strlen(key);
    char line[128];
    FILE *f = fopen("/proc/self/status", "re");
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, key, n) == 0 && sscanf(line + n, ": %llu kB", &kib) == 1)
            break;
    if (f)
        (void)fclose(f);
    return (uint64_t)kib << 10;
}

/* ---- opening ---- */

static refine_status open_device(refine_engine *e, const refine_options *o, refine_error *err)
{
    TRY(device_choose(&e->device, &e->m, o, err));
    e->d = e->device.d;
    plan_precision(&e->r, e->d, e->device.compute);
    return REFINE_OK;
}

static refine_status open_tokenizer(refine_engine *e, const refine_options *o, refine_error *err)
{
    size_t len = o->merges_len;
    const char *merges = o->merges ? o->merges : pack_merges(e->m.p, &len);
    if (!merges)
        return refine_fail(err, REFINE_EINVAL,
                           "%s holds no tokenizer: give --tokenizer, or pack again with it",
                           o->pack_path);
    return tokenizer_open(&e->tok, merges, len, err);
}

static refine_status check_options(const refine_options *o, refine_error *err)
{
    if (o->struct_bytes != sizeof *o)
        return refine_fail(err, REFINE_EINVAL, "options of another version of the library");
    if (!o->pack_path)
        return refine_fail(err, REFINE_EINVAL, "no pack given");
    if (o->band_rows < 0 || o->band_rows % BAND_UNIT)
        return refine_fail(err, REFINE_EINVAL, "band rows must be a multiple of %d", BAND_UNIT);
    if (o->threads < 0 || o->threads > 256 || o->decode_threads < 0 || o->decode_threads > 256)
        return refine_fail(err, REFINE_EINVAL, "the number of threads is out of range");
    if (o->per_pass < 0 || o->together < 0)
        return refine_fail(err, REFINE_EINVAL, "fewer than none cannot go together");
    return REFINE_OK;
}

/* Everything that plan and open have in common; takes nothing large. */
static refine_status prepare(refine_engine *e, const refine_options *o, const refine_job *j,
                             refine_error *err)
{
    TRY(check_options(o, err));
    if (j->struct_bytes != sizeof *j)
        return refine_fail(err, REFINE_EINVAL, "a job of another version of the library");
    TRY(model_open(&e->m, o->pack_path, err));
    TRY(open_device(e, o, err));
    TRY(open_tokenizer(e, o, err));
    TRY(pipeline_open(&e->p, &e->m, j, o->images ? o->images : 1, err));
    e->p->act = e->r.act;
    e->step_seconds = mem_calloc(2 * (size_t)e->p->steps, sizeof *e->step_seconds);
    if (!e->step_seconds)
        return refine_fail(err, REFINE_ENOMEM, "out of memory");
    TRY(plan_make(&e->plan, &e->m, e->p, e->d, o, j, err));
    e->p->per_pass = e->plan.per_pass;
    forecast_open(&e->forecast, &e->plan, &e->m, e->p, o);
    mem_trim(); /* or what is freed already would be taken again, and foretold twice */
    e->rss_before = process_memory("VmRSS");
    e->heap_before = mem_used().now;
    return REFINE_OK;
}

/* Vectors go to the device one chunk at a time; the text tower's positions stay here too. */
static refine_status load_vectors(refine_engine *e, refine_error *err)
{
    const pack *p = e->m.p;
    const pack_tensor *positions = pack_tensor_at(p, e->p->text.positions);
    refine_status st = REFINE_OK;
    size_t biggest = 0, at = 0;
    int first, end;

    pack_segment(p, SEG_VECTORS, &first, &end);
    for (int i = first; i < end; i++)
        biggest = num_max(biggest, pack_chunk_at(p, i)->bytes);
    biggest = num_max(biggest, 1);
    char *host = mem_map(biggest); /* malloc would keep its pages */
    if (!host)
        return refine_fail(err, REFINE_ENOMEM, "out of memory");
    for (int i = first; i < end; i++) {
        const size_t bytes = pack_chunk_at(p, i)->bytes;
        TRY_OR(out, pack_read_chunk(p, i, host, err));
        dev_put(e->d, e->r.vectors + at, host, bytes);
        if ((int)positions->first_chunk == i)
            memcpy(e->p->positions, host + positions->at, (size_t)positions->c_in * sizeof(float));
        at += num_align(bytes, PACK_VECTOR_ALIGN);
    }
out:
    mem_unmap(host, biggest);
    return st;
}

static void add_pass(stream_pass *list, int *n, const pack *p, segment seg, int times)
{
    int first, end;
    pack_segment(p, seg, &first, &end);
    list[(*n)++] = (stream_pass){ first, end, times };
}

static refine_status open_stream(refine_engine *e, const refine_options *o, refine_error *err)
{
    const plan *pl = &e->plan;
    stream_pass passes[MAX_SCRIPT];
    int n = 0;

    if (e->p->encodes)
        add_pass(passes, &n, e->m.p, SEG_VAE_ENCODE, e->p->images);
    add_pass(passes, &n, e->m.p, SEG_TEXT, 1);
    add_pass(passes, &n, e->m.p, SEG_ONCE, 1);
    add_pass(passes, &n, e->m.p, SEG_UNET, e->p->steps * pipeline_passes(e->p));
    if (e->p->decodes)
        add_pass(passes, &n, e->m.p, SEG_VAE_DECODE, e->p->images);

    char *ring = e->arena + plan_ring_at(pl);
    const stream_config c = {
        .d = e->d,
        .p = e->m.p,
        .ring = ring,
        .ring_bytes = pl->ring,
        .residents = e->arena + plan_region_at(pl) + pl->residents_at,
        .resident = pl->is_resident,
        .cached = pl->is_cached,
        .script = passes,
        .n_script = n,
        .slots = pl->slots,
        .workers = pl->workers,
        .reader = (int)o->reader,
        .disk_limit = o->disk_limit,
        .copy_limit = o->copy_limit,
        .t = e->t,
        .guards = pl->zone > 0,
    };
    return stream_open(&e->s, &c, err);
}

static refine_status take_arena(refine_engine *e, refine_error *err)
{
    const plan *pl = &e->plan;
    e->arena = dev_alloc(e->d, pl->arena, DEV_VRAM);
    if (!e->arena)
        return refine_fail(err, REFINE_EBUDGET,
                           "the device refuses %.0f MiB although its ceiling allows them; "
                           "lower --vram",
                           (double)pl->arena / (double)(1 << 20));
    e->r.vectors = e->arena;
    dev_workspace_set(e->d, e->arena + plan_workspace_at(pl), pl->workspace);
    arena_guard(e->d, pl, e->arena);
    return REFINE_OK;
}

static refine_status open_spill(refine_engine *e, const refine_options *o, refine_error *err)
{
    const plan *pl = &e->plan;
    const spill_config c = {
        .d = e->d, .host_bytes = pl->spill_host, .file_bytes = pl->spill_file, .dir = o->spill_dir
    };
    if (pl->spill_host + pl->spill_file == 0)
        return REFINE_OK;
    TRY(spill_open(&e->spill, &c, err));
    e->r.spill = e->spill;
    return REFINE_OK;
}

static refine_status open_trace(refine_engine *e, refine_error *err)
{
    if (e->plan.trace_events == 0)
        return REFINE_OK;
    e->t = trace_open(e->plan.trace_events);
    return e->t ? REFINE_OK : refine_fail(err, REFINE_ENOMEM, "out of memory");
}

static refine_status open_stages(refine_engine *e, const refine_job *j, refine_error *err)
{
    if (!j->stage)
        return REFINE_OK;
    e->stages = stages_open();
    return e->stages ? REFINE_OK : refine_fail(err, REFINE_ENOMEM, "out of memory");
}

static refine_engine *engine_alloc(refine_error *err)
{
    refine_engine *e = mem_calloc(1, sizeof *e);
    if (!e) {
        refine_fail(err, REFINE_ENOMEM, "out of memory");
        return NULL;
    }
    return e;
}

static void add_note(refine_report *r, const char *note)
{
    const size_t n = strlen(r->note);
    if (note[0])
        (void)snprintf(r->note + n, sizeof r->note - n, "%s%s", n ? "; " : "", note);
}

static void fill_plan_report(refine_engine *e);

refine_status refine_plan(refine_report *out, const refine_options *o, const refine_job *j,
                          refine_error *err)
{
    refine_engine *e = engine_alloc(err);
    if (!e)
        return REFINE_ENOMEM;
    const refine_status st = prepare(e, o, j, err);
    if (e->plan.arena) {
        fill_plan_report(e);
        refine_get_report(e, out);
        out->step = NULL;
        out->device_model = out->source_name = "";
    }
    refine_close(e);
    return st;
}

refine_status refine_open(refine_engine **out, const refine_options *o, const refine_job *j,
                          refine_error *err)
{
    refine_status st;
    const double t0 = clock_seconds();

    *out = NULL;
    refine_engine *e = engine_alloc(err);
    if (!e)
        return REFINE_ENOMEM;
    TRY_OR(fail, prepare(e, o, j, err));
    TRY_OR(fail, open_trace(e, err));
    TRY_OR(fail, open_stages(e, j, err));
    e->open_began = clock_seconds();
    TRY_OR(fail, open_spill(e, o, err));
    TRY_OR(fail, take_arena(e, err));
    TRY_OR(fail, load_vectors(e, err));
    TRY_OR(fail, open_stream(e, o, err));
    e->r.m = &e->m;
    e->r.w = stream_weights(e->s);
    e->r.together = e->plan.together;
    e->r.band_rows = e->plan.band_rows;
    e->r.spill_from = e->plan.spill_from;
    e->r.tick_context = e->r.tap_context = e;
    fill_plan_report(e);
    e->open_ended = clock_seconds();
    e->report.open = e->open_ended - t0;
    *out = e;
    return REFINE_OK;

fail:
    refine_close(e);
    return st;
}

void refine_close(refine_engine *e)
{
    if (!e)
        return;
    stream_close(e->s);
    if (e->d)
        dev_free(e->d, e->arena, e->plan.arena, DEV_VRAM);
    spill_close(e->spill);
    trace_close(e->t);
    stages_close(e->stages);
    plan_close(&e->plan);
    pipeline_close(e->p);
    tokenizer_close(e->tok);
    dev_close(e->d);
    model_close(&e->m);
    mem_free(e->step_seconds);
    mem_free(e);
}

/* ---- progress ---- */

static double total_stall(const stream_stats *s)
{
    return s->stall_disk + s->stall_decode + s->stall_copy;
}

static void tell(refine_engine *e, double done)
{
    const double now = clock_seconds();
    if (!e->job->progress)
        return;
    const stream_stats s = stream_get_stats(e->s);
    if (now - e->last_report > 0.2) {
        e->disk_rate = (double)(s.disk_bytes - e->before.disk_bytes) / (now - e->last_report);
        e->before = s;
        e->last_report = now;
    }
    const refine_progress p = {
        .phase = e->phase,
        .step = e->step,
        .steps = e->p->steps,
        .done = done,
        .elapsed = now - e->started,
        .eta = forecast_left(&e->forecast, e->step_seconds, now),
        .disk_rate = e->disk_rate,
        .stall_share = (total_stall(&s) - total_stall(&e->at_start)) / (now - e->started + 1e-9),
    };
    const bool allowed = mem_allow(true); /* to whoever looks on */
    if (e->job->progress(e->job->progress_context, &p))
        dev_fail(e->d, REFINE_ECANCELLED, "interrupted");
    (void)mem_allow(allowed);
}

/* ---- stages ---- */

/* Called by the model with what a layer gives. */
static void tap(run *r, const char *name, tensor t)
{
    refine_engine *e = r->tap_context;
    const bool denoising = e->phase == REFINE_DENOISING;
    const refine_stage first = { .name = name,
                                 .phase = e->phase,
                                 .step = denoising ? e->step : 0,
                                 .item = denoising ? r->item0 : e->image };
    stages_tell(e->stages, e->job, e->d, first, t);
}

static void tap_latents(refine_engine *e, int image)
{
    const refine_stage s = { .name = "latents",
                             .phase = e->phase,
                             .step = e->step,
                             .item = image,
                             .h = e->p->h,
                             .w = e->p->w };
    if (e->r.tap)
        stages_tell_latents(e->stages, e->job, e->d, s, pipeline_latents(e->p, image));
}

/* Called by the model each time it is done with a chunk (or a layer) of weights. */
static void tick(run *r)
{
    refine_engine *e = r->tick_context;
    const double now = clock_seconds();
    e->chunks_left++;
    forecast_tick(&e->forecast, stream_position(e->s));
    trace_add(e->t, REFINE_LANE_ACTIVATIONS, (int)e->phase, now, now, scratch_high(&r->mem));
    const double share = forecast_share(&e->forecast);
    const double chunks = (double)e->chunks_left / e->phase_chunks;
    tell(e, share >= 0 ? share : fmin(chunks, 1.0));
}

/* `visits`: of the chunks from segment `seg` to segment `last` (in each step, for the UNet). */
static void begin(refine_engine *e, refine_phase phase, int seg, int last, int visits)
{
    int first = 0, end = 0, ignored;
    if (seg >= 0) {
        pack_segment(e->m.p, seg, &first, &ignored);
        pack_segment(e->m.p, last, &ignored, &end);
    }
    e->phase = phase;
    e->phase_chunks = (end - first) * visits;
    e->chunks_left = 0;
    e->phase_started = clock_seconds();
    forecast_phase(&e->forecast, phase, first, end, visits, e->phase_started);
    tell(e, 0.0);
}

/* Seconds the phase took. */
static double finish(refine_engine *e)
{
    stream_pause(e->s);
    arena_check(e->d, &e->plan, e->arena);
    const double now = clock_seconds();
    trace_add(e->t, REFINE_LANE_PHASE, (int)e->phase, e->phase_started, now, 0);
    return now - e->phase_started;
}

/* ---- running ---- */

/* `peak`: of the phases that begin. */
static void fresh_region(refine_engine *e, size_t peak)
{
    const plan *p = &e->plan;
    e->r.norms_within = peak;
    scratch_close(&e->r.mem);
    scratch_open(&e->r.mem, e->d, e->arena + plan_region_at(p), p->region, p->zone);
    scratch_open(&e->r.spilled, e->d, SCRATCH_TOKEN, p->spill_host + p->spill_file, 0);
}

static refine_status device_status(const refine_engine *e, refine_error *err)
{
    const refine_status st = dev_status(e->d);
    if (st != REFINE_OK)
        refine_fail(err, st, "%s", dev_why(e->d));
    return st;
}

/* ---- what phases hand over ---- */

static const char TRY_F32[] = "the precision's range may be too small: try --precision f32";
static const char TRY_VERIFY[] = "the model's weights may be damaged: try refine-pack --verify";

/* Past the text, less than f32 is the likelier cause. */
static const char *advice(const refine_engine *e)
{
    const bool narrow = e->r.act != DT_F32 || e->device.ints;
    return narrow && e->phase != REFINE_TEXT ? TRY_F32 : TRY_VERIFY;
}

static finite_place place(const refine_engine *e, const char *what, int image)
{
    return (finite_place){ .what = what,
                           .advice = advice(e),
                           .step = e->step,
                           .steps = e->phase == REFINE_DENOISING ? e->p->steps : 0,
                           .image = image,
                           .images = e->p->images };
}

static void look(const refine_engine *e, const char *what, int image, const float *v, size_t n)
{
    const finite_place at = place(e, what, image);
    finite_judge(e->d, &at, finite_bad(v, n), n);
}

static size_t latent_values(const pipeline *p) { return 4 * (size_t)p->h * (size_t)p->w; }

/* The states and the pooled prompt, of all halves of an image. */
static void look_at_text(const refine_engine *e)
{
    const pipeline *p = e->p;
    const size_t states = (size_t)p->halves * TEXT_TOKENS * (size_t)p->text.c->width;
    const size_t pooled = (size_t)p->halves * (size_t)p->text.c->projection;
    for (int i = 0; i < p->images; i++) {
        look(e, "the text encoder's result", i, p->embedded + (size_t)i * states, states);
        look(e, "the pooled prompt", i, p->pooled + (size_t)i * pooled, pooled);
    }
}

/* The UNet's, of all halves of an image. */
static void look_at_noise(const refine_engine *e)
{
    const pipeline *p = e->p;
    const size_t n = (size_t)p->halves * latent_values(p);
    for (int i = 0; i < p->images; i++)
        look(e, "the UNet's result", i, p->unet_out + (size_t)i * n, n);
}

/* Of finite noise. */
static void look_at_latents(const refine_engine *e, int image)
{
    const size_t n = latent_values(e->p);
    finite_place at = place(e, "what guidance made of the latents", image);
    at.advice = "try a smaller --guidance";
    finite_judge(e->d, &at, finite_bad(pipeline_latents(e->p, image), n), n);
}

/* `bad` of its values were not finite. */
static void look_at_picture(const refine_engine *e, int image, size_t bad)
{
    const finite_place at = place(e, "the decoded picture", image);
    finite_judge(e->d, &at, bad, 3 * (size_t)e->p->width * (size_t)e->p->height);
}

/* Prompts of image `image`; the report counts the tokens of the first one's. */
static refine_status set_prompts(refine_engine *e, const refine_job *j, int image,
                                 refine_error *err)
{
    const char *prompts[2] = { j->negative ? j->negative : "", j->prompt ? j->prompt : "" };
    const tokenizer_flavour flavour = j->flavour == REFINE_TOKENS_OPENCLIP ? TOKENIZER_OPENCLIP
                                                                           : TOKENIZER_DIFFUSERS;
    const int halves = e->p->halves;
    int ids[TEXT_TOKENS], counts[2] = { 0, 0 };

    for (int i = 2 - halves; i < 2; i++) {
        TRY(tokenizer_encode(e->tok, prompts[i], strlen(prompts[i]), flavour, ids, &counts[i],
                             err));
        TRY(pipeline_set_prompt(e->p, image * halves + i - (2 - halves), ids, err));
    }
    if (image == 0) {
        e->report.negative_tokens = counts[0];
        e->report.tokens = counts[1];
    }
    return REFINE_OK;
}

/* Latents of an image at the first step's noise level.  Draws in diffusers' order: posterior,
 * then noise. */
static refine_status start_latents(refine_engine *e, const refine_job *j, int image,
                                   refine_error *err)
{
    pipeline *p = e->p;
    const size_t n = latent_values(p);
    float *latents = pipeline_latents(p, image);
    rng g;

    e->image = image;
    rng_open(&g, j->rng == REFINE_RNG_PHILOX ? RNG_PHILOX : RNG_TORCH, j->seed);
    if (j->rgb_in) {
        fresh_region(e, e->plan.encode);
        pipeline_encode(p, &e->r, j->rgb_in);
        look(e, "the encoded picture", image, p->moments, 2 * n);
        TRY(device_status(e, err));
        rng_randn(&g, p->noise, n);
        pipeline_sample_moments(p, image);
    } else {
        memcpy(latents, j->latents_in, n * sizeof *latents);
    }
    if (!(j->denoising_start > 0)) {
        rng_randn(&g, p->noise, n);
        scheduler_add_noise(&p->sched, p->first, latents, p->noise, n);
    }
    return REFINE_OK;
}

static refine_status encode(refine_engine *e, const refine_job *j, refine_error *err)
{
    if (e->p->encodes)
        begin(e, REFINE_ENCODING, SEG_VAE_ENCODE, SEG_VAE_ENCODE, e->p->images);
    for (int i = 0; i < e->p->images; i++)
        TRY(start_latents(e, &j[i], i, err));
    if (e->p->encodes)
        e->report.vae_encode = finish(e);
    return REFINE_OK;
}

static refine_status read_prompts(refine_engine *e, const refine_job *j, refine_error *err)
{
    begin(e, REFINE_TEXT, SEG_TEXT, SEG_ONCE, 1);
    e->image = 0;
    fresh_region(e, e->plan.unet);
    pipeline_text(e->p, &e->r, j);
    look_at_text(e);
    TRY(device_status(e, err));
    e->report.text = finish(e);
    return REFINE_OK;
}

static refine_status denoise_step(refine_engine *e, const refine_job *j, int step,
                                  refine_error *err)
{
    const double t = clock_seconds();
    e->step = step;
    e->chunks_left = 0;
    forecast_step(&e->forecast, e->s, step, t);
    pipeline_scale_input(e->p, step);
    for (int pass = 0; pass < pipeline_passes(e->p); pass++)
        pipeline_pass(e->p, &e->r, step, pass);
    look_at_noise(e);
    TRY(device_status(e, err));
    for (int i = 0; i < e->p->images; i++) {
        pipeline_advance(e->p, step, i, j[i].guidance);
        look_at_latents(e, i);
        tap_latents(e, i);
    }
    TRY(device_status(e, err));
    stream_pause(e->s);
    const double now = clock_seconds();
    e->step_seconds[step] = now - t;
    forecast_step_over(&e->forecast, e->s, now - t);
    trace_add(e->t, REFINE_LANE_STEP, step, t, now, 0);
    return REFINE_OK;
}

static refine_status denoise(refine_engine *e, const refine_job *j, refine_error *err)
{
    e->step = 0;
    begin(e, REFINE_DENOISING, SEG_UNET, SEG_UNET, pipeline_passes(e->p));
    for (int i = 0; i < e->p->steps; i++)
        TRY(denoise_step(e, j, i, err));
    e->step = e->p->steps;
    e->report.unet = finish(e);
    return REFINE_OK;
}

static refine_status decode(refine_engine *e, const refine_job *j, refine_error *err)
{
    begin(e, REFINE_DECODING, SEG_VAE_DECODE, SEG_VAE_DECODE, e->p->images);
    stream_drop_residents(e->s);
    for (int i = 0; i < e->p->images; i++) {
        e->image = i;
        fresh_region(e, e->plan.decode);
        look_at_picture(e, i, pipeline_decode(e->p, &e->r, i, j[i].rgb_out));
        TRY(device_status(e, err));
    }
    e->report.vae_decode = finish(e);
    return REFINE_OK;
}

static refine_status check_latents(const refine_engine *e, const refine_job *j, refine_error *err)
{
    const size_t n = latent_values(e->p), bad = j->latents_in ? finite_bad(j->latents_in, n) : 0;
    return bad == 0
               ? REFINE_OK
               : refine_fail(err, REFINE_EINVAL,
                             "the latents given hold NaN or infinity in %zu of %zu values", bad, n);
}

static refine_status check_jobs(const refine_engine *e, const refine_job *j, int n,
                                refine_error *err)
{
    if (n != e->p->images)
        return refine_fail(err, REFINE_EINVAL, "%d jobs were given to an engine of %d", n,
                           e->p->images);
    for (int i = 0; i < n; i++)
        if (j[i].struct_bytes != sizeof *j || !pipeline_fits(e->p, &j[i]))
            return refine_fail(err, REFINE_EINVAL, "the job is not of the shape that was opened");
    for (int i = 0; i < n; i++)
        TRY(check_latents(e, &j[i], err));
    if (j[0].stage && !e->stages)
        return refine_fail(err, REFINE_EINVAL, "the engine was not opened to be looked into");
    return REFINE_OK;
}

static void fill_run_report(refine_engine *e);

static refine_status start_stream(refine_engine *e, refine_error *err)
{
    TRY(device_status(e, err));
    if (e->used) { /* the first run's reading has begun already */
        trace_clear(e->t);
        TRY(stream_restart(e->s));
    }
    trace_add(e->t, REFINE_LANE_PHASE, REFINE_OPENING, e->open_began, e->open_ended, 0);
    e->used = true;
    e->r.tick = tick;
    e->r.tap = e->job->stage ? tap : NULL;
    e->started = e->last_report = clock_seconds();
    e->before = e->at_start = stream_get_stats(e->s);
    e->step = 0;
    forecast_run(&e->forecast, e->started);
    return REFINE_OK;
}

static refine_status run_phases(refine_engine *e, const refine_job *j, int n, refine_error *err)
{
    TRY(start_stream(e, err));
    for (int i = 0; i < n; i++)
        TRY(set_prompts(e, &j[i], i, err));
    TRY(encode(e, j, err));
    TRY(read_prompts(e, j, err));
    TRY(denoise(e, j, err));
    for (int i = 0; i < n; i++)
        if (j[i].latents_out)
            memcpy(j[i].latents_out, pipeline_latents(e->p, i),
                   latent_values(e->p) * sizeof *j->latents_out);
    if (e->p->decodes)
        TRY(decode(e, j, err));
    return REFINE_OK;
}

static refine_status run_jobs(refine_engine *e, const refine_job *j, int n, refine_error *err)
{
    e->job = j;
    const refine_status st = run_phases(e, j, n, err);
    scratch_close(&e->r.mem); /* of a failed run too: the next one's residents come where it lay */
    TRY(st);
    fill_run_report(e);
    begin(e, REFINE_FINISHED, -1, -1, 0);
    return device_status(e, err);
}

refine_status refine_run_many(refine_engine *e, const refine_job *j, int n, refine_error *err)
{
    TRY(check_jobs(e, j, n, err));
    const bool allowed = mem_allow(false);
    const refine_status st = run_jobs(e, j, n, err);
    (void)mem_allow(allowed);
    return st;
}

refine_status refine_run(refine_engine *e, const refine_job *j, refine_error *err)
{
    return refine_run_many(e, j, 1, err);
}

/* ---- reporting ---- */

static double median(double *sorted, const double *v, int n)
{
    for (int i = 0; i < n; i++) { /* insertion: n is a number of steps */
        int k = i;
        for (; k > 0 && sorted[k - 1] > v[i]; k--)
            sorted[k] = sorted[k - 1];
        sorted[k] = v[i];
    }
    return n % 2 ? sorted[n / 2] : 0.5 * (sorted[n / 2 - 1] + sorted[n / 2]);
}

static void fill_plan_report(refine_engine *e)
{
    static const char *const PRECISION[] = { "f32", "fp16", "bf16" };
    const plan *p = &e->plan;
    refine_report *r = &e->report;

    r->struct_bytes = sizeof *r;
    r->memory.device_overhead = p->overhead;
    r->memory.device_planned = p->overhead + p->arena;
    r->memory.device_limit = p->overhead + p->device_limit;
    r->memory.host_planned = p->host;
    r->memory.host_limit = p->host_limit;
    r->memory.rss_planned = e->rss_before + (p->host - p->caller - e->heap_before) +
                            (dev_has_memory(e->d) ? 0 : p->arena) + LIBRARY_BYTES;
    r->memory.ring = p->ring;
    r->memory.resident = p->residents;
    r->memory.activations = num_max(num_max(p->encode, p->text), num_max(p->unet, p->decode));
    r->memory.prompt = p->prompt;
    r->memory.cached = p->cached;
    r->memory.spill_host = p->spill_host;
    r->memory.spill_file = p->spill_file;
    r->memory.workspace = p->workspace;
    r->memory.vectors = p->vectors;
    r->memory.staging = p->staging;
    r->memory.smallest_device = p->overhead + p->smallest_device;
    r->memory.smallest_host = p->smallest_host;
    r->device = dev_name(e->d);
    snprintf(e->device_model, sizeof e->device_model, "%s", dev_model(e->d));
    r->device_model = e->device_model;
    r->precision = e->device.ints ? "int8" : PRECISION[e->r.act];
    r->reader = e->s ? stream_reader_name(e->s) : "";
    r->width = e->p->width;
    r->height = e->p->height;
    r->steps_run = e->p->steps;
    r->decode_threads = p->workers;
    r->threads = dev_threads(e->d);
    r->step = e->step_seconds;
    r->disk_bytes_per_step = p->step_read;
    r->copy_bytes_per_step = p->step_copied;
    r->images = e->p->images;
    r->per_pass = p->per_pass;
    r->passes_per_step = pipeline_passes(e->p);
    r->band_rows = p->band_rows;
    r->together = p->together;
    r->rates = p->rates;
    r->predicted_step = p->predicted.step;
    r->predicted_unet = p->predicted.step * e->p->steps;
    if (p->predicted.step > p->predicted.compute)
        r->predicted_stall = 1.0 - p->predicted.compute / p->predicted.step;
    r->predicted_text = e->forecast.phase[REFINE_TEXT];
    r->predicted_encode = e->forecast.phase[REFINE_ENCODING];
    r->predicted_decode = e->forecast.phase[REFINE_DECODING];
    r->predicted_total = forecast_total(&e->forecast);
    r->wrong_rate = r->slow_part = "";
    r->source_hash = pack_super(e->m.p)->source_hash;
    r->source_name = e->m.source_name;
    r->note[0] = '\0';
    add_note(r, e->device.note);
    add_note(r, dev_note(e->d));
    add_note(r, e->s ? stream_note(e->s) : "");
}

static void fill_verdict(refine_engine *e)
{
    refine_report *r = &e->report;
    const forecast *f = &e->forecast;
    forecast_rates(f, &r->measured);
    r->wrong_rate = forecast_wrong(f, r->step_median);
    r->replayed_step = f->replayed;
    r->slow_step = f->slowest.by;
    r->slow_part = f->slowest.part;
    r->slow_part_by = f->slowest.part_by;
}

static void fill_run_report(refine_engine *e)
{
    refine_report *r = &e->report;
    const stream_stats s = stream_stats_since(e->at_start, stream_get_stats(e->s));
    const uint64_t heap = mem_used().peak, on_host = dev_has_memory(e->d) ? 0 : e->plan.arena;

    r->total = clock_seconds() - e->started;
    r->first_step = e->step_seconds[0];
    r->step_median = median(e->step_seconds + e->p->steps, e->step_seconds, e->p->steps);
    r->memory.device_peak = e->plan.overhead + e->plan.arena;
    r->memory.host_peak = heap > on_host ? heap - on_host : heap;
    r->memory.rss_peak = process_memory("VmHWM");
    r->disk_bytes = s.disk_bytes;
    r->disk_rate = s.disk_busy > 0 ? (double)s.disk_bytes / s.disk_busy : 0;
    r->copy_rate = s.copy_busy > 0 ? (double)s.copied_bytes / s.copy_busy : 0;
    r->stall_disk = s.stall_disk;
    r->stall_decode = s.stall_decode;
    r->stall_copy = s.stall_copy;
    r->measured.disk = r->disk_rate;
    r->measured.copy = r->copy_rate;
    if (s.decode_busy > 0)
        r->measured.decode = (double)s.decoded_bytes / s.decode_busy * e->plan.workers;
    fill_verdict(e);
}

void refine_get_report(const refine_engine *e, refine_report *out) { *out = e->report; }

int refine_chunks(const refine_engine *e) { return n_pack_chunks(e->m.p); }

refine_status refine_get_chunk(const refine_engine *e, int i, refine_chunk *out)
{
    static const refine_phase PHASES[N_SEGMENTS] = {
        [SEG_VECTORS] = REFINE_OPENING, [SEG_TEXT] = REFINE_TEXT,
        [SEG_ONCE] = REFINE_TEXT,       [SEG_VAE_ENCODE] = REFINE_ENCODING,
        [SEG_UNET] = REFINE_DENOISING,  [SEG_VAE_DECODE] = REFINE_DECODING,
        [SEG_TOKENS] = REFINE_TEXT,
    };
    if (i < 0 || i >= n_pack_chunks(e->m.p))
        return REFINE_EINVAL;
    const pack_chunk *c = pack_chunk_at(e->m.p, i);
    *out = (refine_chunk){ .name = pack_tensor_name(e->m.p, (int)c->tensor),
                           .phase = PHASES[c->segment],
                           .bytes = c->bytes,
                           .stored_bytes = c->stored_bytes,
                           .flops = 2.0 * (double)dev_work_macs(e->plan.work[i]),
                           .seconds = e->plan.seconds[i] };
    if (e->plan.is_resident[i] || c->segment == SEG_VECTORS)
        out->tier = REFINE_TIER_DEVICE;
    else if (e->plan.is_cached[i])
        out->tier = REFINE_TIER_HOST;
    return REFINE_OK;
}

const refine_event *refine_trace(const refine_engine *e, size_t *n, size_t *lost)
{
    return trace_events(e->t, n, lost);
}

/* ---- */

int refine_steps_to_run(const refine_job *j)
{
    scheduler s;
    const schedule_config *c = &MODEL_REFINER.schedule;
    if (j->steps < 1 || j->steps > 1000 || scheduler_open(&s, c, j->steps) != REFINE_OK)
        return 0;
    return s.steps - scheduler_first(&s, j->strength, j->denoising_start);
}
