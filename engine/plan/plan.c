/* engine/plan/plan.c -- the plans of all parts of a run, which share its ceilings.
 *
 *     limits -> host -> rates -> smallest -> choose -> host again, with what was chosen -> cache
 *
 * Parts are chosen one by one.  Where they would have different rings, all are chosen anew for each
 * of these, and the ring with the least time for all steps stays.
 */
#include "engine/plan/plan.h"

#include "engine/base/guard.h"
#include "engine/base/mem.h"
#include "engine/base/num.h"
#include "engine/base/try.h"
#include "engine/model/layer_output.h"
#include "engine/plan/cost.h"
#include "engine/plan/plan_search.h"
#include "offload/spill.h"

#include <math.h>

/* Caching must make a step faster by so much. */
static const double WORTH_CACHING = 0.01;

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
    return search_simulate(step, m->p, rates);
}

static void adopt_evaluation(plan *out, const plan_facts *f, const evaluation *e)
{
    const plan_candidate *c = &e->candidate;
    out->vae = c->ways.vae;
    out->unet = c->ways.unet;
    out->passes = search_passes(f, c->ways.unet);
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

/* ---- the parts ---- */

/* A part while its plan is made. */
typedef struct plan_part {
    plan *out;
    plan_facts f;
    chunk_notes notes;
    evaluation smallest, best;
} plan_part;

/* The smallest of each, with a ring that does for all. */
static refine_status find_smallest_parts(plan_part *part, int n, refine_error *err)
{
    size_t floor = 0, arena = 0;
    for (int k = 0; k < n; k++) {
        TRY(search_smallest(&part[k].smallest, &part[k].f, &part[k].notes, err));
        floor = num_max(floor,
                        search_smallest_ring(&part[k].f, &part[k].smallest.candidate.ways.phases));
    }
    for (int k = 0; k < n; k++) {
        plan_facts *f = &part[k].f;
        plan_candidate *c = &part[k].smallest.candidate;
        f->ring_floor = floor;
        c->ring = search_least_ring(f, &c->ways.phases);
        part[k].smallest = search_evaluate(f, c, &part[k].notes);
        arena = num_max(arena, part[k].smallest.arena.bytes);
    }
    for (int k = 0; k < n; k++)
        part[k].out->smallest_device = arena;
    return REFINE_OK;
}

static refine_status choose_candidates(plan_part *part, int n, refine_error *err)
{
    for (int k = 0; k < n; k++)
        TRY(search_candidates(&part[k].best, &part[k].f, &part[k].notes, err));
    return REFINE_OK;
}

static bool ring_fits(const plan_part *part, int n, size_t ring)
{
    for (int k = 0; k < n; k++)
        if (search_layout(&part[k].f, &part[k].smallest.candidate.ways.phases, ring, 0).bytes >
            part[k].f.limits.device)
            return false;
    return true;
}

static double steps_seconds(const plan_part *part, int n)
{
    double sum = 0;
    for (int k = 0; k < n; k++)
        sum += part[k].best.predicted.step * part[k].f.job.p->steps;
    return sum;
}

static refine_status choose_with_ring(plan_part *part, int n, size_t ring, refine_error *err)
{
    for (int k = 0; k < n; k++) {
        part[k].f.ring_floor = ring;
        part[k].f.ring_fixed = true;
    }
    return choose_candidates(part, n, err);
}

/* The smallest of the rings that parts would choose fits all. */
static refine_status choose_parts(plan_part *part, int n, refine_error *err)
{
    size_t wish[PACKS_MAX], chosen = 0;
    double best = -1;
    bool differ = false;

    TRY(choose_candidates(part, n, err));
    for (int k = 0; k < n; k++) {
        wish[k] = part[k].best.candidate.ring;
        differ = differ || wish[k] != wish[0];
    }
    for (int k = 0; k < n && differ; k++) {
        if (!ring_fits(part, n, wish[k]))
            continue;
        TRY(choose_with_ring(part, n, wish[k], err));
        if (best < 0 || steps_seconds(part, n) < best) {
            best = steps_seconds(part, n);
            chosen = wish[k];
        }
    }
    return differ ? choose_with_ring(part, n, chosen, err) : REFINE_OK;
}

/* ---- host memory, which parts share ---- */

static host_memory host_of_parts(const plan_part *part, int n, size_t taken)
{
    const plan_facts *f = &part[0].f;
    const pack *packs[PACKS_MAX];
    for (int k = 0; k < n; k++)
        packs[k] = part[k].f.step.p;
    const chunk_list l = chunk_list_make(packs, n);
    return host_memory_fit(&l, f->o, taken, f->limits.host, f->job.zone > 0);
}

/* What else the host has to hold is known when the arenas are. */
static void fit_host_memory(plan_part *part, int n, const refine_job *j, size_t heap)
{
    const plan_facts *f = &part[0].f;
    size_t spilled = 0, events = 0;
    for (int k = 0; k < n; k++) {
        spilled = num_max(spilled, part[k].out->phases.spill);
        events += f->o->trace ? count_events(part[k].out, &part[k].f) : 0;
    }
    const size_t others = (spilled ? spill_overhead(1) : 0) +
                          (f->o->trace ? trace_memory(events) : 0) +
                          (j->layer_output ? layer_outputs_bytes() : 0);
    const host_memory h = host_memory_with_spill(host_of_parts(part, n, heap + others), spilled,
                                                 f->limits.host);
    for (int k = 0; k < n; k++) {
        part[k].out->host = h;
        part[k].out->trace_events = events;
    }
}

/* Each part has all of the cache while it runs. */
static void choose_caches(plan_part *part, int n)
{
    const host_memory without = part[0].out->host;
    size_t cached = 0;
    for (int k = 0; k < n; k++) {
        choose_cache(part[k].out, &part[k].f);
        cached = num_max(cached, part[k].out->host.cached);
    }
    for (int k = 0; k < n; k++)
        part[k].out->host = host_memory_with_cache(without, cached);
}

/* ---- all of it ---- */

static void find_facts(plan_part *part, int n, size_t heap)
{
    for (int k = 0; k < n; k++) {
        plan_facts *f = &part[k].f;
        f->limits = part[k].out->limits = limits_find(f->job.target, f->o);
        f->step.p = f->job.p->m->p;
        pack_segment(f->step.p, SEG_UNET, &f->step.first, &f->step.end);
    }
    const host_memory h = host_of_parts(part, n, heap);
    for (int k = 0; k < n; k++) {
        plan_facts *f = &part[k].f;
        f->rates = part[k].out->rates = rates_find(f->job.p, f->job.target, f->o, &f->limits, heap,
                                                   search_most_per_pass(f->job.p, f->o));
        f->slots = h.slots;
        part[k].out->host = h;
        for (int i = 0; i < n; i++)
            f->vectors += num_align(part[i].f.job.p->m->vector_bytes, SCRATCH_ALIGN);
    }
}

/* heap: bytes taken before. */
static refine_status choose_plans(plan_part *part, int n, const refine_job *j, size_t heap,
                                  refine_error *err)
{
    const memory_limits *l = &part[0].f.limits;
    plan *first = part[0].out;
    double step = 0;

    find_facts(part, n, heap);
    TRY(find_smallest_parts(part, n, err));
    if (first->smallest_device > l->device) {
        for (int k = 0; k < n; k++) {
            adopt_evaluation(part[k].out, &part[k].f, &part[k].smallest);
            step = fmax(step, part[k].out->predicted.step);
        }
        return limits_fail_device(l, first->smallest_device, step, err);
    }
    TRY(choose_parts(part, n, err));
    for (int k = 0; k < n; k++) {
        adopt_evaluation(part[k].out, &part[k].f, &part[k].best);
        step = fmax(step, part[k].out->predicted.step);
    }
    fit_host_memory(part, n, j, heap);
    if (first->host.bytes > l->host)
        return limits_fail_host(l, first->host.smallest, step, err);
    choose_caches(part, n);
    for (int k = 0; k < n; k++)
        count_step(part[k].out, &part[k].f.step);
    return REFINE_OK;
}

static bool take_notes(plan_part *part)
{
    plan *out = part->out;
    const size_t n = (size_t)n_pack_chunks(part->f.job.p->m->p) + 1;
    *out = (plan){ .is_resident = mem_calloc(n, sizeof *out->is_resident),
                   .is_cached = mem_calloc(n, sizeof *out->is_cached),
                   .work = mem_calloc(n, sizeof *out->work),
                   .seconds = mem_calloc(n, sizeof *out->seconds) };
    return out->is_resident && out->is_cached && out->work && out->seconds;
}

static bool take_ranks(plan_part *part)
{
    const plan *out = part->out;
    ranked_chunk *ranked = mem_calloc((size_t)n_pack_chunks(part->f.job.p->m->p) + 1,
                                      sizeof *ranked);
    part->notes = (chunk_notes){ out->work, out->seconds, ranked, out->is_resident };
    return ranked;
}

refine_status plan_make(plan *out, const phases *const *p, int n, dev *d, const refine_options *o,
                        const refine_job *j, refine_error *err)
{
    plan_part part[PACKS_MAX] = { 0 };
    bool taken = true;

    for (int k = 0; k < n; k++) {
        part[k].out = &out[k];
        part[k].f = (plan_facts){ .job = { .p = p[k], .target = d, .zone = guard_zone(o->guards) },
                                  .o = o };
        taken = take_notes(&part[k]) && taken;
    }
    const size_t heap = (size_t)mem_used().now;
    for (int k = 0; k < n; k++)
        taken = take_ranks(&part[k]) && taken;
    const refine_status st = taken ? choose_plans(part, n, j, heap, err)
                                   : refine_fail(err, REFINE_ENOMEM, "out of memory");
    for (int k = 0; k < n; k++)
        mem_free(part[k].notes.ranked);
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
