/* engine/include/refine/event.h -- what happened when during a run; part of the public API. */
#ifndef REFINE_EVENT_H
#define REFINE_EVENT_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum refine_lane {
    REFINE_LANE_DISK,         /* a chunk is read, */
    REFINE_LANE_DECODE,       /* checked and decoded, */
    REFINE_LANE_COPY,         /* copied */
    REFINE_LANE_COMPUTE,      /* from the entry of a chunk to that of the next, less stalls */
    REFINE_LANE_STALL_DISK,   /* compute waits for a chunk to be read, */
    REFINE_LANE_STALL_DECODE, /* to be decoded, */
    REFINE_LANE_STALL_COPY,   /* to be copied */
    REFINE_LANE_ACTIVATIONS,  /* bytes of activations in use from now on */
    REFINE_LANE_PHASE,        /* chunk: a refine_phase */
    REFINE_LANE_STEP,         /* chunk: number of the step, from 0 */
    REFINE_LANES
} refine_lane;

/* Times in seconds since the engine was opened. */
typedef struct refine_event {
    refine_lane lane;
    int chunk;
    double begin, end;
    uint64_t bytes;
} refine_event;

#ifdef __cplusplus
}
#endif
#endif
