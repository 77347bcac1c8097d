/* engine/engine.c -- the public API: plan, open, run, close.
 *
 * The composition root.  What refine_open takes, in order: of each model the pack's index, the
 * device, host buffers (phases), the plans, the arena, the stream with its staging.  Closing goes
 * backwards.  refine_run allocates nothing.
 *
 * A run goes through its parts (engine/engine_state.h) one after the other.  They share what is
 * named there; a part hands its latents over by host memory, and what it leaves in the arena is
 * gone.
 */
#include "engine/engine_state.h"

#include "engine/arena.h"
#include "engine/base/clock.h"
#include "engine/base/mem.h"
#include "engine/base/num.h"
#include "engine/base/process_limits.h"
#include "engine/base/try.h"
#include "engine/pipeline.h"
#include "offload/codec.h"
#include "refine_version.h"

#include <math.h>
#include <string.h>

enum { PASSES_MAX = 5 }; /* of a part */

const char *refine_version(void) { return REFINE_VERSION; }

#define SAME_READER(k) ((int)REFINE_READER_##k == (int)READER_##k)
_Static_assert(SAME_READER(AUTO) && SAME_READER(URING) && SAME_READER(PREAD),
               "what the API calls a reader is what offload/reader.h calls one");

/* ---- parts ---- */

static bool has_base(const refine_engine *e) { return e->n_parts > 1; }

static bool is_base(const model *m) { return model_config_ids(&m->l.config) == MICRO_IDS_MAX; }

static refine_status check_model(const engine_part *p, const refine_options *o, bool before,
                                 refine_error *err)
{
    if (before && !is_base(&p->m))
        return refine_fail(err, REFINE_EINVAL, "%s: is a refiner, where a base is wanted", p->path);
    if (o->base_path && !before && is_base(&p->m))
        return refine_fail(err, REFINE_EINVAL, "%s: is a base, where a refiner is wanted", p->path);
    if (o->precision == REFINE_INT8 && !model_quantised(&p->m))
        return refine_fail(err, REFINE_EINVAL,
                           "%s holds 16-bit weights: precision int8 needs a pack made with "
                           "refine-pack --weights int8",
                           p->path);
    return REFINE_OK;
}

/* Latents are handed over as they are. */
static refine_status check_latent_space(const refine_engine *e, refine_error *err)
{
    const engine_part *base = &e->part[0], *refiner = &e->part[e->n_parts - 1];
    const float a = base->m.l.config.vae.scaling_factor, b = refiner->m.l.config.vae.scaling_factor;
    return a == b ? REFINE_OK
                  : refine_fail(err, REFINE_EINVAL,
                                "%s scales latents by %g and %s by %g: they do not belong together",
                                base->path, (double)a, refiner->path, (double)b);
}

static refine_status open_models(refine_engine *e, const refine_options *o, refine_error *err)
{
    const char *const paths[] = { o->base_path, o->pack_path };
    for (int i = 0; i < 2; i++) {
        if (!paths[i])
            continue;
        engine_part *p = &e->part[e->n_parts++];
        p->path = paths[i];
        TRY(model_open(&p->m, p->path, err));
        TRY(check_model(p, o, i == 0, err));
    }
    return check_latent_space(e, err);
}

/* The job as a part sees it.  between: what lies there is handed over, or as good as that. */
static refine_job job_of_part(const refine_engine *e, int k, const refine_job *j, float *between)
{
    refine_job own = *j;
    if (!has_base(e))
        return own;
    if (k == 0) {
        own.denoising_end = j->handoff;
        own.rgb_out = j->via_pixels ? j->rgb_out : NULL;
        own.latents_out = j->via_pixels ? NULL : between;
    } else {
        own.denoising_start = j->handoff;
        own.rgb_in = j->via_pixels ? j->rgb_out : NULL;
        own.latents_in = j->via_pixels ? NULL : between;
    }
    return own;
}

static refine_status check_handoff(const refine_job *j, refine_error *err)
{
    const bool partly = j->denoising_start > 0 || j->denoising_end > 0;
    const char *bad = NULL;
    if (!(j->handoff >= 0 && j->handoff < 1))
        bad = "the handoff must be between 0 and 1";
    else if (partly)
        bad = "a base and a refiner divide the schedule by the handoff alone";
    else if (j->handoff == 0 && (j->rgb_in || j->latents_in))
        bad = "two stages begin with text: leave out the input, or hand over before the end";
    else if (j->via_pixels && j->handoff > 0)
        bad = "latents that are partly denoised cannot be handed over as pixels";
    else if (j->via_pixels && !j->rgb_out)
        bad = "to be handed over as pixels, pixels must be wanted";
    return bad ? refine_fail(err, REFINE_EINVAL, "%s", bad) : REFINE_OK;
}

static refine_status open_phases(refine_engine *e, const refine_options *o, const refine_job *j,
                                 refine_error *err)
{
    float marker = 0; /* only that there are latents matters here */
    const int images = o->images ? o->images : 1;
    if (has_base(e))
        TRY(check_handoff(j, err));
    e->hands_noise = has_base(e) && j->handoff > 0;
    for (int k = 0; k < e->n_parts; k++) {
        engine_part *p = &e->part[k];
        const refine_job own = job_of_part(e, k, j, &marker);
        TRY(phases_open(&p->p, &p->m, &own, images, err));
        p->p->act = e->r.act;
        p->jobs = mem_calloc((size_t)images, sizeof *p->jobs);
        p->step_seconds = mem_calloc(2 * (size_t)p->p->steps, sizeof *p->step_seconds);
        if (!p->jobs || !p->step_seconds)
            return refine_fail(err, REFINE_ENOMEM, "out of memory");
    }
    return REFINE_OK;
}

static refine_status make_plans(refine_engine *e, const refine_options *o, const refine_job *j,
                                refine_error *err)
{
    const phases *of[PACKS_MAX];
    plan plans[PACKS_MAX];
    size_t chunks = 1;

    for (int k = 0; k < e->n_parts; k++) {
        of[k] = e->part[k].p;
        chunks += (size_t)n_pack_chunks(e->part[k].m.p);
    }
    e->is_resident = mem_calloc(chunks, sizeof *e->is_resident);
    e->is_cached = mem_calloc(chunks, sizeof *e->is_cached);
    if (!e->is_resident || !e->is_cached)
        return refine_fail(err, REFINE_ENOMEM, "out of memory");
    const refine_status st = plan_make(plans, of, e->n_parts, e->d, o, j, err);
    for (int k = 0; k < e->n_parts; k++) {
        engine_part *p = &e->part[k];
        p->plan = plans[k];
        p->p->per_pass = p->plan.unet.per_pass;
        e->arena_bytes = num_max(e->arena_bytes, p->plan.arena.bytes);
        if (st == REFINE_OK)
            forecast_open(&p->forecast, &p->plan, &p->m, p->p, o);
    }
    return st;
}

/* ---- opening ---- */

static refine_status open_device(refine_engine *e, const refine_options *o, refine_error *err)
{
    TRY(device_choose(&e->device, o, err));
    e->d = e->device.d;
    phases_precision(&e->r, e->d, e->device.compute);
    return REFINE_OK;
}

/* All packs have the one vocabulary there is of CLIP. */
static refine_status open_tokenizer(refine_engine *e, const refine_options *o, refine_error *err)
{
    size_t len = o->merges_len;
    const char *merges = o->merges;
    e->merges_hash = merges ? codec_hash(merges, len) : 0;
    for (int k = 0; k < e->n_parts && !merges; k++)
        merges = pack_merges(e->part[k].m.p, &len);
    if (!merges)
        return refine_fail(err, REFINE_EINVAL,
                           "%s holds no tokenizer: give --tokenizer, or pack again", o->pack_path);
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
static refine_status prepare_engine(refine_engine *e, const refine_options *o, const refine_job *j,
                                    refine_error *err)
{
    TRY(check_options(o, err));
    if (j->struct_bytes != sizeof *j)
        return refine_fail(err, REFINE_EINVAL, "a job of another version of the library");
    TRY(open_models(e, o, err));
    TRY(open_device(e, o, err));
    TRY(open_tokenizer(e, o, err));
    TRY(open_phases(e, o, j, err));
    TRY(make_plans(e, o, j, err));
    mem_trim(); /* or what is freed already would be taken again, and planned for twice */
    e->rss_before = engine_process_memory("VmRSS");
    e->rss_peak_before = engine_process_memory("VmHWM");
    e->heap_before = mem_used().now;
    return REFINE_OK;
}

/* Vectors go to the device one chunk at a time; the text towers' positions stay here too. */
static refine_status load_vectors(refine_engine *e, engine_part *part, refine_error *err)
{
    const pack *p = part->m.p;
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
        dev_put(e->d, part->vectors + at, host, bytes);
        phases_keep_vectors(part->p, i, host);
        at += num_align(bytes, PACK_VECTOR_ALIGN);
    }
out:
    mem_unmap(host, biggest);
    return st;
}

static void add_pass(stream_pass *list, int *n, const chunk_list *l, int k, segment seg, int times)
{
    int first, end;
    pack_segment(l->pack[k], seg, &first, &end);
    list[(*n)++] = (stream_pass){ l->first[k] + first, l->first[k] + end, times };
}

static void add_passes(stream_pass *list, int *n, const chunk_list *l, int k, const phases *p)
{
    if (p->encodes)
        add_pass(list, n, l, k, SEG_VAE_ENCODE, p->images);
    add_pass(list, n, l, k, SEG_TEXT, 1);
    add_pass(list, n, l, k, SEG_ONCE, 1);
    add_pass(list, n, l, k, SEG_UNET, p->steps * phases_passes(p));
    if (p->decodes)
        add_pass(list, n, l, k, SEG_VAE_DECODE, p->images);
}

static char *part_residents(const refine_engine *e, const engine_part *p)
{
    return e->arena + arena_region_at(&p->plan.arena) + p->plan.arena.residents_at;
}

/* The plans' notes on chunks, one part's behind the other's. */
static void join_notes(refine_engine *e, const chunk_list *l)
{
    for (int k = 0; k < e->n_parts; k++) {
        const plan *p = &e->part[k].plan;
        const size_t n = (size_t)n_pack_chunks(l->pack[k]);
        memcpy(e->is_resident + l->first[k], p->is_resident, n * sizeof *p->is_resident);
        memcpy(e->is_cached + l->first[k], p->is_cached, n * sizeof *p->is_cached);
    }
}

static refine_status open_stream(refine_engine *e, const refine_options *o, refine_error *err)
{
    const plan *pl = &e->part[0].plan;
    const pack *packs[PACKS_MAX];
    stream_pass passes[PACKS_MAX * PASSES_MAX];
    int n = 0;

    for (int k = 0; k < e->n_parts; k++)
        packs[k] = e->part[k].m.p;
    const chunk_list l = chunk_list_make(packs, e->n_parts);
    for (int k = 0; k < e->n_parts; k++)
        add_passes(passes, &n, &l, k, e->part[k].p);
    join_notes(e, &l);
    stream_config c = {
        .d = e->d,
        .chunks = l,
        .ring = e->arena + arena_ring_at(&pl->arena),
        .ring_bytes = pl->arena.ring,
        .resident = e->is_resident,
        .cached = e->is_cached,
        .schedule = passes,
        .n_passes = n,
        .slots = pl->host.slots,
        .workers = pl->host.workers,
        .reader = (reader_kind)o->reader,
        .disk_limit = o->disk_limit,
        .copy_limit = o->copy_limit,
        .t = e->t,
        .guards = pl->arena.zone > 0,
    };
    for (int k = 0; k < e->n_parts; k++)
        c.residents[k] = part_residents(e, &e->part[k]);
    return stream_open(&e->s, &c, err);
}

/* What could not be had may be more than the process is allowed. */
static refine_status name_shortage(const refine_engine *e, refine_status st,
                                   const refine_options *o, refine_error *err)
{
    const uint64_t arena = e->d && dev_is_discrete(e->d) ? 0 : e->arena_bytes;
    const int compute = e->d ? 0 : o->threads > 0 ? o->threads : process_cores("");
    return process_name_limit(st, arena + e->part[0].plan.host.bytes, compute + limits_threads(o),
                              err);
}

static refine_status take_arena(refine_engine *e, const refine_options *o, refine_error *err)
{
    e->arena = dev_alloc(e->d, e->arena_bytes, DEV_VRAM);
    if (!e->arena)
        return name_shortage(e,
                             refine_fail(err, REFINE_EBUDGET,
                                         "the device refuses %.0f MiB although its ceiling allows "
                                         "them; lower --vram",
                                         (double)e->arena_bytes / (double)(1 << 20)),
                             o, err);
    char *at = e->arena;
    for (int k = 0; k < e->n_parts; k++) {
        e->part[k].vectors = at;
        at += num_align(e->part[k].m.vector_bytes, SCRATCH_ALIGN);
        TRY(load_vectors(e, &e->part[k], err));
    }
    return REFINE_OK;
}

static refine_status open_spill(refine_engine *e, const refine_options *o, refine_error *err)
{
    const host_memory *h = &e->part[0].plan.host;
    const spill_config c = {
        .d = e->d, .host_bytes = h->spill_host, .file_bytes = h->spill_file, .dir = o->spill_dir
    };
    if (h->spill_host + h->spill_file == 0)
        return REFINE_OK;
    TRY(spill_open(&e->spill, &c, err));
    e->r.spill = e->spill;
    return REFINE_OK;
}

static refine_status open_trace(refine_engine *e, refine_error *err)
{
    const size_t events = e->part[0].plan.trace_events;
    if (events == 0)
        return REFINE_OK;
    e->t = trace_open(events);
    return e->t ? REFINE_OK : refine_fail(err, REFINE_ENOMEM, "out of memory");
}

static refine_status open_layer_outputs(refine_engine *e, const refine_job *j, refine_error *err)
{
    if (!j->layer_output)
        return REFINE_OK;
    e->layer_outputs = layer_outputs_open();
    return e->layer_outputs ? REFINE_OK : refine_fail(err, REFINE_ENOMEM, "out of memory");
}

static const char TRY_F32[] = "the precision's range may be too small: try --precision f32";

/* Of what it borrows all is there. */
static void open_observer(refine_engine *e)
{
    const bool narrow = e->r.act != DT_F32 || e->device.int8_math;
    observer *o = &e->o;
    o->d = e->d;
    o->r = &e->r;
    o->s = e->s;
    o->t = e->t;
    o->layer_outputs = e->layer_outputs;
    o->arena = e->arena;
    o->advice = narrow ? TRY_F32 : NULL;
    for (int k = 0; k < e->n_parts; k++)
        o->steps += e->part[k].p->steps;
    o->open_ended = clock_seconds();
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

/* What is the engine's does not outlive it. */
static void forget_engine(refine_report *r)
{
    r->step = NULL;
    r->device_model = r->source_name = "";
}

refine_status refine_plan(refine_report *out, const refine_options *o, const refine_job *j,
                          refine_error *err)
{
    refine_engine *e = engine_alloc(err);
    if (!e)
        return REFINE_ENOMEM;
    refine_status st = prepare_engine(e, o, j, err);
    if (st == REFINE_ENOMEM)
        st = name_shortage(e, st, o, err);
    if (e->arena_bytes) {
        engine_report_plan(e, j);
        refine_get_report(e, out);
        forget_engine(out);
        if (out->base)
            forget_engine(out->base);
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
    TRY_OR(fail, prepare_engine(e, o, j, err));
    mem_reset_peak(); /* rates were measured in device memory, and that is not the arena */
    TRY_OR(fail, open_trace(e, err));
    TRY_OR(fail, open_layer_outputs(e, j, err));
    e->o.open_began = clock_seconds();
    TRY_OR(fail, open_spill(e, o, err));
    TRY_OR(fail, take_arena(e, o, err));
    TRY_OR(fail, open_stream(e, o, err));
    e->r.w = stream_weights(e->s);
    open_observer(e);
    e->open_seconds = e->o.open_ended - t0;
    engine_report_plan(e, j);
    *out = e;
    return REFINE_OK;

fail:
    if (st == REFINE_ENOMEM)
        st = name_shortage(e, st, o, err);
    refine_close(e);
    return st;
}

void refine_close(refine_engine *e)
{
    if (!e)
        return;
    stream_close(e->s);
    if (e->d)
        dev_free(e->d, e->arena, e->arena_bytes, DEV_VRAM);
    mem_free(e->is_resident);
    mem_free(e->is_cached);
    spill_close(e->spill);
    trace_close(e->t);
    layer_outputs_close(e->layer_outputs);
    for (int k = 0; k < e->n_parts; k++) {
        plan_close(&e->part[k].plan);
        phases_close(e->part[k].p);
    }
    tokenizer_close(e->tok);
    dev_close(e->d);
    for (int k = 0; k < e->n_parts; k++) {
        model_close(&e->part[k].m);
        mem_free(e->part[k].jobs);
        mem_free(e->part[k].step_seconds);
    }
    mem_free(e);
}

/* ---- running ---- */

static refine_status check_jobs(const refine_engine *e, const refine_job *j, int n,
                                refine_error *err)
{
    const phases *first = e->part[0].p;
    if (n != first->images)
        return refine_fail(err, REFINE_EINVAL, "%d jobs were given to an engine of %d", n,
                           first->images);
    for (int i = 0; i < n; i++) {
        bool fits = j[i].struct_bytes == sizeof *j;
        for (int k = 0; k < e->n_parts && fits; k++) {
            const refine_job own = job_of_part(e, k, &j[i], phases_latents(e->part[k].p, 0));
            fits = phases_fits(e->part[k].p, &own);
        }
        if (!fits)
            return refine_fail(err, REFINE_EINVAL,
                               "the job differs from the one the engine was opened for");
    }
    for (int i = 0; i < n; i++)
        TRY(pipeline_check_latents(first, &j[i], err));
    if (j[0].layer_output && !e->layer_outputs)
        return refine_fail(err, REFINE_EINVAL, "the engine was opened without a layer callback");
    return REFINE_OK;
}

static refine_status restart_stream(refine_engine *e)
{
    if (e->used) { /* the first run's reading has begun already */
        trace_clear(e->t);
        TRY(stream_restart(e->s));
    }
    e->used = true;
    return dev_status(e->d);
}

/* Latents are handed over into the next part's own. */
static void set_part_jobs(refine_engine *e, const refine_job *j)
{
    phases *next = engine_last_part(e)->p;
    for (int k = 0; k < e->n_parts; k++)
        for (int i = 0; i < next->images; i++)
            e->part[k].jobs[i] = job_of_part(e, k, &j[i], phases_latents(next, i));
}

/* Predicted seconds of all parts behind this one; < 0: not known. */
static double predict_later_parts(const refine_engine *e, int k)
{
    double sum = 0;
    for (k++; k < e->n_parts; k++) {
        if (!e->part[k].forecast.known)
            return -1.0;
        sum += forecast_total(&e->part[k].forecast);
    }
    return sum;
}

/* The arena becomes this part's; nothing of the one before is in use any more. */
static void enter_part(refine_engine *e, int k)
{
    engine_part *p = &e->part[k];
    const arena_layout *a = &p->plan.arena;
    const observed_part seen = { .p = p->p,
                                 .forecast = &p->forecast,
                                 .step_seconds = p->step_seconds,
                                 .of_base = k + 1 < e->n_parts,
                                 .later = predict_later_parts(e, k) };
    stream_enter_pack(e->s, k);
    e->r.m = &p->m;
    e->r.vectors = p->vectors;
    e->r.together = p->plan.together;
    e->r.band_rows = p->plan.vae.band_rows;
    e->r.spill_from = p->plan.vae.spill_from;
    dev_workspace_set(e->d, e->arena + arena_workspace_at(a), a->workspace);
    arena_guard(e->d, a, e->arena);
    observer_enter_part(&e->o, &seen);
}

static refine_status run_part(refine_engine *e, int k, refine_error *err)
{
    engine_part *p = &e->part[k];
    enter_part(e, k);
    pipeline_context c = { .p = p->p,
                           .r = &e->r,
                           .s = e->s,
                           .tok = e->tok,
                           .o = &e->o,
                           .plan = &p->plan,
                           .arena = e->arena,
                           .before = k > 0 ? e->part[k - 1].p : NULL };
    const refine_status st = pipeline_run(&c, p->jobs, err);
    scratch_close(&e->r.mem); /* of a failed run too: other residents come where it lay */
    TRY(st);
    engine_report_part(e, p);
    return REFINE_OK;
}

static refine_status run_jobs(refine_engine *e, const refine_job *j, refine_error *err)
{
    TRY(dev_result(e->d, err));
    if (restart_stream(e) != REFINE_OK)
        return dev_result(e->d, err);
    set_part_jobs(e, j);
    observer_start(&e->o, j);
    for (int k = 0; k < e->n_parts; k++)
        TRY(run_part(e, k, err));
    engine_report_run(e, j);
    observer_finish(&e->o);
    return dev_result(e->d, err);
}

refine_status refine_run_many(refine_engine *e, const refine_job *j, int n, refine_error *err)
{
    TRY(check_jobs(e, j, n, err));
    const bool allowed = mem_allow(false);
    const refine_status st = run_jobs(e, j, err);
    (void)mem_allow(allowed);
    return st;
}

refine_status refine_run(refine_engine *e, const refine_job *j, refine_error *err)
{
    return refine_run_many(e, j, 1, err);
}

int refine_steps_to_run(const refine_job *j)
{
    euler s;
    const schedule_config *c = &MODEL_REFINER.schedule;
    if (j->steps < 1 || j->steps > 1000 || euler_open(&s, c, j->steps) != REFINE_OK)
        return 0;
    const step_range steps = phases_steps(&s, j);
    return steps.end > steps.first ? steps.end - steps.first : 0;
}
