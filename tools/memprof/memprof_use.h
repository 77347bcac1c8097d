/* tools/memprof/memprof_use.h -- the roofline of a run: how much of each resource's rate was
 * reached. */
#ifndef REFINE_MEMPROF_USE_H
#define REFINE_MEMPROF_USE_H

#include "tools/memprof/trace_read.h"

typedef enum resource {
    RESOURCE_DISK,
    RESOURCE_DECODE,
    RESOURCE_LINK,
    RESOURCE_COMPUTE,
    RESOURCES
} resource;

extern const char *const resource_names[RESOURCES];

/* While denoising. */
typedef struct use {
    double wall;             /* seconds */
    double busy[RESOURCES];  /* of them */
    double work[RESOURCES];  /* bytes, or floating-point operations */
    double roof[RESOURCES];  /* the larger of its assumed and its measured rate; 0: unknown */
    double stall[3];         /* compute waited for disk, decode, copy */
    resource bound;          /* the busiest */
} use;

/* wall is 0 when the trace has no denoising phase. */
use use_of(const recording *t);

double use_rate(const use *u, resource r);    /* averaged over the wall time */
double use_reached(const use *u, resource r); /* share of the roof, 0..1; 0 without a roof */

#endif
