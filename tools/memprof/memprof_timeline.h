/* tools/memprof/memprof_timeline.h -- a stretch of a run, gathered into as many columns as are
 * drawn.
 *
 * However many events a trace has, a chart is made of these.
 */
#ifndef REFINE_MEMPROF_TIMELINE_H
#define REFINE_MEMPROF_TIMELINE_H

#include "tools/memprof/trace_read.h"

enum { TIMELINE_LANES = REFINE_LANE_STALL_COPY + 1, TIMELINE_COLUMNS_MAX = 1024 };

typedef struct timeline {
    double from, to;
    int columns;
    double share[TIMELINE_LANES][TIMELINE_COLUMNS_MAX]; /* of a column's time the lane is busy */
    /* What is in use when the most is, in a column. */
    uint64_t device[TIMELINE_COLUMNS_MAX][DEVICE_OWNERS];
    uint64_t host[TIMELINE_COLUMNS_MAX][DEVICE_OWNERS];
} timeline;

/* The caller's to mem_free; NULL when out of memory. */
timeline *timeline_of(const recording *t, double from, double to, int columns);

/* Seconds of [from, to] in which a lane does anything; bytes of what begins there. */
double timeline_busy(const recording *t, refine_lane lane, double from, double to);
uint64_t timeline_bytes(const recording *t, refine_lane lane, double from, double to);

/* The stretch of a phase, or of a step; false when the trace has none. */
bool timeline_find(const recording *t, refine_lane lane, int which, double *from, double *to);

/* The most bytes that were in use at once, by the samples. */
uint64_t timeline_peak(const trace_samples *s);

#endif
