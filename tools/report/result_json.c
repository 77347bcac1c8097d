/* tools/report/result_json.c -- a report for scripts and for people. */
#include "tools/report/result_json.h"

#include "tools/files/figures.h"
#include "tools/files/json_values.h"

#include <inttypes.h>
#include <jansson.h>
#include <stddef.h>
#include <stdlib.h>

/* Every object is packed in one go: json_pack returns NULL when anything in it failed, and
 * steals what "o" stands for in any case. */

/* The decimal number that a float was given as: 3.4, not 3.4000001. */
static double shortest_decimal(float v)
{
    char digits[32];
    snprintf(digits, sizeof digits, "%.7g", (double)v);
    return strtod(digits, NULL);
}

/* `more` into `o`, both stolen; NULL if either is. */
static json_t *merge_json_objects(json_t *o, json_t *more)
{
    const bool whole_one = o && more && json_object_update(o, more) == 0;
    json_decref(more);
    if (whole_one)
        return o;
    json_decref(o);
    return NULL;
}

static json_t *seconds_object(const refine_report *r)
{
    json_t *steps = json_array();
    for (int i = 0; i < r->steps_run; i++)
        if (json_array_append_new(steps, json_real(r->step[i])) != 0) {
            json_decref(steps);
            return NULL;
        }
    return json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:o, s:f, s:f}", "total", r->total, "open",
                     r->open, "text", r->text, "vae_encode", r->vae_encode, "unet", r->unet,
                     "vae_decode", r->vae_decode, "steps", steps, "first_step", r->first_step,
                     "step_median", r->step_median);
}

#define MEMORY_FIELD(name, ran)                                                                    \
    {                                                                                              \
#name, offsetof(refine_memory, name), ran                                                  \
    }
const memory_field memory_fields[MEMORY_FIELDS] = {
    MEMORY_FIELD(device_planned, false),  MEMORY_FIELD(device_limit, false),
    MEMORY_FIELD(device_overhead, false), MEMORY_FIELD(device_peak, true),
    MEMORY_FIELD(host_planned, false),    MEMORY_FIELD(host_limit, false),
    MEMORY_FIELD(host_peak, true),        MEMORY_FIELD(rss_planned, false),
    MEMORY_FIELD(rss_peak, true),         MEMORY_FIELD(ring, false),
    MEMORY_FIELD(resident, false),        MEMORY_FIELD(activations, false),
    MEMORY_FIELD(prompt, false),          MEMORY_FIELD(workspace, false),
    MEMORY_FIELD(vectors, false),         MEMORY_FIELD(staging, false),
    MEMORY_FIELD(cached, false),          MEMORY_FIELD(spill_host, false),
    MEMORY_FIELD(spill_file, false),      MEMORY_FIELD(smallest_device, false),
    MEMORY_FIELD(smallest_host, false),
};

uint64_t *memory_field_of(refine_memory *m, const memory_field *f)
{
    return (uint64_t *)(void *)((char *)m + f->offset);
}

static json_t *memory_object(const refine_report *r, bool ran)
{
    refine_memory m = r->memory;
    json_t *o = json_object();
    for (int i = 0; i < MEMORY_FIELDS; i++) {
        const memory_field *f = &memory_fields[i];
        if (f->ran && !ran)
            continue;
        if (json_object_set_new(
                o, f->key, json_integer(saturate_json_integer(*memory_field_of(&m, f)))) != 0) {
            json_decref(o);
            return NULL;
        }
    }
    return o;
}

static json_t *io_object(const refine_report *r, bool ran)
{
    json_t *o = json_pack("{s:I, s:I}", "disk_bytes_per_step",
                          saturate_json_integer(r->disk_bytes_per_step), "copy_bytes_per_step",
                          saturate_json_integer(r->copy_bytes_per_step));
    if (!ran)
        return o;
    return merge_json_objects(
        o, json_pack("{s:I, s:f, s:f, s:o}", "disk_bytes", saturate_json_integer(r->disk_bytes),
                     "disk_rate", finite_or_zero(r->disk_rate), "copy_rate",
                     finite_or_zero(r->copy_rate), "reader", clean_json_text(r->reader)));
}

static json_t *stall_object(const refine_report *r)
{
    const double stalled = r->stall_disk + r->stall_decode + r->stall_copy;
    return json_pack("{s:f, s:f, s:f, s:f}", "share", r->total > 0 ? stalled / r->total : 0.0,
                     "disk", r->stall_disk, "decode", r->stall_decode, "copy", r->stall_copy);
}

json_t *result_rates(const refine_rates *r)
{
    return json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "disk", finite_or_zero(r->disk),
                     "decode", finite_or_zero(r->decode), "copy", finite_or_zero(r->copy), "linear",
                     finite_or_zero(r->linear), "conv", finite_or_zero(r->conv), "attention",
                     finite_or_zero(r->attention), "memory", finite_or_zero(r->memory));
}

static json_t *slowest_object(const refine_report *r)
{
    json_t *o = json_pack("{s:f}", "times", finite_or_zero(r->slow_step));
    if (!r->slow_part[0])
        return o;
    return merge_json_objects(o, json_pack("{s:s, s:f}", "part", r->slow_part, "part_times",
                                           finite_or_zero(r->slow_part_by)));
}

static json_t *predicted_object(const refine_report *r, bool ran)
{
    if (!(r->predicted_step > 0))
        return json_object();
    json_t *o = json_pack("{s:f, s:f, s:f, s:o}", "step", r->predicted_step, "unet",
                          r->predicted_unet, "stall_share", r->predicted_stall, "rates",
                          result_rates(&r->rates));
    o = merge_json_objects(o, json_pack("{s:f, s:f, s:f, s:f}", "vae_encode", r->predicted_encode,
                                        "text", r->predicted_text, "vae_decode",
                                        r->predicted_decode, "total", r->predicted_total));
    if (!ran)
        return o;
    return merge_json_objects(o,
                              json_pack("{s:f, s:s, s:o, s:o}", "replayed_step", r->replayed_step,
                                        "wrong_rate", r->mispredicted_rate, "slowest_step",
                                        slowest_object(r), "measured", result_rates(&r->measured)));
}

/* JSON's integers end at 2^63 for most readers; a larger seed is a string. */
static json_t *seed_value(uint64_t seed)
{
    char digits[24];
    snprintf(digits, sizeof digits, "%" PRIu64, seed);
    return seed <= INT64_MAX ? json_integer((json_int_t)seed) : json_string(digits);
}

static json_t *run_object(const refine_report *r, const run_record *run)
{
    const refine_job *j = run->job;
    const bool partly = j->denoising_start > 0;
    char hash[17];
    snprintf(hash, sizeof hash, "%016" PRIx64, r->source_hash);
    json_t *o = json_pack("{s:o, s:o, s:s, s:o, s:o, s:o, s:o}", "pack", clean_json_text(run->pack),
                          "source", clean_json_text(r->source_name), "source_hash", hash, "input",
                          clean_json_text(run->input), "prompt", clean_json_text(run->prompt),
                          "negative", clean_json_text(run->negative), "seed", seed_value(j->seed));
    return merge_json_objects(
        o, json_pack("{s:s, s:s, s:i, s:f, s:f, s:f, s:f}", "rng",
                     j->rng == REFINE_RNG_PHILOX ? "philox" : "torch", "scheduler", "euler",
                     "steps", j->steps, partly ? "denoising_start" : "strength",
                     partly ? j->denoising_start : j->strength, "guidance",
                     shortest_decimal(j->guidance), "aesthetic_score",
                     shortest_decimal(j->aesthetic_score), "negative_aesthetic_score",
                     shortest_decimal(j->negative_aesthetic_score)));
}

json_t *result_object(const refine_report *r, const run_record *run)
{
    const bool ran = run->output != NULL;
    json_t *o = json_pack("{s:s, s:o, s:o, s:o, s:i, s:i, s:i, s:i}", "version", refine_version(),
                          "device", clean_json_text(r->device), "device_model",
                          clean_json_text(r->device_model), "precision",
                          clean_json_text(r->precision), "width", r->width, "height", r->height,
                          "images", r->images, "steps_run", r->steps_run);
    o = merge_json_objects(o, json_pack("{s:i, s:i, s:i, s:i}", "per_pass", r->per_pass,
                                        "passes_per_step", r->passes_per_step, "chunks_per_launch",
                                        r->together, "band_rows", r->band_rows));
    if (ran)
        o = merge_json_objects(o,
                               json_pack("{s:o, s:o, s:o}", "output", clean_json_text(run->output),
                                         "seconds", seconds_object(r), "stall", stall_object(r)));
    return merge_json_objects(o, json_pack("{s:o, s:o, s:o, s:o}", "memory", memory_object(r, ran),
                                           "io", io_object(r, ran), "predicted",
                                           predicted_object(r, ran), "run", run_object(r, run)));
}

refine_status result_write(FILE *out, json_t *o, refine_error *err)
{
    return print_json_object(out, o, 9, err);
}

refine_status result_print_json(FILE *out, const refine_report *r, const run_record *run,
                                refine_error *err)
{
    return result_write(out, result_object(r, run), err);
}

/* ---- for people ---- */

static void print_where(FILE *out, const refine_report *r)
{
    const refine_memory *m = &r->memory;
    if (r->passes_per_step > 1)
        fprintf(out, "a step passes over the weights %d times, with %d of %d inputs each\n",
                r->passes_per_step, r->per_pass, r->images * 2);
    if (m->spill_host + m->spill_file > 0)
        fprintf(out,
                "the VAE's feature maps leave the device: %.1f MiB in host memory, %.1f in a "
                "file\n",
                bytes_to_mib(m->spill_host), bytes_to_mib(m->spill_file));
}

void result_print_plan(FILE *out, const refine_report *r)
{
    const refine_memory *m = &r->memory;
    fprintf(out, "device   %s", r->device);
    if (r->device_model && r->device_model[0])
        fprintf(out, " (%s)", r->device_model);
    fprintf(out, ", %s", r->precision);
    if (r->threads > 1)
        fprintf(out, ", %d threads", r->threads);
    fputc('\n', out);
    if (r->note[0])
        fprintf(out, "         %s\n", r->note);
    fprintf(out, "image  %d x %d, %d steps\n", r->width, r->height, r->steps_run);
    fprintf(out, "device memory   %8.1f MiB of %.1f  (smallest that would do: %.1f)\n",
            bytes_to_mib(m->device_planned), bytes_to_mib(m->device_limit),
            bytes_to_mib(m->smallest_device));
    if (m->device_overhead > 0)
        fprintf(out, "  CUDA's own       %9.1f\n", bytes_to_mib(m->device_overhead));
    fprintf(out,
            "  resident weights %9.1f\n  ring             %9.1f\n  activations      %9.1f\n"
            "  workspace        %9.1f\n  norms and biases %9.1f\n",
            bytes_to_mib(m->resident), bytes_to_mib(m->ring), bytes_to_mib(m->activations),
            bytes_to_mib(m->workspace), bytes_to_mib(m->vectors));
    fprintf(out, "host memory     %8.1f MiB of %.1f  (smallest that would do: %.1f)\n",
            bytes_to_mib(m->host_planned), bytes_to_mib(m->host_limit),
            bytes_to_mib(m->smallest_host));
    if (m->cached > 0)
        fprintf(out, "  cached weights   %9.1f\n", bytes_to_mib(m->cached));
    fprintf(out, "whole process   %8.1f MiB\n", bytes_to_mib(m->rss_planned));
    print_where(out, r);
    fprintf(out, "per step        %8.1f MiB to the device, %.1f of them from disk\n",
            bytes_to_mib(r->copy_bytes_per_step), bytes_to_mib(r->disk_bytes_per_step));
    if (r->predicted_step > 0)
        fprintf(out,
                "predicted       %8.3g s a step, stalled %.1f %%; all steps %.3g s\n"
                "                %8.3g s in all; encode %.3g, text %.3g, decode %.3g\n",
                r->predicted_step, 100.0 * r->predicted_stall, r->predicted_unet,
                r->predicted_total, r->predicted_encode, r->predicted_text, r->predicted_decode);
}

/* Predicted against measured; which rate was wrong, if the prediction was. */
static void print_forecast(FILE *out, const refine_report *r)
{
    if (!(r->predicted_step > 0))
        return;
    fprintf(out, "a step took %.3g s, predicted %.3g s (%+.0f %%)", r->step_median,
            r->predicted_step, 100.0 * (r->step_median / r->predicted_step - 1));
    if (r->replayed_step > 0)
        fprintf(out, ", after the first one %.3g s", r->replayed_step);
    if (r->mispredicted_rate[0])
        fprintf(out, "; %s was %s than probed", r->mispredicted_rate,
                r->step_median > r->predicted_step ? "slower" : "faster");
    fputc('\n', out);
}

void result_print_slow(FILE *out, const refine_report *r)
{
    if (!r->slow_part[0])
        return;
    fprintf(out, "note: a step took %.1f times as long as predicted: ", r->slow_step);
    if (r->slow_part_by >= 1.05)
        fprintf(out, "%s is %.1f times as slow as probed\n", r->slow_part, r->slow_part_by);
    else
        fprintf(out, "most of the difference is %s\n", r->slow_part);
}

void result_print_run(FILE *out, const refine_report *r)
{
    const refine_memory *m = &r->memory;
    const double stalled = r->stall_disk + r->stall_decode + r->stall_copy;
    fprintf(out,
            "%d steps in %.1f s, %.2f s a step; text %.1f, encode %.1f, decode %.1f; in all "
            "%.1f s\n",
            r->steps_run, r->unet, r->step_median, r->text, r->vae_encode, r->vae_decode,
            r->open + r->total);
    print_forecast(out, r);
    fprintf(out,
            "device memory: planned %.1f MiB, peak %.1f; host: planned %.1f, peak %.1f; "
            "process: planned %.1f, peak %.1f\n",
            bytes_to_mib(m->device_planned), bytes_to_mib(m->device_peak),
            bytes_to_mib(m->host_planned), bytes_to_mib(m->host_peak), bytes_to_mib(m->rss_planned),
            bytes_to_mib(m->rss_peak));
    fprintf(out, "read %.2f GB: disk %.2f GB/s (%s), decoding %.2f, copying %.2f\n",
            (double)r->disk_bytes / 1e9, r->disk_rate / 1e9, r->reader, r->measured.decode / 1e9,
            r->copy_rate / 1e9);
    fprintf(out,
            "compute waited %.1f %% of the time: %.1f s for disk, %.1f decoding, %.1f copying\n",
            r->total > 0 ? 100.0 * stalled / r->total : 0.0, r->stall_disk, r->stall_decode,
            r->stall_copy);
}
