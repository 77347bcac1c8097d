/* tools/memprof/memprof_curve.h -- what a step would take under each ceiling on device memory. */
#ifndef REFINE_MEMPROF_CURVE_H
#define REFINE_MEMPROF_CURVE_H

#include <refine/refine.h>

enum { CURVE_POINTS = 12 };

typedef struct curve_point {
    uint64_t vram, resident; /* bytes: the ceiling; weights kept under it */
    double step, stall;      /* predicted: seconds, and the share of them spent waiting */
} curve_point;

typedef struct curve {
    curve_point v[CURVE_POINTS]; /* by rising vram; a ceiling that cannot be met is left out */
    int n;
    refine_report all; /* the plan with every weight resident */
} curve;

/* From the smallest ceiling that would do to that under which every weight is resident, on a
 * geometric scale; vram_bytes of the options is not used. */
refine_status curve_of(curve *out, const refine_options *o, const refine_job *j,
                       refine_error *err);

#endif
