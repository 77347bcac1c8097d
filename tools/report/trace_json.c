/* tools/report/trace_json.c -- a run as Chrome trace events, written as they are read. */
#include "tools/report/trace_json.h"

#include "engine/base/try.h"
#include "tools/files/json_values.h"
#include "tools/files/text_out.h"
#include "tools/report/memory_owners.h"
#include "tools/report/report_fields.h"

#include <inttypes.h>
#include <stdio.h>

enum {
    PID = 1,
    MOST_PER_LANE = 16, /* spans of one lane drawn side by side */
    TIDS = 16           /* apart, so that each lane has room for them */
};

const trace_lane trace_lanes[REFINE_LANES] = {
    [REFINE_LANE_PHASE] = { "phase", "phase", "phases", NULL, 1 * TIDS },
    [REFINE_LANE_STEP] = { "step", "step", "steps", NULL, 2 * TIDS },
    [REFINE_LANE_COMPUTE] = { "compute", "chunk", "compute", NULL, 3 * TIDS },
    [REFINE_LANE_STALL_DISK] = { "stall-disk", "chunk", "compute", "waits for disk", 3 * TIDS },
    [REFINE_LANE_STALL_DECODE] = { "stall-decode", "chunk", "compute", "waits for decode",
                                   3 * TIDS },
    [REFINE_LANE_STALL_COPY] = { "stall-copy", "chunk", "compute", "waits for copy", 3 * TIDS },
    [REFINE_LANE_COPY] = { "copy", "chunk", "copy", NULL, 4 * TIDS },
    [REFINE_LANE_DECODE] = { "decode", "chunk", "decode", NULL, 5 * TIDS },
    [REFINE_LANE_DISK] = { "disk", "chunk", "disk", NULL, 6 * TIDS },
};

const char *const trace_phases[TRACE_PHASES] = {
    "opening", "encoding", "text", "denoising", "decoding", "finished",
};
const char *const trace_tiers[3] = { "disk", "host", "device" };

/* ---- what the report needs ---- */

static int write_json_dump(const char *s, size_t len, void *o)
{
    text_out_bytes(o, s, len);
    return 0;
}

/* `v` is stolen. */
static refine_status write_json_value(text_out *o, json_t *v)
{
    const bool failed = !v || json_dump_callback(v, write_json_dump, o,
                                                 JSON_COMPACT | JSON_REAL_PRECISION(9)) != 0;
    json_decref(v);
    return failed ? refine_fail(o->err, REFINE_ENOMEM, "out of memory") : REFINE_OK;
}

static void write_trace_chunk(text_out *o, const refine_chunk *c)
{
    text_out_put(o, "{\"name\":");
    text_out_json(o, c->name);
    text_out_put(o,
                 ",\"phase\":\"%s\",\"tier\":\"%s\",\"bytes\":%" PRIu64 ",\"stored_bytes\":%" PRIu64
                 ",\"flops\":%.9g,\"seconds\":%.9g}",
                 trace_phases[c->phase], trace_tiers[c->tier], c->bytes, c->stored_bytes,
                 finite_or_zero(c->flops), finite_or_zero(c->seconds));
}

static refine_status write_trace_chunks(text_out *o, const refine_engine *e)
{
    const int n = refine_chunks(e);
    refine_chunk c;
    text_out_put(o, "\"chunks\":[");
    for (int i = 0; i < n; i++) {
        TRY(refine_get_chunk(e, i, &c));
        text_out_put(o, i ? ",\n" : "\n");
        write_trace_chunk(o, &c);
    }
    text_out_put(o, "]");
    return REFINE_OK;
}

static refine_status write_trace_summary(text_out *o, const refine_engine *e,
                                         const refine_report *r, const run_record *run, size_t lost)
{
    text_out_put(o, "\"refine\":{\"format\":%d,\"lost\":%zu,\n\"result\":", TRACE_FORMAT, lost);
    TRY(write_json_value(o, result_object(r, run)));
    text_out_put(o, ",\n\"rates\":{\"assumed\":");
    TRY(write_json_value(o, report_fields_write(json_object(), rate_fields, &r->rates, 0)));
    text_out_put(o, ",\"measured\":");
    TRY(write_json_value(o, report_fields_write(json_object(), rate_fields, &r->measured, 0)));
    text_out_put(o, "},\"wrong_rate\":");
    text_out_json(o, r->mispredicted_rate ? r->mispredicted_rate : "");
    text_out_put(o, ",\n");
    TRY(write_trace_chunks(o, e));
    text_out_put(o, "}");
    return REFINE_OK;
}

/* ---- spans ---- */

/* When each of a lane's threads is free again.  Viewers nest spans of one thread that overlap, as
 * if one called the other. */
typedef struct lanes {
    double free_at[REFINE_LANES][MOST_PER_LANE];
} lanes;

/* Stalls lie between spans of compute, on its thread. */
static refine_lane thread_of(refine_lane l)
{
    return trace_lanes[l].tid == trace_lanes[REFINE_LANE_COMPUTE].tid ? REFINE_LANE_COMPUTE : l;
}

static int take_thread(lanes *l, const refine_event *v)
{
    double *free_at = l->free_at[thread_of(v->lane)];
    int best = 0;
    for (int i = 0; i < MOST_PER_LANE && free_at[best] > v->begin; i++)
        if (free_at[i] <= v->begin || free_at[i] < free_at[best])
            best = i;
    free_at[best] = v->end > free_at[best] ? v->end : free_at[best];
    return trace_lanes[v->lane].tid + best;
}

static void write_span_name(text_out *o, const refine_engine *e, const refine_event *v)
{
    refine_chunk c;
    const char *fixed = trace_lanes[v->lane].span;
    if (fixed)
        text_out_put(o, "\"%s\"", fixed);
    else if (v->lane == REFINE_LANE_STEP)
        text_out_put(o, "\"step %d\"", v->chunk + 1);
    else if (v->lane == REFINE_LANE_PHASE)
        text_out_put(o, "\"%s\"", trace_phases[v->chunk]);
    else
        text_out_json(o, refine_get_chunk(e, v->chunk, &c) == REFINE_OK ? c.name : "");
}

static void write_trace_span(text_out *o, const refine_engine *e, lanes *l, const refine_event *v)
{
    const trace_lane *lane = &trace_lanes[v->lane];
    text_out_put(o, ",\n{\"name\":");
    write_span_name(o, e, v);
    text_out_put(o,
                 ",\"cat\":\"%s\",\"ph\":\"X\",\"ts\":%.3f,\"dur\":%.3f,\"pid\":%d,\"tid\":%d,"
                 "\"args\":{\"%s\":%d",
                 lane->cat, v->begin * 1e6, (v->end - v->begin) * 1e6, PID, take_thread(l, v),
                 lane->key, v->chunk);
    if (v->bytes)
        text_out_put(o, ",\"bytes\":%" PRIu64, v->bytes);
    text_out_put(o, "}}");
}

static void write_thread_names(text_out *o, const lanes *l)
{
    for (int i = 0; i < REFINE_LANES; i++) {
        if (!trace_lanes[i].cat || thread_of((refine_lane)i) != (refine_lane)i)
            continue;
        for (int k = 0; k < MOST_PER_LANE && (k == 0 || l->free_at[i][k] > 0); k++) {
            const int tid = trace_lanes[i].tid + k;
            text_out_put(o,
                         ",\n{\"name\":\"thread_name\",\"ph\":\"M\",\"pid\":%d,\"tid\":%d,\"args\":"
                         "{\"name\":\"%s\"}},\n{\"name\":\"thread_sort_index\",\"ph\":\"M\","
                         "\"pid\":%d,\"tid\":%d,\"args\":{\"sort_index\":%d}}",
                         PID, tid, trace_lanes[i].title, PID, tid, tid);
        }
    }
}

/* ---- memory ---- */

static void write_memory_counter(text_out *o, const char *what, double at,
                                 const memory_owner owners[], const uint64_t bytes[], int n)
{
    text_out_put(o, ",\n{\"name\":\"%s memory\",\"ph\":\"C\",\"ts\":%.3f,\"pid\":%d,\"args\":{",
                 what, at * 1e6, PID);
    for (int i = 0; i < n; i++)
        text_out_put(o, "%s\"%s\":%" PRIu64, i ? "," : "", owners[i].key, bytes[i]);
    text_out_put(o, "}}");
}

static void write_device_counter(text_out *o, const refine_memory *m, refine_phase phase, double at,
                                 uint64_t activations)
{
    uint64_t bytes[DEVICE_OWNERS];
    owners_of_device(bytes, m, phase, activations);
    write_memory_counter(o, "device", at, device_owners, bytes, DEVICE_OWNERS);
}

static void write_host_counter(text_out *o, const refine_memory *m, double at)
{
    uint64_t bytes[HOST_OWNERS];
    owners_of_host(bytes, m);
    write_memory_counter(o, "host", at, host_owners, bytes, HOST_OWNERS);
}

/* ---- the file ---- */

static void write_trace_events(text_out *o, const refine_engine *e, const refine_report *r,
                               const refine_event *v, size_t n)
{
    lanes l = { 0 };
    double end = 0;

    text_out_put(o,
                 "\"traceEvents\":[\n{\"name\":\"process_name\",\"ph\":\"M\",\"pid\":%d,\"args\":"
                 "{\"name\":\"refine-lowmem\"}}",
                 PID);
    write_host_counter(o, &r->memory, 0);
    write_device_counter(o, &r->memory, REFINE_OPENING, 0, 0);
    for (size_t i = 0; i < n; i++) {
        if (v[i].lane == REFINE_LANE_ACTIVATIONS)
            write_device_counter(o, &r->memory, (refine_phase)v[i].chunk, v[i].begin, v[i].bytes);
        else
            write_trace_span(o, e, &l, &v[i]);
        end = v[i].end > end ? v[i].end : end;
    }
    write_host_counter(o, &r->memory, end);
    write_thread_names(o, &l);
    text_out_put(o, "\n]}\n");
}

refine_status trace_json_save(const char *path, const refine_engine *e, const run_record *run,
                              refine_error *err)
{
    text_out o;
    size_t n, lost;
    refine_report base = REFINE_REPORT_INIT, r = REFINE_REPORT_INIT;
    const refine_event *v = refine_trace(e, &n, &lost);

    r.base = &base;
    refine_get_report(e, &r);
    TRY(text_out_open(&o, path, err));
    text_out_put(&o, "{\"displayTimeUnit\":\"ms\",\n");
    const refine_status st = write_trace_summary(&o, e, &r, run, lost);
    if (st != REFINE_OK) {
        text_out_abandon(&o);
        return st;
    }
    text_out_put(&o, ",\n");
    write_trace_events(&o, e, &r, v, n);
    return text_out_commit(&o);
}
