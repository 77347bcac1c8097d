/* engine/plan/plan_search.h -- ways to run one model, and what each comes to.
 *
 * A candidate is a value, and so is what it comes to.  What is known before the first one is tried
 * (plan_facts) does not change after.  Notes on each chunk (chunk_notes) lie in the plan's own
 * arrays: those of ways are of the last dry run, those of residents of the last evaluation.
 */
#ifndef REFINE_PLAN_SEARCH_H
#define REFINE_PLAN_SEARCH_H

#include "engine/plan/arena_layout.h"
#include "engine/plan/limits.h"
#include "engine/plan/placement.h"
#include "engine/plan/rates.h"
#include "offload/simulate.h"

typedef struct plan_facts {
    dry_run_job job;
    const refine_options *o;
    chunk_range step; /* chunks of the UNet */
    memory_limits limits;
    plan_rates rates;
    int slots;         /* of the stream that steps are simulated with */
    size_t vectors;    /* of all parts */
    size_t ring_floor; /* no ring of any part may be smaller; */
    bool ring_fixed;   /* nor larger */
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

/* The smallest arena there is: no band is larger, no more items share a pass than asked. */
refine_status search_smallest(evaluation *out, const plan_facts *f, const chunk_notes *n,
                              refine_error *err);

/* The fastest, where the smallest fits.  As many items as fit share a pass, unless fewer are
 * predicted to be faster. */
refine_status search_candidates(evaluation *out, const plan_facts *f, const chunk_notes *n,
                                refine_error *err);

/* The notes hold the seconds (and the ranking) of the candidate's UNet. */
evaluation search_evaluate(const plan_facts *f, const plan_candidate *c, const chunk_notes *n);

arena_layout search_layout(const plan_facts *f, const phase_sizes *s, size_t ring,
                           size_t residents);

/* The smallest ring that works, and that the options leave. */
size_t search_smallest_ring(const plan_facts *f, const phase_sizes *s);
size_t search_least_ring(const plan_facts *f, const phase_sizes *s);

/* Inputs that share a pass, as many as are allowed; and the passes of a step. */
int search_most_per_pass(const phases *p, const refine_options *o);
int search_passes(const plan_facts *f, unet_way way);

/* A step; `c` holds what the pack and the rates do not say. */
simulate_result search_simulate(simulate_config c, const pack *p, const refine_rates *rates);

#endif
