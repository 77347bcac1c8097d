/* tools/memprof/memprof_charts.h -- charts as HTML around SVG that may be stretched.
 *
 * An SVG here holds shapes and no text: it is as wide as the page lets it be, and what is
 * written beside it keeps its size.  Every chart says in words what it shows.
 */
#ifndef REFINE_MEMPROF_CHARTS_H
#define REFINE_MEMPROF_CHARTS_H

#include "tools/memprof/memprof_curve.h"
#include "tools/memprof/memprof_timeline.h"
#include "tools/files/text_out.h"

enum { CHART_COLUMNS = 480 };

/* Memory by owner, stacked; a line at `planned`. */
typedef struct chart_memory {
    const char *title, *css; /* classes "CSS0", "CSS1", ... colour the owners */
    const memory_owner *owners;
    const uint64_t (*bytes)[DEVICE_OWNERS];
    int n_owners;
    uint64_t planned, peak;
} chart_memory;
void charts_memory(text_out *o, const chart_memory *c, const timeline *t);

/* Disk, decode, copy and compute one above the other, phases or steps on top. */
void charts_lanes(text_out *o, const recording *t, const timeline *l, const char *title);

/* Seconds a step against the ceiling; `here`: the ceiling of this run. */
void charts_curve(text_out *o, const curve *c, uint64_t here);

#endif
