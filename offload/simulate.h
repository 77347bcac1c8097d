/* offload/simulate.h -- how long a step of streaming will take, by replaying its queues.
 *
 * Every transfer passes disk, decoding, copy queue and compute, each of which does one thing at a
 * time in order:
 *
 *     disk[i]    = max(disk[i-1], slot of i free)          + stored / disk rate
 *     decode[i]  = max(decode[i-1], disk[i])               + bytes / decode rate
 *     copy[i]    = max(copy[i-1], decode[i], room in ring) + bytes / copy rate
 *     compute[i] = max(compute[i-1], copy[i])              + seconds of i
 *
 * A slot is free when its copy has passed, ring bytes when their compute has.  A cached chunk
 * begins at copy, a resident one at compute.  Chunks that are multiplied together are computed
 * when the last of them has come.  These are the rules of offload/stream.c.
 */
#ifndef REFINE_SIMULATE_H
#define REFINE_SIMULATE_H

#include "offload/pack.h"

#include <stdbool.h>

typedef struct simulate_config {
    const pack *p;
    int first, end;                /* chunks of one pass */
    int passes;                    /* of a step */
    int together;                  /* chunks of a matrix multiplied at once, at most; 0: 1 */
    const double *seconds;         /* of compute, per chunk of the pack, a use */
    const bool *resident, *cached; /* per chunk of the pack; NULL: none */
    size_t ring_bytes;
    int slots;
    double disk, decode, copy; /* bytes a second; 0: takes no time */
} simulate_config;

typedef struct simulate_result {
    double step;                                 /* seconds of a step in the steady state */
    double compute;                              /* of them, computing */
    double stall_disk, stall_decode, stall_copy; /* and waiting, by what the last to come waited */
} simulate_result;

simulate_result simulate_step(const simulate_config *c);

#endif
