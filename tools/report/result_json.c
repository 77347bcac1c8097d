/* tools/report/result_json.c -- a report for scripts and for people. */
#include "tools/report/result_json.h"

#include "engine/base/num.h"
#include "tools/files/decimals.h"
#include "tools/files/durations.h"
#include "tools/files/figures.h"
#include "tools/files/job_pairs.h"
#include "tools/files/json_values.h"
#include "tools/report/report_fields.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>

/* json_pack returns NULL when anything in it failed, and steals what "o" stands for in any case. */

/* The decimal number that a float was given as: 3.4, not 3.4000001. */
static double shortest_decimal(float v)
{
    char digits[DECIMALS_MAX];
    return strtod(format_exact_float(digits, v), NULL);
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

/* JSON's integers end at 2^63 for most readers; a larger seed is a string. */
static json_t *seed_value(uint64_t seed)
{
    char digits[24];
    snprintf(digits, sizeof digits, "%" PRIu64, seed);
    return seed <= INT64_MAX ? json_integer((json_int_t)seed) : json_string(digits);
}

/* What only some jobs have. */
static json_t *add_rare_members(json_t *o, const refine_job *j, bool of_base)
{
    if (of_base && j->handoff > 0)
        o = merge_json_objects(o, json_pack("{s:f}", "handoff", j->handoff));
    if (of_base && j->via_pixels)
        o = merge_json_objects(o, json_pack("{s:b}", "via_pixels", true));
    if (j->denoising_start > 0)
        o = merge_json_objects(o, json_pack("{s:f}", "denoising_start", j->denoising_start));
    else if (j->rgb_in || j->latents_in || (of_base && j->handoff == 0))
        o = merge_json_objects(o, json_pack("{s:f}", "strength", j->strength));
    if (j->denoising_end > 0)
        o = merge_json_objects(o, json_pack("{s:f}", "denoising_end", j->denoising_end));
    if (j->prompt_2)
        o = merge_json_objects(o, json_pack("{s:o}", "prompt_2", clean_json_text(j->prompt_2)));
    if (j->negative_2)
        o = merge_json_objects(o, json_pack("{s:o}", "negative_2", clean_json_text(j->negative_2)));
    if (j->clip_skip > 0)
        o = merge_json_objects(o, json_pack("{s:i}", "clip_skip", j->clip_skip));
    job_pair pairs[JOB_PAIRS];
    list_job_pairs(pairs, j);
    for (const job_pair *p = pairs; p < pairs + JOB_PAIRS; p++)
        if (has_job_pair(p))
            o = merge_json_objects(o, json_pack("{s:[i, i]}", p->name, p->first, p->second));
    return o;
}

static json_t *run_object(const refine_report *r, const run_record *run, unsigned known)
{
    const refine_job *j = run->job;
    json_t *o = json_pack("{s:o}", "pack", clean_json_text(run->pack));
    if (run->base)
        o = merge_json_objects(o, json_pack("{s:o}", "base_pack", clean_json_text(run->base)));
    o = report_fields_write(o, report_source, r, known);
    o = merge_json_objects(
        o,
        json_pack("{s:o, s:o, s:o, s:o, s:s, s:i, s:f, s:f, s:f}", "input",
                  clean_json_text(run->input), "prompt", clean_json_text(run->prompt), "negative",
                  run->negative ? clean_json_text(run->negative) : json_null(), "seed",
                  seed_value(j->seed), "rng", j->rng == REFINE_RNG_PHILOX ? "philox" : "torch",
                  "steps", j->steps, "guidance", shortest_decimal(j->guidance), "aesthetic_score",
                  shortest_decimal(j->aesthetic_score), "negative_aesthetic_score",
                  shortest_decimal(j->negative_aesthetic_score)));
    return add_rare_members(o, j, r->base != NULL);
}

/* What is the base's own. */
static json_t *base_object(const refine_report *base, bool ran)
{
    const unsigned known = report_known(base, ran);
    json_t *o = report_fields_write(json_object(), report_head, base, known);
    o = report_fields_write(o, report_parts, base, known);
    return report_fields_write(o, report_source, base, known);
}

json_t *result_object(const refine_report *r, const run_record *run)
{
    const bool ran = run->output != NULL;
    const unsigned known = report_known(r, ran);
    json_t *o = json_pack("{s:s}", "version", refine_version());
    o = report_fields_write(o, report_head, r, known);
    if (ran)
        o = merge_json_objects(o, json_pack("{s:o}", "output", clean_json_text(run->output)));
    o = report_fields_write(o, report_parts, r, known);
    if (r->base)
        o = merge_json_objects(o, json_pack("{s:o}", "base", base_object(r->base, ran)));
    if (run->notes)
        o = merge_json_objects(o, json_pack("{s:o}", "notes", json_deep_copy(run->notes)));
    return merge_json_objects(o, json_pack("{s:o}", "run", run_object(r, run, known)));
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

const char *result_advice(double seconds)
{
    return seconds >= 3600 ? "; a smaller --size or fewer --steps take less" : "";
}

static void print_spill(FILE *out, const refine_memory *m)
{
    if (m->spill_host + m->spill_file > 0)
        fprintf(out,
                "the VAE's feature maps leave the device: %.1f MiB in host memory, %.1f in a "
                "file\n",
                bytes_to_mib(m->spill_host), bytes_to_mib(m->spill_file));
}

static void print_steps_plan(FILE *out, const char *whose, const refine_report *r)
{
    if (whose[0])
        fprintf(out, "%s\n", whose);
    if (r->passes_per_step > 1)
        fprintf(out, "a step passes over the weights %d times, with %d of %d inputs each\n",
                r->passes_per_step, r->per_pass, r->images * 2);
    fprintf(out, "per step        %8.1f MiB to the device, %.1f of them from disk\n",
            bytes_to_mib(r->copy_bytes_per_step), bytes_to_mib(r->disk_bytes_per_step));
    if (r->predicted_step > 0)
        fprintf(out,
                "predicted       %8.*g s a step, stalled %.1f %%; %d steps %.*g s\n"
                "                encode %.*g s, text %.*g, decode %.*g\n",
                num_digits(r->predicted_step), r->predicted_step, 100.0 * r->predicted_stall,
                r->steps_run, num_digits(r->predicted_unet), r->predicted_unet,
                num_digits(r->predicted_encode), r->predicted_encode, num_digits(r->predicted_text),
                r->predicted_text, num_digits(r->predicted_decode), r->predicted_decode);
}

static void print_ceiling_line(FILE *out, const char *what, uint64_t planned, uint64_t limit,
                               uint64_t smallest, const char *by)
{
    fprintf(out, "%-15s %8.1f MiB of %.1f, %s  (smallest that would do: %.1f)\n", what,
            bytes_to_mib(planned), bytes_to_mib(limit), by ? by : "", bytes_to_mib(smallest));
}

void result_print_plan(FILE *out, const refine_report *r, const json_t *notes)
{
    const refine_memory *m = &r->memory;
    const json_t *note;
    char about[DURATION_TEXT];
    size_t i;
    fprintf(out, "device   %s", r->device);
    if (r->device_model && r->device_model[0])
        fprintf(out, " (%s)", r->device_model);
    fprintf(out, ", %s", r->precision);
    if (r->threads > 1)
        fprintf(out, ", %d threads", r->threads);
    fputc('\n', out);
    fprintf(out, "image    %d x %d, ", r->width, r->height);
    if (r->base)
        fprintf(out, "%d steps of the base and ", r->base->steps_run);
    fprintf(out, "%d steps%s\n", r->steps_run, r->base ? " of the refiner" : "");
    json_array_foreach(notes, i, note) fprintf(out, "note     %s\n", json_string_value(note));
    print_ceiling_line(out, "device memory", m->device_planned, m->device_limit, m->smallest_device,
                       m->device_limit_by);
    if (m->device_overhead > 0)
        fprintf(out, "  CUDA's own       %9.1f\n", bytes_to_mib(m->device_overhead));
    fprintf(out,
            "  resident weights %9.1f\n  ring             %9.1f\n  activations      %9.1f\n"
            "  workspace        %9.1f\n  norms and biases %9.1f\n",
            bytes_to_mib(m->resident), bytes_to_mib(m->ring), bytes_to_mib(m->activations),
            bytes_to_mib(m->workspace), bytes_to_mib(m->vectors));
    print_ceiling_line(out, "host memory", m->host_planned, m->host_limit, m->smallest_host,
                       m->host_limit_by);
    if (m->cached > 0)
        fprintf(out, "  cached weights   %9.1f\n", bytes_to_mib(m->cached));
    fprintf(out, "whole process   %8.1f MiB\n", bytes_to_mib(m->rss_planned));
    print_spill(out, m);
    if (r->base)
        print_steps_plan(out, "the base", r->base);
    print_steps_plan(out, r->base ? "the refiner" : "", r);
    if (r->predicted_total > 0)
        fprintf(out, "in all          %8.*g s%s%s%s\n", num_digits(r->predicted_total),
                r->predicted_total, r->predicted_total >= 120 ? ", " : "",
                r->predicted_total >= 120 ? duration_text(about, r->predicted_total) : "",
                result_advice(r->predicted_total));
}

/* Predicted against measured; which rate was wrong, if the prediction was. */
static void print_forecast(FILE *out, const refine_report *r)
{
    if (!(r->predicted_step > 0))
        return;
    fprintf(out, "a step took %.*g s, predicted %.*g s (%+.0f %%)", num_digits(r->step_median),
            r->step_median, num_digits(r->predicted_step), r->predicted_step,
            100.0 * (r->step_median / r->predicted_step - 1));
    if (r->replayed_step > 0)
        fprintf(out, ", after the first one %.*g s", num_digits(r->replayed_step),
                r->replayed_step);
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

static void print_steps_run(FILE *out, const char *whose, const refine_report *r)
{
    fprintf(out, "%s%d steps in %.1f s, %.2f s a step; text %.1f, encode %.1f, decode %.1f\n",
            whose, r->steps_run, r->unet, r->step_median, r->text, r->vae_encode, r->vae_decode);
    print_forecast(out, r);
}

void result_print_run(FILE *out, const refine_report *r)
{
    const refine_memory *m = &r->memory;
    const double stalled = r->stall_disk + r->stall_decode + r->stall_copy;
    if (r->base)
        print_steps_run(out, "base: ", r->base);
    print_steps_run(out, r->base ? "refiner: " : "", r);
    fprintf(out,
            "in all %.1f s; compute waited %.1f %% of the time: %.1f s for disk, %.1f decoding, "
            "%.1f copying\n",
            r->open + r->total, r->total > 0 ? 100.0 * stalled / r->total : 0.0, r->stall_disk,
            r->stall_decode, r->stall_copy);
    fprintf(out,
            "device memory: planned %.1f MiB, peak %.1f; host: planned %.1f, peak %.1f; "
            "process: planned %.1f, peak %.1f\n",
            bytes_to_mib(m->device_planned), bytes_to_mib(m->device_peak),
            bytes_to_mib(m->host_planned), bytes_to_mib(m->host_peak), bytes_to_mib(m->rss_planned),
            bytes_to_mib(m->rss_peak));
    fprintf(out, "read %.2f GB: disk %.2f GB/s (%s), decoding %.2f, copying %.2f\n",
            (double)r->disk_bytes / 1e9, r->disk_rate / 1e9, r->reader, r->measured.decode / 1e9,
            r->copy_rate / 1e9);
}
