/* engine/plan/plan.h -- what a run will take, computed by running its models on nothing.
 *
 * A run has a part for each model, one after the other in one arena, each with a plan of its own.
 * They agree in what outlives a part: vectors, ring and staging.
 *
 * Sizes are exact (engine/plan/dry_run.h, arena_layout.h).  Times are predicted: the work of each
 * chunk by the rates (engine/plan/rates.h, cost.h), through the queues (offload/simulate.h).
 */
#ifndef REFINE_PLAN_H
#define REFINE_PLAN_H

#include "engine/plan/arena_layout.h"
#include "engine/plan/host_memory.h"
#include "engine/plan/limits.h"
#include "engine/plan/rates.h"
#include "offload/simulate.h"
#include "offload/stream.h"

typedef struct plan {
    memory_limits limits;
    plan_rates rates;       /* as assumed */
    size_t smallest_device; /* an arena that would do for all parts; of the host: host.smallest */
    /* How it is run: */
    vae_way vae;
    unet_way unet;
    int passes;                    /* over the UNet's weights, of a step */
    int together;                  /* chunks of a matrix multiplied at once, at most */
    bool *is_resident, *is_cached; /* per chunk; owned */
    /* What that takes: */
    phase_sizes phases;
    arena_layout arena;
    host_memory host;
    size_t trace_events; /* of all parts */
    uint64_t step_bytes;       /* decoded weights touched in a step */
    uint64_t step_copied;      /* of them, those that travel */
    uint64_t step_read;        /* stored bytes of those that are read from the pack */
    dev_work *work;            /* per chunk, of a use; owned */
    double *seconds;           /* likewise, predicted; owned */
    simulate_result predicted; /* all 0 where a rate is not known */
} plan;

/* Of n parts, in their order.  `d` is the device that will run; p->per_pass is the opener's to set,
 * to unet.per_pass.  REFINE_EBUDGET: the ceilings cannot be met; `out` then describes the smallest
 * run there is and is still to be closed. */
refine_status plan_make(plan *out, const phases *const *p, int n, dev *d, const refine_options *o,
                        const refine_job *j, refine_error *err);
void plan_close(plan *p); /* a zeroed plan is fine */

/* A step of this plan, were these the rates and the seconds of each chunk. */
simulate_result plan_simulate(const plan *p, const model *m, const refine_rates *rates,
                              const double *seconds);

#endif
