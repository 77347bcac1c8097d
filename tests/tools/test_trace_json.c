/* tests/tools/test_trace_json.c -- the trace of a real run: JSON, drawable, and read back whole. */
#include "tests/support/temp_file.h"
#include "tests/support/tiny_pack.h"
#include "tools/files/json_file.h"
#include "tools/memprof/trace_read.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SIDE = 64, STEPS = 3 };

typedef struct trace_bench {
    char pack[TEMP_NAME], file[TEMP_NAME];
    uint8_t pixels[SIDE * SIDE * 3];
    refine_job job;
    refine_engine *e;
} trace_bench;

static void trace_json_bench_open(trace_bench *b)
{
    refine_options o = REFINE_OPTIONS_INIT;
    refine_error err = { 0 };
    tiny_pack(b->pack, sizeof b->pack, "");
    temp_file(b->file, ".json");
    memset(b->pixels, 100, sizeof b->pixels);
    b->job = (refine_job)REFINE_JOB_INIT;
    b->job.prompt = "\"cup\"";
    b->job.width = b->job.height = SIDE;
    b->job.rgb_in = b->job.rgb_out = b->pixels;
    b->job.steps = 10;
    o.pack_path = b->pack;
    o.trace = true;
    cr_assert_eq(refine_open(&b->e, &o, &b->job, &err), REFINE_OK, "%s", err.text);
    cr_assert_eq(refine_run(b->e, &b->job, &err), REFINE_OK, "%s", err.text);
}

static void trace_json_bench_close(trace_bench *b)
{
    refine_close(b->e);
    (void)unlink(b->pack);
    (void)unlink(b->file);
}

static void save_bench_trace(trace_bench *b)
{
    const run_record run = {
        .output = "out.png", .pack = b->pack, .prompt = b->job.prompt, .job = &b->job
    };
    refine_error err = { 0 };
    cr_assert_eq(trace_json_save(b->file, b->e, &run, &err), REFINE_OK, "%s", err.text);
}

Test(tools_trace_json, is_read_back_whole)
{
    trace_bench b;
    recording t;
    size_t n, lost, spans = 0;
    refine_error err = { 0 };
    trace_json_bench_open(&b);
    save_bench_trace(&b);
    cr_assert_eq(trace_read(&t, b.file, &err), REFINE_OK, "%s", err.text);
    const refine_event *v = refine_trace(b.e, &n, &lost);
    for (size_t i = 0; i < n; i++)
        spans += v[i].lane != REFINE_LANE_ACTIVATIONS;
    cr_assert_gt(spans, 0u);
    cr_assert_eq(t.n_events, spans);
    cr_assert_eq(t.lost, lost);
    cr_assert_eq(t.n_chunks, refine_chunks(b.e));
    cr_assert_eq(t.report.steps_run, STEPS);
    cr_assert_eq(t.lane_at[REFINE_LANE_STEP + 1] - t.lane_at[REFINE_LANE_STEP], STEPS);
    for (int i = 0; i < t.n_chunks; i++) {
        refine_chunk c;
        cr_assert_eq(refine_get_chunk(b.e, i, &c), REFINE_OK);
        cr_assert_str_eq(c.name, t.chunk[i].name);
        cr_assert_eq(c.bytes, t.chunk[i].bytes);
        cr_assert_eq(c.tier, t.chunk[i].tier);
    }
    trace_free(&t);
    trace_json_bench_close(&b);
}

Test(tools_trace_json, never_shows_more_memory_than_was_planned)
{
    trace_bench b;
    recording t;
    trace_json_bench_open(&b);
    save_bench_trace(&b);
    cr_assert_eq(trace_read(&t, b.file, NULL), REFINE_OK);
    cr_assert_gt(t.device.n, 1u);
    for (size_t i = 0; i < t.device.n; i++) {
        uint64_t sum = 0;
        for (int k = 0; k < DEVICE_OWNERS; k++)
            sum += t.device.v[i].bytes[k];
        cr_assert_leq(sum, t.report.memory.device_planned, "at %g s", t.device.v[i].at);
    }
    trace_free(&t);
    trace_json_bench_close(&b);
}

static double number_of(const json_t *o, const char *key)
{
    return json_number_value(json_object_get(o, key));
}

/* Viewers take spans of one thread that overlap for calls of each other. */
Test(tools_trace_json, keeps_spans_of_one_thread_apart)
{
    enum { TIDS_MAX = 256 };
    trace_bench b;
    json_t *root;
    double until[TIDS_MAX] = { 0 };
    trace_json_bench_open(&b);
    save_bench_trace(&b);
    cr_assert_eq(json_file_load(&root, b.file, NULL), REFINE_OK);
    const json_t *events = json_object_get(root, "traceEvents");
    for (size_t i = 0; i < json_array_size(events); i++) {
        const json_t *v = json_array_get(events, i);
        const int tid = (int)number_of(v, "tid");
        if (strcmp(json_string_value(json_object_get(v, "ph")), "X") != 0)
            continue;
        cr_assert(tid > 0 && tid < TIDS_MAX);
        cr_assert_geq(number_of(v, "ts"), until[tid] - 0.002);
        until[tid] = number_of(v, "ts") + number_of(v, "dur");
    }
    json_decref(root);
    trace_json_bench_close(&b);
}

Test(tools_trace_json, leaves_nothing_when_it_cannot_be_written)
{
    trace_bench b;
    refine_error err = { 0 };
    trace_json_bench_open(&b);
    const run_record run = { .output = "out.png", .pack = b.pack, .job = &b.job };
    cr_assert_eq(trace_json_save("/nowhere/t.json", b.e, &run, &err), REFINE_EIO);
    cr_assert_not_null(strstr(err.text, "/nowhere/t.json"));
    trace_json_bench_close(&b);
}
