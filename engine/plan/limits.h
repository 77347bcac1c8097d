/* engine/plan/limits.h -- how much memory a run may have, and what is said when that is too little.
 *
 *     arena  <=  device ceiling - what the device took before
 *     heap and staging  <=  host ceiling
 *
 * By default the host has 512 MiB, and a device that is this machine's own memory the rest of what
 * the process may have, but for a margin.  Where that is little they share it.
 */
#ifndef REFINE_LIMITS_H
#define REFINE_LIMITS_H

#include "engine/base/process_limits.h"
#include "kernels/device.h"
#include <refine/refine.h>

typedef struct memory_limits {
    uint64_t device, host; /* of the arena; of everything on the host */
    size_t overhead;       /* device memory that the device took before the arena */
    const char *device_by, *host_by; /* what set them; static; NULL: the options */
} memory_limits;

/* As the options say; what they leave open, by what the process may have now. */
memory_limits limits_find(dev *d, const refine_options *o);
memory_limits limits_within(dev *d, const refine_options *o, memory_room room);

/* Threads that are still to be started when a run is planned. */
int limits_threads(const refine_options *o);

/* REFINE_EBUDGET, with the ceiling that would do.  smallest: of the arena; of the host.  step:
 * predicted seconds of a step with so little; 0: not known. */
refine_status limits_fail_device(const memory_limits *l, size_t smallest, double step,
                                 refine_error *err);
refine_status limits_fail_host(const memory_limits *l, size_t smallest, double step,
                               refine_error *err);

#endif
