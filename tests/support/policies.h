/* tests/support/policies.h -- ways to choose the weights that stay on the device. */
#ifndef REFINE_TEST_POLICIES_H
#define REFINE_TEST_POLICIES_H

#include "kernels/device.h"
#include "offload/pack.h"

#include <stdbool.h>

/* The chunks of a step and what is computed with them. */
typedef struct step_chunks {
    const pack *p;
    int first, end;
    const dev_work *work; /* per chunk of the pack */
} step_chunks;

/* Fills `resident` (per chunk of the pack) with chunks of no more than `budget` bytes. */
typedef void policy(const step_chunks *c, size_t budget, bool *resident);

policy policy_none;
policy policy_prefix;
policy policy_spread;      /* the same share of every stretch of the step */
policy policy_least_first; /* least multiply-adds for each byte first */
policy policy_lru;         /* what a cache of the last used holds when it is asked for it */

#endif
