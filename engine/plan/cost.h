/* engine/plan/cost.h -- seconds from work: four rates of compute, probed or given.
 *
 *     seconds = 2 linear / R_linear + 2 conv / R_conv + 2 attention / R_attention
 *               + bytes / R_memory
 */
#ifndef REFINE_COST_H
#define REFINE_COST_H

#include "engine/model/model_config.h"
#include "kernels/ops.h"
#include <refine/refine.h>

/* Images that go through layers of so many channels together. */
typedef struct cost_level {
    int n, h, w, channels;
    int heads;      /* of its attention, which linear layers surround; 0: has none */
    int keys;       /* it also attends to so many tokens of a prompt; 0: to itself alone */
    bool convolves; /* has convolutions, with norms before them */
    bool causal;
} cost_level;

/* What is computed, and in which types. */
typedef struct cost_job {
    dtype act, weights;
    cost_level level[LEVELS_MAX];
    int levels;
} cost_job;

/* Fills in the compute rates of `r` that are 0 by running each kind of operator at the job's levels
 * for some milliseconds, smaller where `most` bytes of the device hold no more.  Takes and gives
 * back cost_probe_memory of the device (0: `most` is too little).  What cannot be measured stays
 * 0, as does what the job does not do. */
void cost_probe(refine_rates *r, dev *d, const cost_job *j, uint64_t most);
size_t cost_probe_memory(dev *d, const cost_job *j, uint64_t most);

/* Has the device do some of the job's work for 0.15 s, which is for nothing; a CPU does not where
 * the job's operators are no larger than a trial.  Room as above. */
void cost_warm_up(dev *d, const cost_job *j, uint64_t most);

/* Whether all rates are known. */
bool cost_known(const refine_rates *r);

double cost_seconds(const refine_rates *r, dev_work w);

#endif
