/* engine/plan/rates.h -- what this machine can do: as given, or probed before a run.
 *
 * Each group of phases has types and shapes of its own, and so rates of compute
 * (engine/plan/cost_jobs.h); those of disk, decoding and link are the same for all.
 */
#ifndef REFINE_RATES_H
#define REFINE_RATES_H

#include "engine/model/phases.h"
#include "engine/plan/limits.h"

typedef struct plan_rates {
    refine_rates unet, text, vae; /* decode of all workers */
} plan_rates;

/* Rates that are given are not probed, nor those whose probe would not fit the limits, with `heap`
 * bytes of the host taken.  per_pass: inputs that share a pass of the UNet, at most. */
plan_rates rates_find(const phases *p, dev *target, const refine_options *o, const memory_limits *l,
                      size_t heap, int per_pass);

/* Seconds of a use of each chunk of the pack with that work. */
void rates_apply(double *seconds, const plan_rates *r, const pack *p, const dev_work *work);

#endif
