/* engine/engine.c -- the public API: plan, open, run, report, close.
 *
 * The composition root: the only file that picks a device.  What refine_open takes, in
 * order: the pack's index, the device, host buffers (pipeline), the plan, the arena, the
 * stream with its staging.  Closing goes backwards.  refine_run allocates nothing.
 */
#include "engine/refine.h"

#include "engine/base/clock.h"
#include "engine/base/mem.h"
#include "engine/base/num.h"
#include "engine/base/try.h"
#include "engine/plan.h"
#include "engine/rng.h"
#include "engine/tokenizer.h"
#include "refine_version.h"

#include <stdio.h>
#include <string.h>

enum { MAX_SCRIPT = 5 };

/* What libraries keep for themselves once a run is under way (mostly oneDNN's generated
 * code), measured: docs/speed.md. */
#define LIBRARY_BYTES ((uint64_t)6 << 20)

struct refine_engine {
    model m;
    dev *d;
    pipeline *p;
    tokenizer *tok;
    plan plan;
    char *arena;
    stream *s;
    run r;
    bool used; /* a run has consumed the stream's script */

    const refine_job *job; /* during a run */
    refine_phase phase;
    int step;
    int phase_chunks, chunks_left; /* of the phase or step, for progress */
    double started, phase_started, last_report;
    uint64_t rss_before, heap_before; /* when opening began */
    stream_stats before;              /* at the last report */
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

static dtype compute_type(refine_device device, refine_precision p)
{
    if (p == REFINE_BF16)
        return DT_BF16;
    return p == REFINE_PRECISION_AUTO && device != REFINE_DEVICE_REF ? dev_cpu_best() : DT_F32;
}

static refine_status open_device(refine_engine *e, const refine_options *o, refine_error *err)
{
    const dev_options want = { .compute = compute_type(o->device, o->precision),
                               .threads = o->threads };
    if (o->precision == REFINE_FP16)
        return refine_fail(err, REFINE_EINVAL,
                           "fp16 is for CUDA devices; this device computes in f32 or bf16");
    e->d = o->device == REFINE_DEVICE_REF ? dev_open_ref(&want, err) : dev_open_cpu(&want, err);
    if (!e->d)
        return err && err->status != REFINE_OK ? err->status : REFINE_EDEVICE;
    e->p = NULL;
    plan_precision(&e->r, e->d, want.compute);
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
    if (o->threads < 0 || o->threads > 1024 || o->decode_threads < 0 || o->decode_threads > 256)
        return refine_fail(err, REFINE_EINVAL, "the number of threads is out of range");
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
    TRY(pipeline_open(&e->p, &e->m, j, err));
    e->p->act = e->r.act;
    e->step_seconds = mem_calloc(2 * (size_t)e->p->steps, sizeof *e->step_seconds);
    if (!e->step_seconds)
        return refine_fail(err, REFINE_ENOMEM, "out of memory");
    return plan_make(&e->plan, &e->m, e->p, e->d, o, j, err);
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
    char *host = mem_alloc(num_max(biggest, 1));
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
    mem_free(host);
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
        add_pass(passes, &n, e->m.p, SEG_VAE_ENCODE, 1);
    add_pass(passes, &n, e->m.p, SEG_TEXT, 1);
    add_pass(passes, &n, e->m.p, SEG_ONCE, 1);
    add_pass(passes, &n, e->m.p, SEG_UNET, e->p->steps);
    if (e->p->decodes)
        add_pass(passes, &n, e->m.p, SEG_VAE_DECODE, 1);

    char *ring = e->arena + pl->vectors + pl->workspace;
    const stream_config c = {
        .d = e->d,
        .p = e->m.p,
        .ring = ring,
        .ring_bytes = pl->ring,
        .residents = ring + pl->ring + pl->residents_at,
        .resident = pl->resident,
        .script = passes,
        .n_script = n,
        .slots = pl->slots,
        .workers = pl->workers,
        .reader = (int)o->reader,
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
    dev_workspace_set(e->d, e->arena + pl->vectors, pl->workspace);
    return REFINE_OK;
}

static refine_engine *engine_alloc(refine_error *err)
{
    refine_engine *e = mem_calloc(1, sizeof *e);
    if (!e) {
        refine_fail(err, REFINE_ENOMEM, "out of memory");
        return NULL;
    }
    e->rss_before = process_memory("VmRSS");
    e->heap_before = mem_used().now;
    return e;
}

static void fill_plan_report(refine_engine *e);

refine_status refine_plan(refine_report *out, const refine_options *o, const refine_job *j,
                          refine_error *err)
{
    refine_engine *e = engine_alloc(err);
    if (!e)
        return REFINE_ENOMEM;
    const refine_status st = prepare(e, o, j, err);
    if (e->plan.resident) {
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
    TRY_OR(fail, take_arena(e, err));
    TRY_OR(fail, load_vectors(e, err));
    TRY_OR(fail, open_stream(e, o, err));
    e->r.m = &e->m;
    e->r.w = stream_weights(e->s);
    e->r.band_rows = e->plan.band_rows;
    e->r.spill_from = SIZE_MAX;
    e->r.tick_context = e;
    fill_plan_report(e);
    e->report.open = clock_seconds() - t0;
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

/* Seconds until the last step is done, from the steps so far. */
static double estimate(const refine_engine *e, double now, double done)
{
    const double steps = (double)e->step + done;
    if (e->phase != REFINE_DENOISING || steps < 0.05)
        return -1.0;
    return (now - e->phase_started) / steps * ((double)e->p->steps - steps);
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
        .eta = estimate(e, now, done),
        .disk_rate = e->disk_rate,
        .stall_share = total_stall(&s) / (now - e->started + 1e-9),
    };
    if (e->job->progress(e->job->progress_context, &p))
        dev_fail(e->d, REFINE_ECANCELLED, "interrupted");
}

/* Called by the model each time it is done with a chunk (or a layer) of weights. */
static void tick(run *r)
{
    refine_engine *e = r->tick_context;
    e->chunks_left++;
    tell(e, e->chunks_left >= e->phase_chunks ? 1.0 : (double)e->chunks_left / e->phase_chunks);
}

static void begin(refine_engine *e, refine_phase phase, int seg)
{
    int first = 0, end = 0;
    if (seg >= 0)
        pack_segment(e->m.p, seg, &first, &end);
    e->phase = phase;
    e->phase_chunks = end - first;
    e->chunks_left = 0;
    e->phase_started = clock_seconds();
    tell(e, 0.0);
}

/* ---- running ---- */

static void fresh_region(refine_engine *e)
{
    const plan *p = &e->plan;
    const size_t at = p->vectors + p->workspace + p->ring;
    scratch_open(&e->r.mem, e->d, e->arena + at, p->region);
}

static refine_status device_status(const refine_engine *e, refine_error *err)
{
    const refine_status st = dev_status(e->d);
    if (st != REFINE_OK)
        refine_fail(err, st, "%s", dev_why(e->d));
    return st;
}

static refine_status set_prompts(refine_engine *e, const refine_job *j, refine_error *err)
{
    const char *prompts[2] = { j->negative ? j->negative : "", j->prompt ? j->prompt : "" };
    int *const counts[2] = { &e->report.negative_tokens, &e->report.tokens };
    const tokenizer_flavour flavour = j->flavour == REFINE_TOKENS_OPENCLIP ? TOKENIZER_OPENCLIP
                                                                           : TOKENIZER_DIFFUSERS;
    int ids[TEXT_TOKENS];

    for (int i = 2 - e->p->halves; i < 2; i++) {
        TRY(tokenizer_encode(e->tok, prompts[i], strlen(prompts[i]), flavour, ids, counts[i], err));
        TRY(pipeline_set_prompt(e->p, i - (2 - e->p->halves), ids, err));
    }
    return REFINE_OK;
}

/* Latents at the first step's noise level.  Draws in diffusers' order: posterior, then noise. */
static refine_status start_latents(refine_engine *e, const refine_job *j, refine_error *err)
{
    pipeline *p = e->p;
    const size_t n = (size_t)(4 * p->h * p->w);
    rng g;

    rng_open(&g, j->rng == REFINE_RNG_PHILOX ? RNG_PHILOX : RNG_TORCH, j->seed);
    if (j->rgb_in) {
        begin(e, REFINE_ENCODING, SEG_VAE_ENCODE);
        fresh_region(e);
        pipeline_encode(p, &e->r, j->rgb_in);
        TRY(device_status(e, err));
        rng_randn(&g, p->noise, n);
        pipeline_sample_moments(p);
        e->report.vae_encode = clock_seconds() - e->phase_started;
    } else {
        memcpy(p->latents, j->latents_in, n * sizeof *p->latents);
    }
    if (!(j->denoising_start > 0)) {
        rng_randn(&g, p->noise, n);
        scheduler_add_noise(&p->sched, p->first, p->latents, p->noise, n);
    }
    return REFINE_OK;
}

static refine_status denoise(refine_engine *e, const refine_job *j, refine_error *err)
{
    const double t0 = clock_seconds();
    e->step = 0;
    begin(e, REFINE_DENOISING, SEG_UNET);
    for (int i = 0; i < e->p->steps; i++) {
        const double t = clock_seconds();
        e->step = i;
        e->chunks_left = 0;
        pipeline_scale_input(e->p, i);
        pipeline_step(e->p, &e->r, i);
        TRY(device_status(e, err));
        pipeline_advance(e->p, i, j->guidance);
        e->step_seconds[i] = clock_seconds() - t;
    }
    e->step = e->p->steps;
    e->report.unet = clock_seconds() - t0;
    return REFINE_OK;
}

static refine_status decode(refine_engine *e, const refine_job *j, refine_error *err)
{
    begin(e, REFINE_DECODING, SEG_VAE_DECODE);
    stream_drop_residents(e->s);
    fresh_region(e);
    pipeline_decode(e->p, &e->r, j->rgb_out);
    e->report.vae_decode = clock_seconds() - e->phase_started;
    return device_status(e, err);
}

static void fill_run_report(refine_engine *e);

refine_status refine_run(refine_engine *e, const refine_job *j, refine_error *err)
{
    if (j->struct_bytes != sizeof *j || !pipeline_fits(e->p, j))
        return refine_fail(err, REFINE_EINVAL, "the job is not of the shape that was opened");
    TRY(device_status(e, err));
    if (e->used)
        TRY(stream_restart(e->s));
    e->used = true;
    e->job = j;
    e->r.tick = tick;
    e->started = e->last_report = clock_seconds();
    e->before = stream_get_stats(e->s);
    e->step = 0;

    TRY(set_prompts(e, j, err));
    TRY(start_latents(e, j, err));
    begin(e, REFINE_TEXT, SEG_TEXT);
    fresh_region(e);
    pipeline_text(e->p, &e->r, j);
    TRY(device_status(e, err));
    e->report.text = clock_seconds() - e->phase_started;

    TRY(denoise(e, j, err));
    if (j->latents_out)
        memcpy(j->latents_out, e->p->latents,
               (size_t)(4 * e->p->h * e->p->w) * sizeof *j->latents_out);
    if (j->rgb_out)
        TRY(decode(e, j, err));
    fill_run_report(e);
    begin(e, REFINE_FINISHED, -1);
    return device_status(e, err);
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
    r->memory.device_planned = p->arena;
    r->memory.device_limit = p->device_limit;
    r->memory.host_planned = p->host;
    r->memory.host_limit = p->host_limit;
    r->memory.rss_planned = e->rss_before + (p->host - e->heap_before) + p->arena + LIBRARY_BYTES;
    r->memory.ring = p->ring;
    r->memory.resident = p->residents;
    r->memory.activations = num_max(num_max(p->encode, p->text), num_max(p->unet, p->decode));
    r->memory.workspace = p->workspace;
    r->memory.vectors = p->vectors;
    r->memory.staging = p->staging;
    r->memory.smallest_device = p->smallest_device;
    r->memory.smallest_host = p->smallest_host;
    r->device = dev_name(e->d);
    snprintf(e->device_model, sizeof e->device_model, "%s", dev_model(e->d));
    r->device_model = e->device_model;
    r->precision = PRECISION[e->r.act];
    r->reader = e->s ? stream_reader_name(e->s) : "";
    r->width = e->p->width;
    r->height = e->p->height;
    r->steps_run = e->p->steps;
    r->decode_threads = p->workers;
    r->threads = dev_threads(e->d);
    r->step = e->step_seconds;
    r->disk_bytes_per_step = r->copy_bytes_per_step = p->step_bytes - p->step_resident_bytes;
    r->source_hash = pack_super(e->m.p)->source_hash;
    r->source_name = e->m.source_name;
    if (e->s)
        snprintf(r->note, sizeof r->note, "%s", stream_note(e->s));
}

static void fill_run_report(refine_engine *e)
{
    refine_report *r = &e->report;
    const stream_stats s = stream_get_stats(e->s);
    const uint64_t heap = mem_used().peak;

    r->total = clock_seconds() - e->started;
    r->first_step = e->step_seconds[0];
    r->step_median = median(e->step_seconds + e->p->steps, e->step_seconds, e->p->steps);
    r->memory.device_peak = e->plan.arena;
    r->memory.host_peak = heap > e->plan.arena ? heap - e->plan.arena : heap;
    r->memory.rss_peak = process_memory("VmHWM");
    r->disk_bytes = s.disk_bytes;
    r->disk_rate = s.disk_busy > 0 ? (double)s.disk_bytes / s.disk_busy : 0;
    r->copy_rate = s.copy_busy > 0 ? (double)s.copied_bytes / s.copy_busy : 0;
    r->stall_disk = s.stall_disk;
    r->stall_decode = s.stall_decode;
    r->stall_copy = s.stall_copy;
}

void refine_get_report(const refine_engine *e, refine_report *out) { *out = e->report; }

/* ---- */

int refine_steps_to_run(const refine_job *j)
{
    scheduler s;
    const schedule_config *c = &MODEL_REFINER.schedule;
    if (j->steps < 1 || j->steps > 1000 || scheduler_open(&s, c, j->steps) != REFINE_OK)
        return 0;
    return s.steps - scheduler_first(&s, j->strength, j->denoising_start);
}
