/* engine/engine.c -- the public API: plan, open, run, close.
 *
 * The composition root.  What refine_open takes, in order: the pack's index, the device, host
 * buffers (pipeline), the plan, the arena, the stream with its staging.  Closing goes backwards.
 * refine_run allocates nothing.
 */
#include "engine/engine_state.h"

#include "engine/arena.h"
#include "engine/base/clock.h"
#include "engine/base/mem.h"
#include "engine/base/num.h"
#include "engine/base/try.h"
#include "engine/pipeline.h"
#include "refine_version.h"

#include <string.h>

enum { PASSES_MAX = 5 };

const char *refine_version(void) { return REFINE_VERSION; }

#define SAME_READER(k) ((int)REFINE_READER_##k == (int)READER_##k)
_Static_assert(SAME_READER(AUTO) && SAME_READER(URING) && SAME_READER(PREAD),
               "what the API calls a reader is what offload/reader.h calls one");

/* ---- opening ---- */

static refine_status open_device(refine_engine *e, const refine_options *o, refine_error *err)
{
    TRY(device_choose(&e->device, &e->m, o, err));
    e->d = e->device.d;
    phases_precision(&e->r, e->d, e->device.compute);
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

static refine_status check_model(const model *m, const refine_options *o, refine_error *err)
{
    const bool base = model_config_ids(&m->l.config) == MICRO_IDS_MAX;
    if (o->model == REFINE_MODEL_BASE && !base)
        return refine_fail(err, REFINE_EINVAL, "%s: is a refiner, where a base is wanted",
                           o->pack_path);
    if (o->model == REFINE_MODEL_REFINER && base)
        return refine_fail(err, REFINE_EINVAL, "%s: is a base, where a refiner is wanted",
                           o->pack_path);
    return REFINE_OK;
}

/* Everything that plan and open have in common; takes nothing large. */
static refine_status prepare_engine(refine_engine *e, const refine_options *o, const refine_job *j,
                                    refine_error *err)
{
    TRY(check_options(o, err));
    if (j->struct_bytes != sizeof *j)
        return refine_fail(err, REFINE_EINVAL, "a job of another version of the library");
    TRY(model_open(&e->m, o->pack_path, err));
    TRY(check_model(&e->m, o, err));
    TRY(open_device(e, o, err));
    TRY(open_tokenizer(e, o, err));
    TRY(phases_open(&e->p, &e->m, j, o->images ? o->images : 1, err));
    e->p->act = e->r.act;
    e->step_seconds = mem_calloc(2 * (size_t)e->p->steps, sizeof *e->step_seconds);
    if (!e->step_seconds)
        return refine_fail(err, REFINE_ENOMEM, "out of memory");
    TRY(plan_make(&e->plan, &e->m, e->p, e->d, o, j, err));
    e->p->per_pass = e->plan.unet.per_pass;
    forecast_open(&e->forecast, &e->plan, &e->m, e->p, o);
    mem_trim(); /* or what is freed already would be taken again, and planned for twice */
    e->rss_before = engine_process_memory("VmRSS");
    e->heap_before = mem_used().now;
    return REFINE_OK;
}

/* Vectors go to the device one chunk at a time; the text towers' positions stay here too. */
static refine_status load_vectors(refine_engine *e, refine_error *err)
{
    const pack *p = e->m.p;
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
        phases_keep_vectors(e->p, i, host);
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
    stream_pass passes[PASSES_MAX];
    int n = 0;

    if (e->p->encodes)
        add_pass(passes, &n, e->m.p, SEG_VAE_ENCODE, e->p->images);
    add_pass(passes, &n, e->m.p, SEG_TEXT, 1);
    add_pass(passes, &n, e->m.p, SEG_ONCE, 1);
    add_pass(passes, &n, e->m.p, SEG_UNET, e->p->steps * phases_passes(e->p));
    if (e->p->decodes)
        add_pass(passes, &n, e->m.p, SEG_VAE_DECODE, e->p->images);

    char *ring = e->arena + arena_ring_at(&pl->arena);
    const stream_config c = {
        .d = e->d,
        .p = e->m.p,
        .ring = ring,
        .ring_bytes = pl->arena.ring,
        .residents = e->arena + arena_region_at(&pl->arena) + pl->arena.residents_at,
        .resident = pl->is_resident,
        .cached = pl->is_cached,
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
    return stream_open(&e->s, &c, err);
}

static refine_status take_arena(refine_engine *e, refine_error *err)
{
    const arena_layout *a = &e->plan.arena;
    e->arena = dev_alloc(e->d, a->bytes, DEV_VRAM);
    if (!e->arena)
        return refine_fail(err, REFINE_EBUDGET,
                           "the device refuses %.0f MiB although its ceiling allows them; "
                           "lower --vram",
                           (double)a->bytes / (double)(1 << 20));
    e->r.vectors = e->arena;
    dev_workspace_set(e->d, e->arena + arena_workspace_at(a), a->workspace);
    arena_guard(e->d, a, e->arena);
    return REFINE_OK;
}

static refine_status open_spill(refine_engine *e, const refine_options *o, refine_error *err)
{
    const host_memory *h = &e->plan.host;
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
    if (e->plan.trace_events == 0)
        return REFINE_OK;
    e->t = trace_open(e->plan.trace_events);
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
    o->p = e->p;
    o->r = &e->r;
    o->s = e->s;
    o->t = e->t;
    o->layer_outputs = e->layer_outputs;
    o->forecast = &e->forecast;
    o->arena = e->arena;
    o->advice = narrow ? TRY_F32 : NULL;
    o->step_seconds = e->step_seconds;
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

refine_status refine_plan(refine_report *out, const refine_options *o, const refine_job *j,
                          refine_error *err)
{
    refine_engine *e = engine_alloc(err);
    if (!e)
        return REFINE_ENOMEM;
    const refine_status st = prepare_engine(e, o, j, err);
    if (e->plan.arena.bytes) {
        engine_report_plan(e);
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
    mem_reset_peak();
    refine_engine *e = engine_alloc(err);
    if (!e)
        return REFINE_ENOMEM;
    TRY_OR(fail, prepare_engine(e, o, j, err));
    TRY_OR(fail, open_trace(e, err));
    TRY_OR(fail, open_layer_outputs(e, j, err));
    e->o.open_began = clock_seconds();
    TRY_OR(fail, open_spill(e, o, err));
    TRY_OR(fail, take_arena(e, err));
    TRY_OR(fail, load_vectors(e, err));
    TRY_OR(fail, open_stream(e, o, err));
    e->r.m = &e->m;
    e->r.w = stream_weights(e->s);
    e->r.together = e->plan.together;
    e->r.band_rows = e->plan.vae.band_rows;
    e->r.spill_from = e->plan.vae.spill_from;
    engine_report_plan(e);
    open_observer(e);
    e->report.open = e->o.open_ended - t0;
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
        dev_free(e->d, e->arena, e->plan.arena.bytes, DEV_VRAM);
    spill_close(e->spill);
    trace_close(e->t);
    layer_outputs_close(e->layer_outputs);
    plan_close(&e->plan);
    phases_close(e->p);
    tokenizer_close(e->tok);
    dev_close(e->d);
    model_close(&e->m);
    mem_free(e->step_seconds);
    mem_free(e);
}

/* ---- running ---- */

static refine_status check_jobs(const refine_engine *e, const refine_job *j, int n,
                                refine_error *err)
{
    if (n != e->p->images)
        return refine_fail(err, REFINE_EINVAL, "%d jobs were given to an engine of %d", n,
                           e->p->images);
    for (int i = 0; i < n; i++)
        if (j[i].struct_bytes != sizeof *j || !phases_fits(e->p, &j[i]))
            return refine_fail(err, REFINE_EINVAL,
                               "the job differs from the one the engine was opened for");
    for (int i = 0; i < n; i++)
        TRY(pipeline_check_latents(e->p, &j[i], err));
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

static refine_status run_pipeline(refine_engine *e, const refine_job *j, refine_error *err)
{
    pipeline_context c = { .p = e->p,
                           .r = &e->r,
                           .s = e->s,
                           .tok = e->tok,
                           .o = &e->o,
                           .plan = &e->plan,
                           .arena = e->arena };
    const refine_status st = pipeline_run(&c, j, err);
    e->report.tokens = c.tokens;
    e->report.negative_tokens = c.negative_tokens;
    return st;
}

static refine_status run_jobs(refine_engine *e, const refine_job *j, refine_error *err)
{
    TRY(dev_result(e->d, err));
    if (restart_stream(e) != REFINE_OK)
        return dev_result(e->d, err);
    observer_start(&e->o, j);
    const refine_status st = run_pipeline(e, j, err);
    scratch_close(&e->r.mem); /* of a failed run too: the next one's residents come where it lay */
    TRY(st);
    engine_report_run(e);
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
