/* engine/plan.c -- sizes of a run, found by replaying the model on the plan device.
 *
 * The order of wishes when memory is short: first the resident weights go, then the ring
 * shrinks, then the VAE's bands; what is left is the smallest plan.  None of them changes
 * the picture.
 */
#include "engine/plan.h"

#include "engine/base/mem.h"
#include "engine/base/num.h"
#include "engine/base/try.h"
#include "engine/recorder.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MIB ((size_t)1 << 20)

enum { DEFAULT_SLOTS = 8, SMALLEST_SLOTS = 2, DEFAULT_WORKERS = 2 };

static const int BANDS[] = { 64, 32, 16, 8 };
static const size_t RINGS[] = { 64 * MIB, 32 * MIB, 0 }; /* 0: the smallest */

/* What one band height costs. */
typedef struct replay {
    size_t encode, text, unet, decode; /* peaks of the region */
    size_t workspace, inside;
} replay;

typedef struct planner {
    plan *out;
    const model *m;
    pipeline *p;
    dev *target;
    const refine_options *o;
    const refine_job *j;
    uint64_t *macs; /* per chunk */
} planner;

void plan_precision(run *r, dev *d, dtype type)
{
    r->d = d;
    r->act = type;
    r->vae_act = type == DT_F32 ? DT_F32 : DT_F16;
    r->vae_exp2 = type == DT_F32 ? 0 : VAE_EXP2;
}

/* ---- the replay ---- */

/* Starts a phase (or a group of them) on an empty region. */
static void fresh(run *r)
{
    scratch_open(&r->mem, r->d, (void *)(uintptr_t)SCRATCH_ALIGN, SIZE_MAX);
}

static refine_status replay_bands(const planner *k, int band, replay *out, refine_error *err)
{
    dev *d = dev_open_plan(k->target, err);
    run *r = mem_calloc(1, sizeof *r);
    recorder rec;

    if (!d || !r) {
        dev_close(d);
        mem_free(r);
        return refine_fail(err, REFINE_ENOMEM, "out of memory");
    }
    plan_precision(r, d, k->p->act);
    recorder_open(&rec, k->m->p, d, k->macs);
    r->m = k->m;
    r->w = &rec.w;
    r->vectors = (char *)(uintptr_t)SCRATCH_ALIGN;
    r->band_rows = band;
    r->spill_from = SIZE_MAX;

    if (k->p->encodes) {
        fresh(r);
        pipeline_encode(k->p, r, NULL);
        out->encode = r->mem.peak;
    }
    fresh(r);
    pipeline_text(k->p, r, k->j);
    out->text = r->mem.peak;
    r->mem.peak = 0;
    pipeline_step(k->p, r, 0);
    out->unet = r->mem.peak;
    if (k->p->decodes) {
        fresh(r);
        pipeline_decode(k->p, r, NULL);
        out->decode = r->mem.peak;
    }
    out->workspace = num_align(dev_workspace_needed(d), SCRATCH_ALIGN);
    out->inside = rec.inside_peak;
    assert(rec.in_order && "the model touches its weights in another order than its layout");
    const refine_status st = dev_status(d);
    if (st != REFINE_OK)
        refine_fail(err, st, "planning failed: %s", dev_why(d));
    mem_free(r);
    dev_close(d);
    return st;
}

/* ---- ceilings ---- */

/* Memory that can be had without swapping, by the kernel's own estimate. */
static uint64_t available_memory(void)
{
    unsigned long long kib = 0;
    char line[128];
    FILE *f = fopen("/proc/meminfo", "re");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "MemAvailable: %llu kB", &kib) == 1)
            break;
    if (f)
        (void)fclose(f);
    return kib ? (uint64_t)kib << 10 : (uint64_t)4 << 30;
}

/* ---- choosing ---- */

static size_t phases_before_decode(const replay *y)
{
    return num_max(y->encode, num_max(y->text, y->unet));
}

static void set_sizes(plan *out, const planner *k, const replay *y, int band, size_t ring)
{
    out->vectors = num_align(k->m->vector_bytes, SCRATCH_ALIGN);
    out->workspace = y->workspace;
    out->ring = ring;
    out->band_rows = band;
    out->encode = y->encode;
    out->text = y->text;
    out->unet = y->unet;
    out->decode = y->decode;
    out->residents = 0;
    out->residents_at = phases_before_decode(y);
    out->region = num_max(out->residents_at, y->decode);
    out->arena = out->vectors + out->workspace + out->ring + out->region;
}

/* The first arrangement that fits, or the smallest there is. */
static refine_status arrange(planner *k, refine_error *err)
{
    plan *out = k->out;
    const size_t n_rings = sizeof RINGS / sizeof RINGS[0], n_bands = sizeof BANDS / sizeof BANDS[0];

    for (size_t b = 0; b < n_bands; b++) {
        if (k->o->band_rows && b + 1 < n_bands)
            continue;
        const int band = k->o->band_rows ? k->o->band_rows : BANDS[b];
        replay y = { 0 };
        TRY(replay_bands(k, band, &y, err));
        const size_t ring_min = stream_ring_min(k->m->p, y.inside);
        for (size_t i = 0; i < n_rings; i++) {
            size_t ring = k->o->ring_bytes ? (size_t)k->o->ring_bytes : RINGS[i];
            ring = num_align(num_max(ring, ring_min), SCRATCH_ALIGN);
            set_sizes(out, k, &y, band, ring);
            if (out->arena <= out->device_limit)
                break;
        }
        out->smallest_device = out->arena - out->ring + num_align(ring_min, SCRATCH_ALIGN);
        if (out->arena <= out->device_limit)
            break;
    }
    return REFINE_OK;
}

/* The smallest device ceiling: the smallest band and ring. */
static refine_status find_smallest(planner *k, refine_error *err)
{
    replay y = { 0 };
    plan least = { 0 };
    TRY(replay_bands(k, BAND_UNIT, &y, err));
    const size_t ring = num_align(stream_ring_min(k->m->p, y.inside), SCRATCH_ALIGN);
    set_sizes(&least, k, &y, BAND_UNIT, ring);
    k->out->smallest_device = least.arena;
    return REFINE_OK;
}

/* ---- residents ---- */

typedef struct candidate {
    int chunk;
    uint64_t macs, bytes;
} candidate;

/* Least compute for each byte first: such chunks are the ones whose transfer cannot hide. */
static int by_compute_per_byte(const void *pa, const void *pb)
{
    const candidate *a = pa, *b = pb;
    const double ra = (double)a->macs / (double)a->bytes, rb = (double)b->macs / (double)b->bytes;
    if (ra != rb)
        return ra < rb ? -1 : 1;
    return (a->chunk > b->chunk) - (a->chunk < b->chunk);
}

static refine_status choose_residents(planner *k, refine_error *err)
{
    plan *out = k->out;
    const pack *p = k->m->p;
    const size_t left = (size_t)out->device_limit - (out->arena - out->region) - out->residents_at;
    const uint64_t wanted = k->o->resident_bytes ? k->o->resident_bytes : left;
    const size_t room = wanted == UINT64_MAX ? 0 : num_min(left, (size_t)wanted);
    int first, end;

    pack_segment(p, SEG_UNET, &first, &end);
    candidate *c = mem_calloc((size_t)(end - first) + 1, sizeof *c);
    if (!c)
        return refine_fail(err, REFINE_ENOMEM, "out of memory");
    for (int i = first; i < end; i++) {
        c[i - first] = (candidate){ i, k->macs[i],
                                    num_align(pack_chunk_at(p, i)->bytes, SCRATCH_ALIGN) };
        out->step_bytes += pack_chunk_at(p, i)->bytes;
        out->step_macs += k->macs[i];
    }
    qsort(c, (size_t)(end - first), sizeof *c, by_compute_per_byte);
    for (int i = 0; i < end - first; i++) {
        if (out->residents + c[i].bytes > room)
            continue;
        out->resident[c[i].chunk] = true;
        out->residents += (size_t)c[i].bytes;
        out->step_resident_bytes += pack_chunk_at(p, c[i].chunk)->bytes;
    }
    mem_free(c);
    out->region = num_max(out->residents_at + out->residents, out->decode);
    out->arena = out->vectors + out->workspace + out->ring + out->region;
    return REFINE_OK;
}

/* ---- host ---- */

static void plan_host(planner *k)
{
    plan *out = k->out;
    const pack *p = k->m->p;
    const size_t now = (size_t)mem_used().now;
    const int wanted = k->o->decode_threads;

    out->workers = wanted > 0 ? wanted : DEFAULT_WORKERS;
    out->smallest_host = now + stream_host_bytes(p, SMALLEST_SLOTS, 1);
    for (out->slots = DEFAULT_SLOTS; out->slots > SMALLEST_SLOTS; out->slots--)
        if (now + stream_host_bytes(p, out->slots, out->workers) <= out->host_limit)
            break;
    if (wanted <= 0 && now + stream_host_bytes(p, out->slots, out->workers) > out->host_limit)
        out->workers = 1;
    out->staging = stream_staging_bytes(p, out->slots);
    out->host = now + stream_host_bytes(p, out->slots, out->workers);
}

static double mib_up(uint64_t bytes) { return (double)((bytes + MIB - 1) / MIB); }

static refine_status over(refine_error *err, const char *what, const char *option, uint64_t limit,
                          uint64_t smallest)
{
    return refine_fail(err, REFINE_EBUDGET,
                       "%s memory: this picture needs at least %.0fM, the ceiling is %.0fM; "
                       "use %s %.0fM or a smaller picture",
                       what, mib_up(smallest), (double)(limit / MIB), option, mib_up(smallest));
}

static void set_limits(planner *k)
{
    plan *out = k->out;
    const uint64_t free_bytes = available_memory(), margin = 256 * MIB;
    const uint64_t host_default = 512 * MIB;

    out->host_limit = k->o->ram_bytes ? k->o->ram_bytes : host_default;
    out->device_limit = k->o->vram_bytes;
    if (!out->device_limit)
        out->device_limit = free_bytes > margin + out->host_limit
                                ? free_bytes - margin - out->host_limit
                                : free_bytes / 2;
}

static refine_status make(planner *k, refine_error *err)
{
    plan *out = k->out;
    set_limits(k);
    plan_host(k);
    TRY(find_smallest(k, err));
    const size_t smallest = out->smallest_device;
    TRY(arrange(k, err));
    out->smallest_device = smallest;
    if (out->arena > out->device_limit)
        return over(err, "device", "--vram", out->device_limit, out->smallest_device);
    if (out->host > out->host_limit)
        return over(err, "host", "--ram", out->host_limit, out->smallest_host);
    return choose_residents(k, err);
}

refine_status plan_make(plan *out, const model *m, pipeline *p, dev *d, const refine_options *o,
                        const refine_job *j, refine_error *err)
{
    const size_t n = (size_t)n_pack_chunks(m->p);
    planner k = { .out = out, .m = m, .p = p, .target = d, .o = o, .j = j };

    *out = (plan){ 0 };
    out->resident = mem_calloc(n + 1, sizeof *out->resident);
    k.macs = mem_calloc(n + 1, sizeof *k.macs);
    const refine_status st = out->resident && k.macs
                                 ? make(&k, err)
                                 : refine_fail(err, REFINE_ENOMEM, "out of memory");
    mem_free(k.macs);
    return st;
}

void plan_close(plan *p)
{
    mem_free(p->resident);
    p->resident = NULL;
}
