/* tools/report/trace_json.h -- a run as Chrome trace events, which Perfetto and chrome://tracing
 * show.
 *
 *     { "displayTimeUnit": "ms",
 *       "refine": { "format": 1, "result": the object of --json, "rates", "chunks", "lost", ... },
 *       "traceEvents": [ one per line ] }
 *
 * A span is {"name", "cat", "ph": "X", "ts", "dur", "pid", "tid", "args": {KEY, "bytes"}} in
 * microseconds, where cat and KEY are those of its lane below.  A lane whose spans overlap, such
 * as disk with several reads under way, takes several tids.  Memory is {"name": "device memory"
 * or "host memory", "ph": "C", "ts", "args": {OWNER: bytes, ...}}, each owner of
 * memory_owners.h.
 */
#ifndef REFINE_TRACE_JSON_H
#define REFINE_TRACE_JSON_H

#include "tools/report/result_json.h"
#include <refine/refine.h>

enum { TRACE_FORMAT = 1, TRACE_PHASES = 6 };

typedef struct trace_lane {
    const char *cat, *key;
    const char *title; /* of the thread; lanes of one title share it */
    const char *span;  /* name of its spans; NULL: the chunk's */
    int tid;
} trace_lane;

extern const trace_lane trace_lanes[REFINE_LANES]; /* cat NULL: not a lane of spans */
extern const char *const trace_phases[TRACE_PHASES];
extern const char *const trace_tiers[3];

/* The last run of `e`.  Complete or not at all; in bounded memory. */
refine_status trace_json_save(const char *path, const refine_engine *e, const run_record *run,
                              refine_error *err);

#endif
