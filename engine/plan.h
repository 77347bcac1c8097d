/* engine/plan.h -- what a run will take, computed by running the model on nothing.
 *
 * The device arena, from its start:
 *
 *     vectors | workspace | ring | region
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
 * Sizes are exact: scratch addresses are replayed, not estimated (engine/scratch.h).
 */
#ifndef REFINE_PLAN_H
#define REFINE_PLAN_H

#include "engine/pipeline.h"
#include "offload/stream.h"

typedef struct plan {
    uint64_t device_limit, host_limit;
    size_t vectors, workspace, ring, region, residents; /* bytes, parts of the arena */
    size_t residents_at;                                /* in the region */
    size_t arena;
    size_t encode, text, unet, decode; /* activations of each phase at their peak */
    size_t host;                       /* heap and staging at their peak, the arena apart */
    size_t staging;
    size_t smallest_device, smallest_host;
    int slots, workers, band_rows;
    bool *resident;                           /* per chunk; owned */
    uint64_t step_bytes, step_resident_bytes; /* decoded weights touched in a step */
    uint64_t step_macs;
} plan;

/* `d` is the device that will run.  REFINE_EBUDGET: the ceilings cannot be met; `out` then
 * describes the smallest run there is and is still to be closed. */
refine_status plan_make(plan *out, const model *m, pipeline *p, dev *d, const refine_options *o,
                        const refine_job *j, refine_error *err);
void plan_close(plan *p); /* a zeroed plan is fine */

/* The device of a run and the types of its activations. */
void plan_precision(run *r, dev *d, dtype type);

#endif
