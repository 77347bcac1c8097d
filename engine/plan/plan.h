/* engine/plan/plan.h -- what a run will take, computed by running the model on nothing.
 *
 * The device arena, from its start:
 *
 *     vectors | workspace | ring | region
 *
 * (each with a zone behind it where zones are asked for, engine/base/guard.h).
 *
 * The region is shared by the phases.  Text, once and UNet use it from its start, with
 * the resident weights behind the largest of them; the VAE decoder, which comes after
 * the last step, overlays all of it:
 *
 *     encode   [activations          ]
 *     text     [activations]
 *     UNet     [prompt, table, activations][residents         ]
 *     decode   [activations                       ]
 *
 * Norms that convolutions would take while they read are written out where they find room: below
 * the peak that a phase has without them, and in the UNet wherever the arena then still fits.
 *
 * Sizes are exact: scratch addresses are replayed, not estimated (engine/model/scratch.h).  Times
 * are predicted: the work of each chunk by the rates (engine/plan/cost.h), through the queues
 * (offload/simulate.h).
 */
#ifndef REFINE_PLAN_H
#define REFINE_PLAN_H

#include "engine/model/phases.h"
#include "offload/simulate.h"
#include "offload/stream.h"

typedef struct plan {
    uint64_t device_limit, host_limit; /* of the arena; of everything on the host */
    size_t overhead;                   /* device memory that the device took before the arena */
    size_t vectors, workspace, ring, region, residents; /* bytes, parts of the arena */
    size_t zone;                                        /* behind each part */
    size_t residents_at;                                /* in the region */
    size_t arena;
    size_t encode, text, unet, decode; /* activations of each phase at their peak */
    size_t prompt;                     /* of unet: what the prompts leave behind */
    size_t spill_from;                 /* feature maps of so many bytes leave the device */
    size_t spill_host, spill_file;     /* for where they then lie */
    size_t host;                       /* heap and staging at their peak, the arena apart */
    size_t staging, cached, caller;    /* of host; the last for the caller */
    size_t trace_events;
    size_t smallest_device, smallest_host; /* the arena; the host */
    int slots, workers, band_rows, per_pass;
    int together;                       /* chunks of a matrix multiplied at once, at most */
    bool *is_resident, *is_cached;      /* per chunk; owned */
    dev_work *work;                     /* per chunk, of a use; owned */
    double *seconds;                    /* likewise, predicted; owned */
    uint64_t step_bytes;                /* decoded weights touched in a step */
    uint64_t step_copied;               /* of them, those that travel */
    uint64_t step_read;                 /* stored bytes of those that are read from the pack */
    refine_rates rates;                 /* as assumed, of the UNet; decode of all workers */
    refine_rates text_rates, vae_rates; /* likewise, of these */
    simulate_result predicted;          /* all 0 where a rate is not known */
} plan;

/* Where the parts begin. */
static inline size_t plan_workspace_at(const plan *p) { return p->vectors + p->zone; }
static inline size_t plan_ring_at(const plan *p)
{
    return plan_workspace_at(p) + p->workspace + p->zone;
}
static inline size_t plan_region_at(const plan *p) { return plan_ring_at(p) + p->ring + p->zone; }

/* `d` is the device that will run; p->per_pass is set.  REFINE_EBUDGET: the ceilings cannot be
 * met; `out` then describes the smallest run there is and is still to be closed. */
refine_status plan_make(plan *out, const model *m, pipeline *p, dev *d, const refine_options *o,
                        const refine_job *j, refine_error *err);
void plan_close(plan *p); /* a zeroed plan is fine */

/* A step of this plan, were these the rates and the seconds of each chunk. */
simulate_result plan_simulate(const plan *p, const model *m, const pipeline *pipe,
                              const refine_rates *rates, const double *seconds);

/* The device of a run and the types of its activations. */
void plan_precision(forward_ctx *r, dev *d, dtype type);

#endif
