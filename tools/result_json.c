/* tools/result_json.c -- a report for scripts and for people. */
#include "tools/result_json.h"

#include "tools/new_file.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* Steals `v`; a failure anywhere is remembered by the caller's check of the whole. */
static void set(json_t *o, const char *key, json_t *v)
{
    (void)json_object_set_new(o, key, v);
}

static json_t *bytes(uint64_t v) { return json_integer((json_int_t)v); }

static json_t *text(const char *s) { return json_string(s ? s : ""); }

static json_t *seconds_object(const refine_report *r)
{
    json_t *o = json_object(), *steps = json_array();
    for (int i = 0; i < r->steps_run; i++)
        (void)json_array_append_new(steps, json_real(r->step[i]));
    set(o, "total", json_real(r->total));
    set(o, "open", json_real(r->open));
    set(o, "text", json_real(r->text));
    set(o, "vae_encode", json_real(r->vae_encode));
    set(o, "unet", json_real(r->unet));
    set(o, "vae_decode", json_real(r->vae_decode));
    set(o, "steps", steps);
    set(o, "first_step", json_real(r->first_step));
    set(o, "step_median", json_real(r->step_median));
    return o;
}

static json_t *memory_object(const refine_report *r, bool ran)
{
    const refine_memory *m = &r->memory;
    json_t *o = json_object();
    set(o, "device_planned", bytes(m->device_planned));
    set(o, "device_limit", bytes(m->device_limit));
    set(o, "host_planned", bytes(m->host_planned));
    set(o, "host_limit", bytes(m->host_limit));
    set(o, "rss_planned", bytes(m->rss_planned));
    if (ran) {
        set(o, "device_peak", bytes(m->device_peak));
        set(o, "host_peak", bytes(m->host_peak));
        set(o, "rss_peak", bytes(m->rss_peak));
    }
    set(o, "ring", bytes(m->ring));
    set(o, "resident", bytes(m->resident));
    set(o, "activations", bytes(m->activations));
    set(o, "workspace", bytes(m->workspace));
    set(o, "vectors", bytes(m->vectors));
    set(o, "staging", bytes(m->staging));
    set(o, "smallest_device", bytes(m->smallest_device));
    set(o, "smallest_host", bytes(m->smallest_host));
    return o;
}

static json_t *io_object(const refine_report *r, bool ran)
{
    json_t *o = json_object();
    set(o, "disk_bytes_per_step", bytes(r->disk_bytes_per_step));
    set(o, "copy_bytes_per_step", bytes(r->copy_bytes_per_step));
    if (ran) {
        set(o, "disk_bytes", bytes(r->disk_bytes));
        set(o, "disk_rate", json_real(r->disk_rate));
        set(o, "copy_rate", json_real(r->copy_rate));
        set(o, "reader", text(r->reader));
    }
    return o;
}

static json_t *stall_object(const refine_report *r)
{
    const double stalled = r->stall_disk + r->stall_decode + r->stall_copy;
    json_t *o = json_object();
    set(o, "share", json_real(r->total > 0 ? stalled / r->total : 0));
    set(o, "disk", json_real(r->stall_disk));
    set(o, "decode", json_real(r->stall_decode));
    set(o, "copy", json_real(r->stall_copy));
    return o;
}

static json_t *run_object(const refine_report *r, const run_record *run)
{
    const refine_job *j = run->job;
    char hash[17];
    json_t *o = json_object();
    snprintf(hash, sizeof hash, "%016" PRIx64, r->source_hash);
    set(o, "pack", text(run->pack));
    set(o, "source", text(r->source_name));
    set(o, "source_hash", text(hash));
    set(o, "input", text(run->input));
    set(o, "prompt", text(run->prompt));
    set(o, "negative", text(run->negative));
    set(o, "seed", bytes(j->seed));
    set(o, "rng", text(j->rng == REFINE_RNG_PHILOX ? "philox" : "torch"));
    set(o, "scheduler", text("euler"));
    set(o, "steps", json_integer(j->steps));
    if (j->denoising_start > 0)
        set(o, "denoising_start", json_real(j->denoising_start));
    else
        set(o, "strength", json_real(j->strength));
    set(o, "guidance", json_real((double)j->guidance));
    set(o, "aesthetic_score", json_real((double)j->aesthetic_score));
    set(o, "negative_aesthetic_score", json_real((double)j->negative_aesthetic_score));
    return o;
}

refine_status result_print_json(FILE *out, const refine_report *r, const run_record *run,
                                refine_error *err)
{
    const bool ran = run->output != NULL;
    json_t *o = json_object(), *predicted = json_object();

    set(o, "version", text(refine_version()));
    if (ran)
        set(o, "output", text(run->output));
    set(o, "device", text(r->device));
    set(o, "device_model", text(r->device_model));
    set(o, "precision", text(r->precision));
    set(o, "width", json_integer(r->width));
    set(o, "height", json_integer(r->height));
    set(o, "images", json_integer(1));
    set(o, "steps_run", json_integer(r->steps_run));
    if (ran)
        set(o, "seconds", seconds_object(r));
    set(o, "memory", memory_object(r, ran));
    set(o, "io", io_object(r, ran));
    if (ran)
        set(o, "stall", stall_object(r));
    if (r->predicted_step > 0) {
        set(predicted, "step", json_real(r->predicted_step));
        set(predicted, "unet", json_real(r->predicted_unet));
    }
    set(o, "predicted", predicted);
    set(o, "run", run_object(r, run));

    char *dump = json_dumps(o, JSON_INDENT(1) | JSON_REAL_PRECISION(9));
    json_decref(o);
    if (!dump)
        return refine_fail(err, REFINE_ENOMEM, "out of memory");
    const int failed = fprintf(out, "%s\n", dump) < 0 || fflush(out) != 0;
    free(dump);
    return failed ? refine_fail(err, REFINE_EIO, "standard output: cannot write") : REFINE_OK;
}

/* ---- trace ---- */

/* One span of `seconds` behind the last; moves *at. */
static void span(json_t *events, const char *name, double *at, double seconds)
{
    if (seconds <= 0)
        return;
    (void)json_array_append_new(events, json_pack("{s:s, s:s, s:f, s:f, s:i, s:i}", "name", name,
                                                  "ph", "X", "ts", *at * 1e6, "dur", seconds * 1e6,
                                                  "pid", 1, "tid", 1));
    *at += seconds;
}

refine_status result_save_trace(const char *path, const refine_report *r, refine_error *err)
{
    json_t *events = json_array();
    double at = 0;
    new_file f;

    span(events, "open", &at, r->open);
    span(events, "encode", &at, r->vae_encode);
    span(events, "text", &at, r->text);
    for (int i = 0; i < r->steps_run; i++) {
        char name[32];
        snprintf(name, sizeof name, "step %d", i + 1);
        span(events, name, &at, r->step[i]);
    }
    span(events, "decode", &at, r->vae_decode);
    json_t *o = json_pack("{s:o}", "traceEvents", events);
    char *dump = o ? json_dumps(o, JSON_INDENT(1)) : NULL;
    json_decref(o);
    if (!dump)
        return refine_fail(err, REFINE_ENOMEM, "out of memory");
    refine_status st = new_file_open(&f, path, true, err);
    if (st == REFINE_OK) {
        st = new_file_write(&f, dump, strlen(dump), 0, err);
        if (st == REFINE_OK)
            st = new_file_commit(&f, err);
        else
            new_file_abandon(&f);
    }
    free(dump);
    return st;
}

/* ---- for people ---- */

static double mib(uint64_t v) { return (double)v / 1048576.0; }

void result_print_plan(FILE *out, const refine_report *r)
{
    const refine_memory *m = &r->memory;
    fprintf(out, "device   %s, %s, %d threads\n", r->device, r->precision, r->threads);
    fprintf(out, "picture  %d x %d, %d steps\n", r->width, r->height, r->steps_run);
    fprintf(out, "device memory   %8.1f MiB of %.1f  (smallest that would do: %.1f)\n",
            mib(m->device_planned), mib(m->device_limit), mib(m->smallest_device));
    fprintf(out, "  resident weights %9.1f\n  ring             %9.1f\n  activations      %9.1f\n"
                 "  workspace        %9.1f\n  norms and biases %9.1f\n",
            mib(m->resident), mib(m->ring), mib(m->activations), mib(m->workspace),
            mib(m->vectors));
    fprintf(out, "host memory     %8.1f MiB of %.1f  (smallest that would do: %.1f)\n",
            mib(m->host_planned), mib(m->host_limit), mib(m->smallest_host));
    fprintf(out, "whole process   %8.1f MiB\n", mib(m->rss_planned));
    fprintf(out, "streamed per step %7.1f MiB\n", mib(r->disk_bytes_per_step));
}

void result_print_run(FILE *out, const refine_report *r)
{
    const refine_memory *m = &r->memory;
    const double stalled = r->stall_disk + r->stall_decode + r->stall_copy;
    fprintf(out, "%d steps in %.1f s, %.2f s a step; text %.1f, encode %.1f, decode %.1f; in all "
                 "%.1f s\n",
            r->steps_run, r->unet, r->step_median, r->text, r->vae_encode, r->vae_decode,
            r->open + r->total);
    fprintf(out, "device memory: planned %.1f MiB, peak %.1f; host: planned %.1f, peak %.1f; "
                 "process: planned %.1f, peak %.1f\n",
            mib(m->device_planned), mib(m->device_peak), mib(m->host_planned), mib(m->host_peak),
            mib(m->rss_planned), mib(m->rss_peak));
    fprintf(out, "read %.2f GB at %.2f GB/s by %s; stalled %.1f %% of the time\n",
            (double)r->disk_bytes / 1e9, r->disk_rate / 1e9, r->reader,
            r->total > 0 ? 100.0 * stalled / r->total : 0.0);
}
