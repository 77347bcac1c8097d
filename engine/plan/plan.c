/* engine/plan/plan.c -- the search for the run that is predicted to be fastest within its ceilings.
 *
 *     limits -> host -> rates -> smallest -> choose -> host again, with what was chosen -> cache
 *
 * What is given up when memory is short, in this order: for the VAE larger bands, then tensors
 * that stay on the device; for the UNet residents, a larger ring, batch elements that share a pass,
 * whichever is predicted to be fastest.  None of them changes the image.
 *
 * A candidate is a value, and so is what it comes to.  What is known before the first one is tried
 * (plan_facts) does not change after.  Notes on each chunk (chunk_notes) lie in the plan's own
 * arrays: those of ways are of the last dry run, those of residents of the last evaluation.
 */
#include "engine/plan/plan.h"

#include "engine/base/guard.h"
#include "engine/base/mem.h"
#include "engine/base/num.h"
#include "engine/base/try.h"
#include "engine/model/layer_output.h"
#include "engine/plan/cost.h"
#include "engine/plan/placement.h"
#include "engine/plan/ring_size.h"
#include "offload/spill.h"

#include <assert.h>

#define MIB      ((size_t)1 << 20)
#define NO_SPILL SIZE_MAX

static const int BANDS[] = { 64, 32, 16, BAND_UNIT };
static const size_t SPILLS[] = { NO_SPILL, 64 * MIB, 16 * MIB, 4 * MIB, MIB, 0 };
/* A GPU multiplies up to 8 chunks of 4 MiB in one launch.  Room for two launches, the one that is
 * multiplied and the next, of 8, 4 and 2 chunks, and one chunk for what wrapping round the end of
 * the ring may waste; 0: the smallest ring that works. */
static const size_t RINGS[] = { 68 * MIB, 36 * MIB, 20 * MIB, 0 };

enum { N_BANDS = 4, N_SPILLS = 6, N_RINGS = 4 };

/* Differences in predicted time below these shares decide nothing. */
static const double SAME_STEP = 0.005, WORTH_CACHING = 0.01;

/* A launch of fewer chunks takes longer than their seconds say, which is not predicted: such a step
 * must look faster by so much. */
static const double WORTH_SMALLER_LAUNCHES = 0.05;

typedef struct plan_facts {
    dry_run_job job;
    const refine_options *o;
    chunk_range step; /* chunks of the UNet */
    memory_limits limits;
    plan_rates rates;
    int slots; /* of the stream that steps are simulated with */
} plan_facts;

typedef struct chunk_notes {
    dev_work *work;       /* of the last dry run */
    double *seconds;      /* of that work */
    ranked_chunk *ranked; /* by that work */
    bool *resident;       /* of the candidate evaluated last */
} chunk_notes;

/* How the phases run, and what their dry runs said. */
typedef struct phase_ways {
    vae_way vae;
    unet_way unet;
    phase_sizes phases;
} phase_ways;

typedef struct plan_candidate {
    phase_ways ways;
    size_t ring;
    int together;              /* chunks of a matrix */
    placement_order residents; /* how they are chosen, */
    uint64_t room;             /* and the bytes that they may take */
} plan_candidate;

typedef struct evaluation {
    plan_candidate candidate;
    arena_layout arena;
    simulate_result predicted;
} evaluation;

/* ---- evaluating ---- */

static arena_layout lay_out_arena(const plan_facts *f, const phase_sizes *s, size_t ring,
                                  size_t residents)
{
    return arena_layout_make(f->job.p->m->vector_bytes, f->job.zone, s, ring, residents);
}

static size_t smallest_ring(const plan_facts *f, const phase_sizes *s)
{
    return ring_size_smallest(f->step.p, s->inside);
}

/* The smallest that the options leave. */
static size_t least_ring(const plan_facts *f, const phase_sizes *s)
{
    return ring_size_fit(f->job.p, f->o, 0, smallest_ring(f, s), NULL);
}

static size_t least_arena(const plan_facts *f, const phase_sizes *s)
{
    return lay_out_arena(f, s, least_ring(f, s), 0).bytes;
}

static bool ways_fit(const plan_facts *f, const phase_sizes *s)
{
    return least_arena(f, s) <= f->limits.device;
}

/* Completes what a step is like, as the UNet's with these rates. */
static simulate_result simulate_unet(simulate_config c, const pack *p, const refine_rates *rates)
{
    if (!cost_known(rates))
        return (simulate_result){ 0 };
    c.p = p;
    c.disk = rates->disk;
    c.decode = rates->decode;
    c.copy = rates->copy;
    pack_segment(p, SEG_UNET, &c.first, &c.end);
    return simulate_step(&c);
}

static int passes_of(const plan_facts *f, unet_way way)
{
    return phases_passes_of(f->job.p->batch, way.per_pass);
}

/* The notes hold the seconds (and the ranking) of the candidate's UNet. */
static evaluation evaluate_candidate(const plan_facts *f, const plan_candidate *c,
                                     const chunk_notes *n)
{
    const simulate_config step = { .passes = passes_of(f, c->ways.unet),
                                   .together = c->together,
                                   .seconds = n->seconds,
                                   .resident = n->resident,
                                   .ring_bytes = c->ring,
                                   .slots = f->slots };
    const size_t residents = placement_residents(n->resident, &f->step, c->residents, n->ranked,
                                                 c->room);
    return (evaluation){ .candidate = *c,
                         .arena = lay_out_arena(f, &c->ways.phases, c->ring, residents),
                         .predicted = simulate_unet(step, f->step.p, &f->rates.unet) };
}

/* ---- the smallest ---- */

/* What the options leave of them, the most wanted first. */
static int list_vae_ways(const refine_options *o, vae_way out[N_SPILLS * N_BANDS])
{
    const int first = o->spill == 2 ? N_SPILLS - 1 : 0, end = o->spill == 1 ? 1 : N_SPILLS;
    int n = 0;
    for (int s = first; s < end; s++)
        for (int b = o->band_rows ? N_BANDS - 1 : 0; b < N_BANDS; b++)
            out[n++] = (vae_way){ .band_rows = o->band_rows ? o->band_rows : BANDS[b],
                                  .spill_from = SPILLS[s] };
    return n;
}

static int most_per_pass(const phases *p, const refine_options *o)
{
    return o->per_pass > 0 && o->per_pass < p->batch ? o->per_pass : p->batch;
}

/* The smallest arena there is: no band is larger, no more items share a pass than asked. */
static refine_status find_smallest(evaluation *out, const plan_facts *f, const chunk_notes *n,
                                   refine_error *err)
{
    const int band = f->o->band_rows ? f->o->band_rows : BAND_UNIT;
    const unet_way narrow = { .per_pass = f->o->per_pass ? most_per_pass(f->job.p, f->o) : 1 };
    vae_way ways[N_SPILLS * N_BANDS];
    phase_sizes of_unet, of_vae;
    plan_candidate least = { .together = 1, .residents = PLACEMENT_SPREAD, .room = 0 };
    size_t smallest = SIZE_MAX;

    TRY(dry_run_unet(&of_unet, &f->job, narrow, n->work, err));
    const int n_ways = list_vae_ways(f->o, ways);
    for (int i = 0; i < n_ways; i++) {
        if (ways[i].band_rows != band)
            continue;
        TRY(dry_run_vae(&of_vae, &f->job, ways[i], NULL, err));
        const phase_sizes both = phase_sizes_join(&of_vae, &of_unet);
        if (least_arena(f, &both) < smallest) {
            smallest = least_arena(f, &both);
            least.ways = (phase_ways){ ways[i], narrow, both };
        }
    }
    least.ring = least_ring(f, &least.ways.phases);
    rates_apply(n->seconds, &f->rates, f->step.p, n->work);
    *out = evaluate_candidate(f, &least, n);
    return REFINE_OK;
}

/* ---- choosing: the ways of the phases ---- */

/* The first way of the VAE that lets the smallest ring fit, or the smallest. */
static refine_status choose_vae(vae_way *out, phase_sizes *sizes, const plan_facts *f,
                                const phase_sizes *of_unet, dev_work *work, refine_error *err)
{
    vae_way ways[N_SPILLS * N_BANDS];
    const int n = list_vae_ways(f->o, ways);
    for (int i = 0; i < n; i++) {
        *out = ways[i];
        TRY(dry_run_vae(sizes, &f->job, ways[i], work, err));
        const phase_sizes both = phase_sizes_join(sizes, of_unet);
        if (ways_fit(f, &both))
            break;
    }
    return REFINE_OK;
}

/* With so many items in a pass; `work` becomes that of the ways chosen.  All norms of the UNet are
 * written out where that fits beside the way the VAE goes, which they are not worth changing:
 * convolutions that normalise while they read take the longer. */
static refine_status choose_ways(phase_ways *out, const plan_facts *f, int per_pass, dev_work *work,
                                 refine_error *err)
{
    const unet_way fused = { .per_pass = per_pass },
                   written = { .per_pass = per_pass, .norms_anywhere = true };
    phase_sizes of_fused, of_written, of_vae;
    vae_way chosen = { 0 };

    TRY(dry_run_unet(&of_fused, &f->job, fused, work, err));
    TRY(choose_vae(&chosen, &of_vae, f, &of_fused, work, err));
    TRY(dry_run_unet(&of_written, &f->job, written, work, err));
    *out = (phase_ways){ chosen, written, phase_sizes_join(&of_vae, &of_written) };
    if (ways_fit(f, &out->phases))
        return REFINE_OK;
    *out = (phase_ways){ chosen, fused, phase_sizes_join(&of_vae, &of_fused) };
    return dry_run_unet(&of_fused, &f->job, fused, work, err); /* for its work */
}

/* ---- choosing: ring and residents ---- */

/* Bytes that residents may take beside this ring. */
static uint64_t room_for_residents(const plan_facts *f, const phase_sizes *s, size_t ring)
{
    const arena_layout bare = lay_out_arena(f, s, ring, 0);
    const uint64_t left = arena_layout_room(&bare, f->limits.device);
    const uint64_t wanted = f->o->resident_bytes ? f->o->resident_bytes : left;
    return wanted == UINT64_MAX ? 0 : num_min(left, wanted);
}

/* This ring with the residents that are predicted to be better. */
static evaluation choose_residents(const plan_facts *f, const phase_ways *w, size_t ring,
                                   const chunk_notes *n)
{
    plan_candidate c = { .ways = *w,
                         .ring = ring,
                         .together = ring_size_together(f->step.p, ring, f->o->together,
                                                        dev_max_blocks(f->job.target)),
                         .residents = PLACEMENT_SPREAD,
                         .room = room_for_residents(f, &w->phases, ring) };
    const evaluation spread = evaluate_candidate(f, &c, n);
    c.residents = PLACEMENT_RANKED;
    const evaluation ranked = evaluate_candidate(f, &c, n);
    return c.room > 0 && spread.predicted.step < ranked.predicted.step * (1 - SAME_STEP) ? spread
                                                                                         : ranked;
}

/* The ring gives back what is of no use beside these residents, down to a launch: a step is
 * predicted for the first use of residents too, by way of the ring. */
static evaluation shrink_ring(const plan_facts *f, const evaluation *e, const chunk_notes *n)
{
    plan_candidate c = e->candidate;
    (void)evaluate_candidate(f, &c, n); /* notes its residents */
    const size_t launch = num_min(c.ring, ring_size_of_launch(f->step.p, c.together));
    const size_t least = num_max(smallest_ring(f, &c.ways.phases), launch);
    c.ring = ring_size_fit(f->job.p, f->o, c.ring, least, n->resident);
    return evaluate_candidate(f, &c, n);
}

/* The ring that leaves the fastest step, with its residents, which are noted.  The largest that
 * fits first: in doubt, the larger. */
static evaluation choose_ring(const plan_facts *f, const phase_ways *w, const chunk_notes *n)
{
    evaluation best = { 0 };
    size_t last = 0;

    rates_apply(n->seconds, &f->rates, f->step.p, n->work);
    placement_rank(n->ranked, &f->step, n->work);
    for (int i = 0; i < N_RINGS; i++) {
        const size_t ring = ring_size_fit(f->job.p, f->o, RINGS[i], smallest_ring(f, &w->phases),
                                          NULL);
        if (ring == last || lay_out_arena(f, &w->phases, ring, 0).bytes > f->limits.device)
            continue;
        const evaluation e = choose_residents(f, w, ring, n);
        const bool smaller = e.candidate.together < best.candidate.together;
        const double worth = smaller ? WORTH_SMALLER_LAUNCHES : SAME_STEP;
        if (last == 0 || e.predicted.step < best.predicted.step * (1 - worth))
            best = e;
        last = ring;
    }
    assert(last > 0 && "ways were chosen that do not fit");
    return shrink_ring(f, &best, n);
}

/* Passes are shared by as many items as fit, unless fewer are predicted to be faster. */
static refine_status choose_candidate(evaluation *out, const plan_facts *f, const chunk_notes *n,
                                      refine_error *err)
{
    const int most = most_per_pass(f->job.p, f->o), least = f->o->per_pass ? most : 1;
    int chosen = least;
    double best = -1;
    phase_ways w;

    for (int many = most; many >= least; many = many > 1 ? (many + 1) / 2 : 0) {
        TRY(choose_ways(&w, f, many, n->work, err));
        if (!ways_fit(f, &w.phases))
            continue;
        const double step = choose_ring(f, &w, n).predicted.step;
        if (best < 0 || step < best * (1 - SAME_STEP)) {
            best = step;
            chosen = many;
        }
    }
    TRY(choose_ways(&w, f, chosen, n->work, err)); /* what is noted is of the last one tried */
    *out = choose_ring(f, &w, n);
    return REFINE_OK;
}

/* ---- the plan ---- */

simulate_result plan_simulate(const plan *p, const model *m, const refine_rates *rates,
                              const double *seconds)
{
    const simulate_config step = { .passes = p->passes,
                                   .together = p->together,
                                   .seconds = seconds,
                                   .resident = p->is_resident,
                                   .cached = p->is_cached,
                                   .ring_bytes = p->arena.ring,
                                   .slots = p->host.slots };
    return simulate_unet(step, m->p, rates);
}

static void adopt_evaluation(plan *out, const plan_facts *f, const evaluation *e)
{
    const plan_candidate *c = &e->candidate;
    out->vae = c->ways.vae;
    out->unet = c->ways.unet;
    out->passes = passes_of(f, c->ways.unet);
    out->together = c->together;
    out->phases = c->ways.phases;
    out->arena = e->arena;
    out->predicted = e->predicted;
}

/* A transfer and its use leave eight events at most; phases and steps are few. */
static size_t count_events(const plan *p, const plan_facts *f)
{
    enum { TRIP = 8, OTHERS = 4096 };
    const phases *pipe = f->job.p;
    const size_t step = (size_t)(f->step.end - f->step.first) * (size_t)p->passes;
    return OTHERS + TRIP * ((size_t)n_pack_chunks(f->step.p) * (size_t)(1 + pipe->images) +
                            step * (size_t)pipe->steps);
}

static double predict_cached_step(const plan *p, const plan_facts *f, size_t room)
{
    (void)placement_cache(p->is_cached, &f->step, p->is_resident, room);
    return plan_simulate(p, f->job.p->m, &p->rates.unet, p->seconds).step;
}

/* The smallest cache that is as good as the largest. */
static size_t choose_cache_room(const plan *p, const plan_facts *f, size_t room)
{
    enum { PARTS = 8 };
    const double best = predict_cached_step(p, f, room);
    for (size_t part = 0; part < PARTS; part++)
        if (predict_cached_step(p, f, room / PARTS * part) <= best * (1 + WORTH_CACHING))
            return room / PARTS * part;
    return room;
}

/* With what the host has left; a cache whose worth is not known is made if it is asked for. */
static void choose_cache(plan *p, const plan_facts *f)
{
    const uint64_t wanted = f->o->cached_bytes;
    size_t room = host_memory_cache_room(&p->host, wanted, p->limits.host);
    if (wanted == 0)
        room = cost_known(&p->rates.unet) ? choose_cache_room(p, f, room) : 0;
    const size_t cached = placement_cache(p->is_cached, &f->step, p->is_resident, room);
    p->host = host_memory_with_cache(p->host, cached);
    p->predicted = plan_simulate(p, f->job.p->m, &p->rates.unet, p->seconds);
}

static void count_step(plan *p, const chunk_range *step)
{
    const uint64_t passes = (uint64_t)p->passes;
    for (int i = step->first; i < step->end; i++) {
        const pack_chunk *c = pack_chunk_at(step->p, i);
        p->step_bytes += passes * c->bytes;
        p->step_copied += p->is_resident[i] ? 0 : passes * c->bytes;
        p->step_read += p->is_resident[i] || p->is_cached[i] ? 0 : passes * c->stored_bytes;
    }
}

/* heap: bytes taken before.  ranked: room for the UNet's chunks. */
static refine_status choose_plan(plan *out, const dry_run_job *job, const refine_options *o,
                                 const refine_job *j, size_t heap, ranked_chunk *ranked,
                                 refine_error *err)
{
    const pack *p = job->p->m->p;
    const bool guards = job->zone > 0;
    const chunk_notes notes = { out->work, out->seconds, ranked, out->is_resident };
    evaluation smallest, best;

    out->limits = limits_find(job->target, o);
    out->host = host_memory_fit(p, o, heap, out->limits.host, guards);
    out->rates = rates_find(job->p, job->target, o, &out->limits, heap, most_per_pass(job->p, o));
    plan_facts f = { .job = *job,
                     .o = o,
                     .step = { .p = p },
                     .limits = out->limits,
                     .rates = out->rates,
                     .slots = out->host.slots };
    pack_segment(p, SEG_UNET, &f.step.first, &f.step.end);

    TRY(find_smallest(&smallest, &f, &notes, err));
    out->smallest_device = smallest.arena.bytes;
    if (smallest.arena.bytes > f.limits.device) {
        adopt_evaluation(out, &f, &smallest);
        return limits_fail_device(&f.limits, out->smallest_device, out->predicted.step, err);
    }
    TRY(choose_candidate(&best, &f, &notes, err));
    adopt_evaluation(out, &f, &best);

    /* What else the host has to hold is known now. */
    out->trace_events = o->trace ? count_events(out, &f) : 0;
    const size_t others = (out->phases.spill ? spill_overhead(1) : 0) +
                          (o->trace ? trace_memory(out->trace_events) : 0) +
                          (j->layer_output ? layer_outputs_bytes() : 0);
    out->host = host_memory_with_spill(host_memory_fit(p, o, heap + others, f.limits.host, guards),
                                       out->phases.spill, f.limits.host);
    if (out->host.bytes > f.limits.host)
        return limits_fail_host(&f.limits, out->host.smallest, out->predicted.step, err);
    choose_cache(out, &f);
    count_step(out, &f.step);
    return REFINE_OK;
}

refine_status plan_make(plan *out, const model *m, const phases *p, dev *d, const refine_options *o,
                        const refine_job *j, refine_error *err)
{
    const size_t n = (size_t)n_pack_chunks(m->p) + 1;
    const dry_run_job job = { .p = p, .target = d, .zone = guard_zone(o->guards) };

    *out = (plan){ .is_resident = mem_calloc(n, sizeof *out->is_resident),
                   .is_cached = mem_calloc(n, sizeof *out->is_cached),
                   .work = mem_calloc(n, sizeof *out->work),
                   .seconds = mem_calloc(n, sizeof *out->seconds) };
    const size_t heap = (size_t)mem_used().now;
    ranked_chunk *ranked = mem_calloc(n, sizeof *ranked);
    const bool there = out->is_resident && out->is_cached && out->work && out->seconds && ranked;
    const refine_status st = there ? choose_plan(out, &job, o, j, heap, ranked, err)
                                   : refine_fail(err, REFINE_ENOMEM, "out of memory");
    mem_free(ranked);
    return st;
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
