/* engine/plan/plan.c -- sizes of a run, found by replaying the model on the plan device.
 *
 * The VAE and the UNet are replayed by themselves, since they share nothing but the arena.
 * What is given up when memory is short, in this order: for the VAE larger bands, then tensors
 * that stay on the device; for the UNet residents, a larger ring, items that share a pass,
 * whichever is predicted to be fastest.  None of them changes the image.
 */
#include "engine/plan/plan.h"

#include "engine/base/guard.h"
#include "engine/base/mem.h"
#include "engine/base/num.h"
#include "engine/base/try.h"
#include "engine/model/layer_output.h"
#include "engine/plan/cost_jobs.h"
#include "engine/plan/recorder.h"
#include "offload/probe.h"
#include "offload/spill.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MIB      ((size_t)1 << 20)
#define NO_SPILL SIZE_MAX

enum { DEFAULT_SLOTS = 8, SMALLEST_SLOTS = 2, DEFAULT_WORKERS = 2 };

static const int BANDS[] = { 64, 32, 16, 8 };
static const size_t SPILLS[] = { NO_SPILL, 64 * MIB, 16 * MIB, 4 * MIB, MIB, 0 };
/* Room for the chunks of two launches on a GPU, the one that is multiplied and the one that comes,
 * of MATRIX_BLOCKS_MAX, half and a quarter of it, of 4 MiB each; 0: the smallest. */
static const size_t RINGS[] = { 68 * MIB, 36 * MIB, 20 * MIB, 0 };

enum { N_BANDS = 4, N_SPILLS = 6, N_RINGS = 4 };

/* Differences in predicted time below these shares decide nothing. */
static const double SAME_STEP = 0.005, WORTH_CACHING = 0.01;

/* A launch of fewer chunks takes longer than their seconds say, which is not foretold: such a step
 * must look faster by so much. */
static const double WORTH_SMALLER_LAUNCHES = 0.05;

/* What one way to run the VAE costs. */
typedef struct vae_way {
    int band;
    size_t spill_from;
    size_t encode, decode, spill; /* peaks */
    size_t workspace, inside;
} vae_way;

/* And one way to run the rest. */
typedef struct unet_way {
    int per_pass;
    bool norms_anywhere; /* are they written out although the peak rises? */
    size_t text, unet, prompt;
    size_t workspace, inside;
} unet_way;

typedef struct planner {
    plan *out;
    const model *m;
    pipeline *p;
    dev *target;
    const refine_options *o;
    const refine_job *j;
    int first, end; /* chunks of the UNet */
    size_t heap;    /* taken before planning */
} planner;

void plan_precision(forward_ctx *r, dev *d, dtype type)
{
    r->d = d;
    r->act = type;
    r->vae_act = type == DT_F32 ? DT_F32 : DT_F16;
    r->vae_exp2 = type == DT_F32 ? 0 : VAE_EXP2;
}

/* ---- the replay ---- */

/* A run on the plan device. */
typedef struct dry_run {
    forward_ctx r;
    recorder rec;
} dry_run;

static dry_run *dry_run_open(const planner *k, dev_work *work, refine_error *err)
{
    dev *d = dev_open_plan(k->target, err);
    dry_run *h = mem_calloc(1, sizeof *h);

    if (!d || !h) {
        dev_close(d);
        mem_free(h);
        refine_fail(err, REFINE_ENOMEM, "out of memory");
        return NULL;
    }
    plan_precision(&h->r, d, k->p->act);
    recorder_open(&h->rec, k->m->p, d, work);
    h->r.m = k->m;
    h->r.w = &h->rec.w;
    h->r.vectors = SCRATCH_TOKEN;
    return h;
}

/* Closes it and says what it needed. */
static refine_status dry_run_end(dry_run *h, size_t *workspace, size_t *inside, refine_error *err)
{
    dev *d = h->r.d;
    const refine_status st = dev_status(d);
    if (st != REFINE_OK)
        refine_fail(err, st, "planning failed: %s", dev_why(d));
    recorder_flush(&h->rec);
    assert(h->rec.in_order && "the model touches its weights in another order than its layout");
    *workspace = num_align(dev_workspace_needed(d), SCRATCH_ALIGN);
    *inside = h->rec.inside_peak;
    mem_free(h);
    dev_close(d);
    return st;
}

/* Starts a phase (or a group of them) on an empty region. */
static void plan_fresh_region(const planner *k, forward_ctx *r)
{
    scratch_open(&r->mem, r->d, SCRATCH_TOKEN, SIZE_MAX, k->out->zone);
}

/* Each returns the peak of what it replays. */
static size_t dry_run_encoding(const planner *k, forward_ctx *r)
{
    plan_fresh_region(k, r);
    pipeline_encode(k->p, r, NULL);
    return r->mem.peak;
}

static size_t dry_run_decoding(const planner *k, forward_ctx *r)
{
    plan_fresh_region(k, r);
    pipeline_decode(k->p, r, 0, NULL);
    return r->mem.peak;
}

static size_t dry_run_pass(const planner *k, forward_ctx *r)
{
    r->mem.peak = 0;
    pipeline_pass(k->p, r, 0, 0);
    return r->mem.peak;
}

/* Writes out the norms that lie within so many bytes, and then those below the peak which that
 * makes.  They raise it no further: what is prepared is given back before anything else is
 * taken. */
static size_t dry_run_twice(const planner *k, forward_ctx *r,
                            size_t (*phase)(const planner *, forward_ctx *), size_t norms_within)
{
    r->norms_within = norms_within;
    r->norms_within = phase(k, r);
    return phase(k, r);
}

static refine_status dry_run_vae(const planner *k, vae_way *y, refine_error *err)
{
    dry_run *h = dry_run_open(k, k->out->work, err);
    if (!h)
        return REFINE_ENOMEM;
    h->r.band_rows = y->band;
    h->r.spill_from = y->spill_from;
    scratch_open(&h->r.spilled, h->r.d, SCRATCH_TOKEN, SIZE_MAX, 0);
    if (k->p->encodes)
        y->encode = dry_run_twice(k, &h->r, dry_run_encoding, 0);
    if (k->p->decodes)
        y->decode = dry_run_twice(k, &h->r, dry_run_decoding, 0);
    y->spill = h->r.spilled.peak;
    return dry_run_end(h, &y->workspace, &y->inside, err);
}

static refine_status dry_run_unet(const planner *k, unet_way *y, refine_error *err)
{
    dry_run *h = dry_run_open(k, k->out->work, err);
    if (!h)
        return REFINE_ENOMEM;
    k->p->per_pass = y->per_pass;
    plan_fresh_region(k, &h->r);
    pipeline_text(k->p, &h->r, NULL);
    y->text = h->r.mem.peak;
    y->prompt = scratch_live(&h->r.mem);
    y->unet = dry_run_twice(k, &h->r, dry_run_pass, y->norms_anywhere ? SIZE_MAX : 0);
    return dry_run_end(h, &y->workspace, &y->inside, err);
}

/* ---- putting the parts together ---- */

static size_t phases_before_decode(const plan *p)
{
    return num_max(p->encode, num_max(p->text, p->unet));
}

static void set_ways(planner *k, const vae_way *v, const unet_way *u)
{
    plan *out = k->out;
    out->vectors = num_align(k->m->vector_bytes, SCRATCH_ALIGN);
    out->workspace = num_max(v->workspace, u->workspace);
    out->band_rows = v->band;
    out->spill_from = v->spill_from;
    out->per_pass = k->p->per_pass = u->per_pass;
    out->encode = v->encode;
    out->decode = v->decode;
    out->text = u->text;
    out->unet = u->unet;
    out->prompt = u->prompt;
    out->residents_at = phases_before_decode(out);
}

static void set_ring(plan *out, size_t ring, size_t residents)
{
    out->ring = ring;
    out->residents = residents;
    out->region = num_max(out->residents_at + residents, out->decode);
    out->arena = plan_region_at(out) + out->region + out->zone;
}

/* The smallest ring that takes what is inside at once. */
static size_t smallest_ring(const planner *k, const vae_way *v, const unet_way *u)
{
    return num_align(stream_ring_min(k->m->p, num_max(v->inside, u->inside)), SCRATCH_ALIGN);
}

static bool needs_transfer(const planner *k, uint32_t seg)
{
    return seg != SEG_VECTORS && seg != SEG_TOKENS && (seg != SEG_VAE_ENCODE || k->p->encodes) &&
           (seg != SEG_VAE_DECODE || k->p->decodes);
}

/* More than everything that ever travels is of no use; `resident`: what does not (NULL: none). */
static size_t useful_ring(const planner *k, const bool *resident)
{
    const pack *p = k->m->p;
    size_t sum = stream_span(pack_biggest(p));
    for (int i = 0; i < n_pack_chunks(p); i++)
        if (needs_transfer(k, pack_chunk_at(p, i)->segment) && !(resident && resident[i]))
            sum += stream_span(pack_chunk_at(p, i)->bytes);
    return num_align(sum, SCRATCH_ALIGN);
}

static size_t ring_of(const planner *k, size_t wish, size_t smallest, const bool *resident)
{
    const size_t asked = k->o->ring_bytes ? (size_t)k->o->ring_bytes : wish;
    const size_t ring = num_min(asked, useful_ring(k, resident));
    return num_align(num_max(ring, smallest), SCRATCH_ALIGN);
}

/* How many chunks of a matrix are multiplied together: as many as the device takes, and the ring
 * while as many more travel. */
static int together_of(const planner *k, size_t ring)
{
    const pack *p = k->m->p;
    const size_t chunk = stream_span(pack_biggest(p));
    const int most = dev_max_blocks(k->target);
    int n = k->o->together > 0 && k->o->together < most ? k->o->together : most;
    while (n > 1 && stream_ring_min(p, 2 * (size_t)n * chunk) > ring)
        n /= 2;
    return n;
}

/* The smallest that the options leave. */
static size_t least_ring(const planner *k, const vae_way *v, const unet_way *u)
{
    return ring_of(k, 0, smallest_ring(k, v, u), NULL);
}

/* ---- time ---- */

static const refine_rates *rates_of(const plan *p, uint32_t seg)
{
    if (seg == SEG_VAE_ENCODE || seg == SEG_VAE_DECODE)
        return &p->vae_rates;
    return seg == SEG_TEXT || seg == SEG_ONCE ? &p->text_rates : &p->rates;
}

static void set_seconds(planner *k)
{
    for (int i = 0; i < n_pack_chunks(k->m->p); i++)
        k->out->seconds[i] = cost_seconds(rates_of(k->out, pack_chunk_at(k->m->p, i)->segment),
                                          k->out->work[i]);
}

simulate_result plan_simulate(const plan *p, const model *m, const pipeline *pipe,
                              const refine_rates *rates, const double *seconds)
{
    simulate_config c = { .p = m->p,
                          .passes = pipeline_passes(pipe),
                          .together = p->together,
                          .seconds = seconds,
                          .resident = p->is_resident,
                          .cached = p->is_cached,
                          .ring_bytes = p->ring,
                          .slots = p->slots,
                          .disk = rates->disk,
                          .decode = rates->decode,
                          .copy = rates->copy };
    if (!cost_known(rates))
        return (simulate_result){ 0 };
    pack_segment(m->p, SEG_UNET, &c.first, &c.end);
    return simulate_step(&c);
}

static double predict_plan_step(planner *k)
{
    k->out->predicted = plan_simulate(k->out, k->m, k->p, &k->out->rates, k->out->seconds);
    return k->out->predicted.step;
}

/* Bytes of the transfer probe's requests; 0: it does not fit. */
static size_t probe_request(const planner *k)
{
    const size_t sizes[] = { PROBE_REQUEST, PROBE_SMALL_REQUEST };
    for (int i = 0; i < 2; i++)
        if (k->heap + probe_host_memory(sizes[i]) <= k->out->host_limit &&
            probe_device_memory(sizes[i]) <= k->out->device_limit)
            return sizes[i];
    return 0;
}

static int most_per_pass(const planner *k)
{
    const int batch = k->p->batch;
    return k->o->per_pass > 0 && k->o->per_pass < batch ? k->o->per_pass : batch;
}

/* What was not measured is taken to be as in the UNet: text has norms too, and the VAE's may not
 * have fitted. */
static void fill_missing_rates(refine_rates *r, const refine_rates *by)
{
    r->linear = r->linear > 0 ? r->linear : by->linear;
    r->conv = r->conv > 0 ? r->conv : by->conv;
    r->attention = r->attention > 0 ? r->attention : by->attention;
    r->memory = r->memory > 0 ? r->memory : by->memory;
}

static dtype stored_as(const planner *k) { return model_quantised(k->m) ? DT_I8G64 : DT_F16; }

/* Of each phase, in its own types and shapes. */
static void probe_compute(planner *k)
{
    plan *out = k->out;
    const dtype stored = stored_as(k);
    const bool pictures = k->p->encodes || k->p->decodes;
    forward_ctx r;
    plan_precision(&r, k->target, k->p->act);
    const struct {
        bool runs;
        refine_rates *into;
        cost_job job;
    } jobs[] = {
        { true, &out->rates, cost_job_unet(k->p, most_per_pass(k), stored) },
        { true, &out->text_rates, cost_job_text(k->p, stored) },
        { pictures, &out->vae_rates, cost_job_vae(k->p, r.vae_act, stored) },
        { pictures, &out->vae_rates, cost_job_vae_attention(k->p, stored) },
    };
    for (size_t i = 0; i < sizeof jobs / sizeof jobs[0]; i++)
        if (jobs[i].runs)
            cost_probe(jobs[i].into, k->target, &jobs[i].job, out->device_limit);
    fill_missing_rates(&out->text_rates, &out->rates);
    fill_missing_rates(&out->vae_rates, &out->rates);
}

/* A GPU that has had nothing to do runs at a fraction of its clock, and so does its link. */
static void warm_up_device(planner *k)
{
    const cost_job j = cost_job_unet(k->p, most_per_pass(k), stored_as(k));
    if (dev_is_async(k->target) && !cost_known(&k->o->rates))
        cost_warm_up(k->target, &j, k->out->device_limit);
}

/* Rates that are given are not probed, nor those whose probe would not fit. */
static void set_rates(planner *k)
{
    refine_rates *r = &k->out->rates;
    const int most = k->o->decode_threads > 0 ? k->o->decode_threads : DEFAULT_WORKERS;
    const size_t request = probe_request(k);

    warm_up_device(k);
    *r = k->o->rates;
    if (request && (r->disk <= 0 || r->decode <= 0 || r->copy <= 0)) {
        const probe_rates t = probe_transfers(k->target, k->m->p, k->first, k->end,
                                              (int)k->o->reader, request);
        r->disk = r->disk > 0 ? r->disk : t.disk;
        r->decode = r->decode > 0 ? r->decode : t.decode * most;
        r->copy = r->copy > 0 ? r->copy : t.copy;
    }
    if (k->o->disk_limit > 0 && r->disk > k->o->disk_limit)
        r->disk = k->o->disk_limit;
    if (k->o->copy_limit > 0 && r->copy > k->o->copy_limit)
        r->copy = k->o->copy_limit;
    k->out->text_rates = k->out->vae_rates = *r;
    /* The referee would take seconds, and nobody asks it for speed. */
    if (strcmp(dev_name(k->target), "ref") != 0)
        probe_compute(k);
}

/* ---- residents ---- */

typedef struct candidate {
    int chunk;
    uint64_t macs, bytes;
} candidate;

/* Least compute for each byte first: such chunks are the ones whose transfer cannot hide. */
static int compare_candidates(const void *pa, const void *pb)
{
    const candidate *a = pa, *b = pb;
    const double ra = (double)a->macs / (double)a->bytes, rb = (double)b->macs / (double)b->bytes;
    if (ra != rb)
        return ra < rb ? -1 : 1;
    return (a->chunk > b->chunk) - (a->chunk < b->chunk);
}

static size_t resident_bytes(const pack *p, int chunk)
{
    return num_align(pack_chunk_at(p, chunk)->bytes, SCRATCH_ALIGN);
}

static refine_status rank_candidates(planner *k, candidate **out, refine_error *err)
{
    const int n = k->end - k->first;
    candidate *c = mem_calloc((size_t)n + 1, sizeof *c);
    if (!c)
        return refine_fail(err, REFINE_ENOMEM, "out of memory");
    for (int i = 0; i < n; i++) {
        const int chunk = k->first + i;
        c[i] = (candidate){ chunk, dev_work_macs(k->out->work[chunk]),
                            resident_bytes(k->m->p, chunk) };
    }
    qsort(c, (size_t)n, sizeof *c, compare_candidates);
    *out = c;
    return REFINE_OK;
}

/* Bytes that residents may take beside this ring. */
static uint64_t room_for_residents(planner *k, size_t ring)
{
    plan *out = k->out;
    set_ring(out, ring, 0);
    const uint64_t left = out->device_limit - (out->arena - out->region + out->residents_at);
    const uint64_t wanted = k->o->resident_bytes ? k->o->resident_bytes : left;
    return wanted == UINT64_MAX ? 0 : num_min(left, wanted);
}

static void clear_residents(planner *k)
{
    memset(k->out->is_resident, 0, (size_t)n_pack_chunks(k->m->p) * sizeof *k->out->is_resident);
}

/* As many as fit in the order of the ranking: best where little fits. */
static size_t take_ranked(planner *k, const candidate *c, uint64_t room)
{
    size_t sum = 0;
    clear_residents(k);
    for (int i = 0; i < k->end - k->first; i++) {
        if (sum + c[i].bytes > room)
            continue;
        k->out->is_resident[c[i].chunk] = true;
        sum += (size_t)c[i].bytes;
    }
    return sum;
}

/* Chunks of the step that are not in `without` (NULL: all), spread evenly over it, into `chosen`
 * (Bresenham): as many as fit `room`.  Returns their bytes. */
static size_t spread_chunks(planner *k, bool *chosen, const bool *without, uint64_t room,
                            size_t (*bytes_of)(const pack *, int))
{
    const pack *p = k->m->p;
    double all = 0, due = 0;
    size_t sum = 0;

    for (int i = k->first; i < k->end; i++)
        all += without && without[i] ? 0.0 : (double)bytes_of(p, i);
    for (int i = k->first; i < k->end; i++) {
        const size_t bytes = bytes_of(p, i);
        chosen[i] = false;
        if (without && without[i])
            continue;
        due += (double)bytes * ((double)room / all);
        if (due < (double)bytes || sum + bytes > room)
            continue;
        due -= (double)bytes;
        chosen[i] = true;
        sum += bytes;
    }
    return sum;
}

/* Best where much fits, as the link then never starves long. */
static size_t take_spread(planner *k, uint64_t room)
{
    return spread_chunks(k, k->out->is_resident, NULL, room, resident_bytes);
}

/* The arena with this ring and the residents that are predicted to be better. */
static void fill_residents(planner *k, const candidate *c, size_t ring)
{
    const uint64_t room = room_for_residents(k, ring);

    set_ring(k->out, ring, take_spread(k, room));
    const double evenly = predict_plan_step(k);
    set_ring(k->out, ring, take_ranked(k, c, room));
    if (room > 0 && evenly < predict_plan_step(k) * (1 - SAME_STEP))
        set_ring(k->out, ring, take_spread(k, room));
}

/* The ring that leaves the fastest step, with its residents.  The largest that fits first: in
 * doubt, the larger. */
static refine_status choose_ring(planner *k, size_t smallest, refine_error *err)
{
    plan *out = k->out;
    candidate *c = NULL;
    double best = -1;
    size_t chosen = smallest, last = 0;
    int together = 1;

    TRY(rank_candidates(k, &c, err));
    set_seconds(k);
    for (int i = 0; i < N_RINGS; i++) {
        const size_t ring = ring_of(k, RINGS[i], smallest, NULL);
        set_ring(out, ring, 0);
        if (out->arena > out->device_limit || ring == last)
            continue;
        out->together = together_of(k, ring);
        fill_residents(k, c, ring);
        const double step = predict_plan_step(k);
        const double worth = out->together < together ? WORTH_SMALLER_LAUNCHES : SAME_STEP;
        if (best < 0 || step < best * (1 - worth)) {
            best = step;
            chosen = ring;
            together = out->together;
        }
        last = ring;
    }
    out->together = together_of(k, chosen);
    fill_residents(k, c, chosen);
    /* A step is foretold for the first use of residents too, by way of the ring. */
    const size_t inside = (size_t)out->together * stream_span(pack_biggest(k->m->p));
    const size_t least = num_min(chosen, stream_ring_min(k->m->p, inside));
    set_ring(out, ring_of(k, chosen, num_max(smallest, least), out->is_resident), out->residents);
    (void)predict_plan_step(k);
    mem_free(c);
    return REFINE_OK;
}

/* ---- choosing ---- */

/* The first way of the VAE that lets the smallest ring fit, or the smallest. */
static refine_status choose_vae(planner *k, const unet_way *u, vae_way *v, refine_error *err)
{
    for (int s = 0; s < N_SPILLS; s++)
        for (int b = 0; b < N_BANDS; b++) {
            if ((k->o->spill == 1 && s > 0) || (k->o->spill == 2 && s < N_SPILLS - 1) ||
                (k->o->band_rows && b + 1 < N_BANDS))
                continue;
            *v = (vae_way){ .band = k->o->band_rows ? k->o->band_rows : BANDS[b],
                            .spill_from = SPILLS[s] };
            TRY(dry_run_vae(k, v, err));
            set_ways(k, v, u);
            set_ring(k->out, least_ring(k, v, u), 0);
            if (k->out->arena <= k->out->device_limit)
                return REFINE_OK;
        }
    return REFINE_OK;
}

/* The smallest device ceiling there is. */
static refine_status find_smallest(planner *k, vae_way *least, unet_way *u, refine_error *err)
{
    size_t smallest = SIZE_MAX;
    *u = (unet_way){ .per_pass = k->o->per_pass ? most_per_pass(k) : 1 };
    TRY(dry_run_unet(k, u, err));
    for (int s = 0; s < N_SPILLS; s++) {
        vae_way v = { .band = k->o->band_rows ? k->o->band_rows : BAND_UNIT,
                      .spill_from = SPILLS[s] };
        if ((k->o->spill == 1 && s > 0) || (k->o->spill == 2 && s < N_SPILLS - 1))
            continue;
        TRY(dry_run_vae(k, &v, err));
        set_ways(k, &v, u);
        set_ring(k->out, least_ring(k, &v, u), 0);
        if (k->out->arena < smallest) {
            smallest = k->out->arena;
            *least = v;
        }
    }
    k->out->smallest_device = smallest;
    return REFINE_OK;
}

/* All norms of the UNet are written out where that fits beside the way the VAE goes, which they are
 * not worth changing: convolutions that normalise while they read take the longer. */
static refine_status choose_norms(planner *k, unet_way *u, const vae_way *v, refine_error *err)
{
    unet_way out = *u;
    out.norms_anywhere = true;
    TRY(dry_run_unet(k, &out, err));
    set_ways(k, v, &out);
    set_ring(k->out, least_ring(k, v, &out), 0);
    if (k->out->arena > k->out->device_limit) {
        TRY(dry_run_unet(k, u, err)); /* the work is that of the last replay */
        set_ways(k, v, u);
        set_ring(k->out, least_ring(k, v, u), 0);
        return REFINE_OK;
    }
    *u = out;
    return REFINE_OK;
}

/* With `n` items in a pass. */
static refine_status choose_ways(planner *k, int n, vae_way *v, unet_way *u, refine_error *err)
{
    *u = (unet_way){ .per_pass = n };
    TRY(dry_run_unet(k, u, err));
    TRY(choose_vae(k, u, v, err));
    return choose_norms(k, u, v, err);
}

/* Passes are shared by as many items as fit, unless fewer are predicted to be faster. */
static refine_status choose_unet(planner *k, vae_way *v, unet_way *u, refine_error *err)
{
    double best = -1;
    int chosen = 1;

    for (int n = most_per_pass(k); n >= 1; n = n > 1 ? (n + 1) / 2 : 0) {
        TRY(choose_ways(k, n, v, u, err));
        if (k->out->arena <= k->out->device_limit) {
            TRY(choose_ring(k, smallest_ring(k, v, u), err));
            const double step = k->out->predicted.step;
            if (best < 0 || step < best * (1 - SAME_STEP)) {
                best = step;
                chosen = n;
            }
        }
        if (k->o->per_pass)
            break;
    }
    TRY(choose_ways(k, k->o->per_pass ? most_per_pass(k) : chosen, v, u, err));
    return choose_ring(k, smallest_ring(k, v, u), err);
}

/* ---- host ---- */

/* `others`: host memory besides the stream's and what was taken before. */
static void choose_staging(planner *k, size_t others)
{
    plan *out = k->out;
    const pack *p = k->m->p;
    const int wanted = k->o->decode_threads;
    const size_t fixed = k->heap + others + (size_t)k->o->caller_bytes;

    out->caller = (size_t)k->o->caller_bytes;

    out->workers = wanted > 0 ? wanted : DEFAULT_WORKERS;
    for (out->slots = DEFAULT_SLOTS; out->slots > SMALLEST_SLOTS; out->slots--)
        if (fixed + stream_host_bytes(p, out->slots, out->workers, out->zone > 0) <=
            out->host_limit)
            break;
    if (wanted <= 0 &&
        fixed + stream_host_bytes(p, out->slots, out->workers, out->zone > 0) > out->host_limit)
        out->workers = 1;
    out->staging = stream_staging_bytes(p, out->slots, out->zone > 0);
    out->host = fixed + stream_host_bytes(p, out->slots, out->workers, out->zone > 0);
    out->smallest_host = fixed + stream_host_bytes(p, SMALLEST_SLOTS, wanted > 0 ? wanted : 1,
                                                   out->zone > 0);
}

static size_t host_left(const plan *p)
{
    return p->host < p->host_limit ? (size_t)p->host_limit - p->host : 0;
}

/* Feature maps that leave the device go to host memory as far as it reaches, then to a file. */
static void split_spill_memory(plan *out, size_t bytes)
{
    out->spill_host = num_min(bytes, host_left(out));
    out->spill_host -= out->spill_host % SCRATCH_ALIGN;
    out->spill_file = bytes - out->spill_host;
    out->host += out->spill_host;
}

/* Over those that are read in a step, so that the disk is asked evenly too. */
static void spread_cache(planner *k, size_t room)
{
    plan *out = k->out;
    out->cached = spread_chunks(k, out->is_cached, out->is_resident, room, stream_cached_bytes);
}

/* The smallest cache that is as good as the largest. */
static void choose_cache(planner *k)
{
    enum { PARTS = 8 };
    plan *out = k->out;
    const uint64_t wanted = k->o->cached_bytes;
    size_t room = host_left(out);

    (void)predict_plan_step(k);
    if (wanted == UINT64_MAX || (wanted == 0 && !cost_known(&out->rates)))
        return;
    if (wanted != 0)
        room = (size_t)num_min(room, wanted);
    spread_cache(k, room);
    const double best = predict_plan_step(k);
    for (size_t part = 0; part < PARTS && wanted == 0; part++) {
        spread_cache(k, room / PARTS * part);
        if (predict_plan_step(k) <= best * (1 + WORTH_CACHING))
            break;
        spread_cache(k, room);
    }
    (void)predict_plan_step(k);
    out->host += out->cached;
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

/* What the arena may have of a device's own memory: a margin stays free for the desktop. */
static uint64_t device_default(planner *k)
{
    const uint64_t margin = 256 * MIB;
    const uint64_t taken = dev_is_discrete(k->target) ? margin : margin + k->out->host_limit;
    const uint64_t free_bytes = dev_is_discrete(k->target) ? dev_memory_free(k->target)
                                                           : available_memory();
    return free_bytes > taken ? free_bytes - taken : free_bytes / 2;
}

static void set_memory_limits(planner *k)
{
    plan *out = k->out;
    const uint64_t host_default = 512 * MIB, ceiling = k->o->vram_bytes;

    out->overhead = dev_overhead(k->target);
    out->host_limit = k->o->ram_bytes ? k->o->ram_bytes : host_default;
    out->device_limit = ceiling == 0              ? device_default(k)
                        : ceiling > out->overhead ? ceiling - out->overhead
                                                  : 0;
}

static double mib_up(uint64_t bytes) { return (double)((bytes + MIB - 1) / MIB); }

static refine_status fail_over_budget(refine_error *err, const char *what, const char *option,
                                      uint64_t limit, uint64_t smallest, double step)
{
    char time[64] = "";
    if (step > 0)
        (void)snprintf(time, sizeof time, " (then about %.3g s a step)", step);
    return refine_fail(err, REFINE_EBUDGET,
                       "%s memory: this image needs at least %.0fM, the ceiling is %.0fM; "
                       "use %s %.0fM%s or a smaller image",
                       what, mib_up(smallest), (double)(limit / MIB), option, mib_up(smallest),
                       time);
}

/* The step of the smallest plan, which `out` becomes. */
static double predict_smallest(planner *k, const vae_way *v, const unet_way *u)
{
    set_ways(k, v, u);
    set_ring(k->out, least_ring(k, v, u), 0);
    k->out->together = 1;
    set_seconds(k);
    return predict_plan_step(k);
}

/* ---- the whole ---- */

static void count_step(planner *k)
{
    plan *out = k->out;
    const uint64_t passes = (uint64_t)pipeline_passes(k->p);
    for (int i = k->first; i < k->end; i++) {
        const pack_chunk *c = pack_chunk_at(k->m->p, i);
        out->step_bytes += passes * c->bytes;
        out->step_copied += out->is_resident[i] ? 0 : passes * c->bytes;
        out->step_read += out->is_resident[i] || out->is_cached[i] ? 0 : passes * c->stored_bytes;
    }
}

/* A transfer and its use leave eight events at most; phases and steps are few. */
static size_t events_of(const planner *k)
{
    enum { TRIP = 8, OTHERS = 4096 };
    const pack *p = k->m->p;
    const size_t step = (size_t)(k->end - k->first) * (size_t)pipeline_passes(k->p);
    return OTHERS + TRIP * ((size_t)n_pack_chunks(p) * (size_t)(1 + k->p->images) +
                            step * (size_t)k->p->steps);
}

static refine_status choose_plan(planner *k, refine_error *err)
{
    plan *out = k->out;
    vae_way v;
    unet_way u;

    set_memory_limits(k);
    choose_staging(k, 0);
    set_rates(k);
    TRY(find_smallest(k, &v, &u, err));
    const double smallest_step = predict_smallest(k, &v, &u);
    if (out->arena > out->device_limit)
        return fail_over_budget(err, "device", "--vram", out->device_limit + out->overhead,
                                out->smallest_device + out->overhead, smallest_step);
    TRY(choose_unet(k, &v, &u, err));
    if (k->o->trace)
        out->trace_events = events_of(k);
    choose_staging(k, (v.spill ? spill_overhead(1) : 0) +
                          (k->o->trace ? trace_memory(out->trace_events) : 0) +
                          (k->j->layer_output ? layer_outputs_bytes() : 0));
    split_spill_memory(out, v.spill);
    if (out->host > out->host_limit)
        return fail_over_budget(err, "host", "--ram", out->host_limit, out->smallest_host,
                                out->predicted.step);
    choose_cache(k);
    count_step(k);
    return REFINE_OK;
}

refine_status plan_make(plan *out, const model *m, pipeline *p, dev *d, const refine_options *o,
                        const refine_job *j, refine_error *err)
{
    const size_t n = (size_t)n_pack_chunks(m->p) + 1;
    planner k = { .out = out, .m = m, .p = p, .target = d, .o = o, .j = j };

    *out = (plan){ .zone = guard_zone(o->guards) };
    pack_segment(m->p, SEG_UNET, &k.first, &k.end);
    out->is_resident = mem_calloc(n, sizeof *out->is_resident);
    out->is_cached = mem_calloc(n, sizeof *out->is_cached);
    out->work = mem_calloc(n, sizeof *out->work);
    out->seconds = mem_calloc(n, sizeof *out->seconds);
    k.heap = (size_t)mem_used().now;
    if (!out->is_resident || !out->is_cached || !out->work || !out->seconds)
        return refine_fail(err, REFINE_ENOMEM, "out of memory");
    return choose_plan(&k, err);
}

void plan_close(plan *p)
{
    mem_free(p->is_resident);
    mem_free(p->is_cached);
    mem_free(p->work);
    mem_free(p->seconds);
    p->is_resident = p->is_cached = NULL;
    p->work = NULL;
    p->seconds = NULL;
}
