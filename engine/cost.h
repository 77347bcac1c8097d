/* engine/cost.h -- seconds from work: four rates of compute, probed or given.
 *
 *     seconds = 2 linear / R_linear + 2 conv / R_conv + 2 attention / R_attention
 *               + bytes / R_memory
 */
#ifndef REFINE_COST_H
#define REFINE_COST_H

#include "engine/refine.h"
#include "kernels/ops.h"

/* What the UNet works with. */
typedef struct cost_types {
    dtype act, weights;
} cost_types;

/* Fills in the compute rates of `r` that are 0 by running each kind of operator for some
 * milliseconds with these types.  Takes and gives back cost_probe_memory of
 * the device: as much as is of use, `most` at most (0: that is too little).  What cannot be
 * measured stays 0. */
void cost_probe(refine_rates *r, dev *d, cost_types k, uint64_t most);
size_t cost_probe_memory(dev *d, cost_types k, uint64_t most);

/* Whether all rates are known. */
bool cost_known(const refine_rates *r);

double cost_seconds(const refine_rates *r, dev_work w);

#endif
