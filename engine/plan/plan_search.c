/* engine/plan/plan_search.c -- the search for the run of one model that is predicted to be fastest
 * within its ceilings.
 *
 * What is given up when memory is short, in this order: for the VAE larger bands, then tensors
 * that stay on the device; for the UNet residents, a larger ring, batch elements that share a pass,
 * whichever is predicted to be fastest.  None of them changes the image.
 */
#include "engine/plan/plan_search.h"

#include "engine/base/num.h"
#include "engine/base/try.h"
#include "engine/plan/cost.h"
#include "engine/plan/ring_size.h"

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

/* A difference in predicted time below this share decides nothing. */
static const double SAME_STEP = 0.005;

/* A launch of fewer chunks takes longer than their seconds say, which is not predicted: such a step
 * must look faster by so much. */
static const double WORTH_SMALLER_LAUNCHES = 0.05;

/* ---- evaluating ---- */

arena_layout search_layout(const plan_facts *f, const phase_sizes *s, size_t ring, size_t residents)
{
    return arena_layout_make(f->vectors, f->job.zone, s, ring, residents);
}

size_t search_smallest_ring(const plan_facts *f, const phase_sizes *s)
{
    return num_max(ring_size_smallest(f->step.p, s->inside), f->ring_floor);
}

static size_t fit_ring(const plan_facts *f, size_t wish, size_t smallest, const bool *resident)
{
    return f->ring_fixed ? f->ring_floor : ring_size_fit(f->job.p, f->o, wish, smallest, resident);
}

/* The smallest that the options leave. */
size_t search_least_ring(const plan_facts *f, const phase_sizes *s)
{
    return fit_ring(f, 0, search_smallest_ring(f, s), NULL);
}

static size_t least_arena(const plan_facts *f, const phase_sizes *s)
{
    return search_layout(f, s, search_least_ring(f, s), 0).bytes;
}

static bool ways_fit(const plan_facts *f, const phase_sizes *s)
{
    return least_arena(f, s) <= f->limits.device;
}

/* Completes what a step is like, as the UNet's with these rates. */
simulate_result search_simulate(simulate_config c, const pack *p, const refine_rates *rates)
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

int search_passes(const plan_facts *f, unet_way way)
{
    return phases_passes_of(f->job.p->batch, way.per_pass);
}

/* The notes hold the seconds (and the ranking) of the candidate's UNet. */
evaluation search_evaluate(const plan_facts *f, const plan_candidate *c, const chunk_notes *n)
{
    const simulate_config step = { .passes = search_passes(f, c->ways.unet),
                                   .together = c->together,
                                   .seconds = n->seconds,
                                   .resident = n->resident,
                                   .ring_bytes = c->ring,
                                   .slots = f->slots };
    const size_t residents = placement_residents(n->resident, &f->step, c->residents, n->ranked,
                                                 c->room);
    return (evaluation){ .candidate = *c,
                         .arena = search_layout(f, &c->ways.phases, c->ring, residents),
                         .predicted = search_simulate(step, f->step.p, &f->rates.unet) };
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

int search_most_per_pass(const phases *p, const refine_options *o)
{
    return o->per_pass > 0 && o->per_pass < p->batch ? o->per_pass : p->batch;
}

/* The smallest arena there is: no band is larger, no more items share a pass than asked. */
refine_status search_smallest(evaluation *out, const plan_facts *f, const chunk_notes *n,
                              refine_error *err)
{
    const int band = f->o->band_rows ? f->o->band_rows : BAND_UNIT;
    const unet_way narrow = { .per_pass = f->o->per_pass ? search_most_per_pass(f->job.p, f->o)
                                                         : 1 };
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
    least.ring = search_least_ring(f, &least.ways.phases);
    rates_apply(n->seconds, &f->rates, f->step.p, n->work);
    *out = search_evaluate(f, &least, n);
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
    const arena_layout bare = search_layout(f, s, ring, 0);
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
    const evaluation spread = search_evaluate(f, &c, n);
    c.residents = PLACEMENT_RANKED;
    const evaluation ranked = search_evaluate(f, &c, n);
    return c.room > 0 && spread.predicted.step < ranked.predicted.step * (1 - SAME_STEP) ? spread
                                                                                         : ranked;
}

/* The ring gives back what is of no use beside these residents, down to a launch: a step is
 * predicted for the first use of residents too, by way of the ring. */
static evaluation shrink_ring(const plan_facts *f, const evaluation *e, const chunk_notes *n)
{
    plan_candidate c = e->candidate;
    (void)search_evaluate(f, &c, n); /* notes its residents */
    const size_t launch = num_min(c.ring, ring_size_of_launch(f->step.p, c.together));
    const size_t least = num_max(search_smallest_ring(f, &c.ways.phases), launch);
    c.ring = fit_ring(f, c.ring, least, n->resident);
    return search_evaluate(f, &c, n);
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
        const size_t ring = fit_ring(f, RINGS[i], search_smallest_ring(f, &w->phases), NULL);
        if (ring == last || search_layout(f, &w->phases, ring, 0).bytes > f->limits.device)
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
refine_status search_candidates(evaluation *out, const plan_facts *f, const chunk_notes *n,
                                refine_error *err)
{
    const int most = search_most_per_pass(f->job.p, f->o), least = f->o->per_pass ? most : 1;
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
