/* tools/memprof/trace_read.h -- a trace of trace_json.h, read back.  Nothing in the file is
 * believed. */
#ifndef REFINE_TRACE_READ_H
#define REFINE_TRACE_READ_H

#include "tools/report/memory_owners.h"
#include "tools/report/trace_json.h"

enum { TRACE_FILE_MAX = 1 << 29, TRACE_CHUNKS_MAX = 1 << 20 };

/* Bytes in use from `at` on. */
typedef struct trace_sample {
    double at;
    uint64_t bytes[DEVICE_OWNERS];
} trace_sample;

typedef struct trace_samples {
    trace_sample *v; /* by time */
    size_t n, room;
} trace_samples;

/* Strings are the JSON's. */
typedef struct recording {
    json_t *refine, *result; /* the member of that name; its result */
    refine_report report;    /* as far as the result tells */
    double *step;            /* the report's */
    refine_chunk *chunk;
    int n_chunks;
    refine_event *event; /* by lane, then begin; chunks, phases and steps are in range */
    size_t n_events, room, lost;
    size_t lane_at[REFINE_LANES + 1]; /* events of lane l: [lane_at[l], lane_at[l + 1]) */
    trace_samples device, host;
    double end; /* of the last event, seconds since open */
} recording;

/* REFINE_EFORMAT: is no such trace.  REFINE_EIO: cannot be read.  On failure nothing needs
 * closing. */
refine_status trace_read(recording *t, const char *path, refine_error *err);
void trace_free(recording *t);

#endif
