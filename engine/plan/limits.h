/* engine/plan/limits.h -- how much memory a run may have, and what is said when that is too little.
 *
 *     arena  <=  device ceiling - what the device took before
 *     heap and staging  <=  host ceiling
 */
#ifndef REFINE_LIMITS_H
#define REFINE_LIMITS_H

#include "kernels/device.h"
#include <refine/refine.h>

typedef struct memory_limits {
    uint64_t device, host; /* of the arena; of everything on the host */
    size_t overhead;       /* device memory that the device took before the arena */
} memory_limits;

/* As the options say; what they leave open, by what is free now. */
memory_limits limits_find(dev *d, const refine_options *o);

/* REFINE_EBUDGET, with the ceiling that would do.  smallest: of the arena; of the host.  step:
 * predicted seconds of a step with so little; 0: not known. */
refine_status limits_fail_device(const memory_limits *l, size_t smallest, double step,
                                 refine_error *err);
refine_status limits_fail_host(const memory_limits *l, size_t smallest, double step,
                               refine_error *err);

#endif
