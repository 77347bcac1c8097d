/* tools/report/report_fields.c -- the tables of a report, and the walk over them, out and back. */
#include "tools/report/report_fields.h"

#include "tools/files/json_values.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- the tables ---- */

#define RATE(name)                                                                                 \
    {                                                                                              \
#name, FIELD_AMOUNT, offsetof(refine_rates, name), 0, NULL                                 \
    }
#define MEMORY(name, needs)                                                                        \
    {                                                                                              \
#name, FIELD_BYTES, offsetof(refine_memory, name), needs, NULL                             \
    }
#define LIMIT(name)                                                                                \
    {                                                                                              \
#name, FIELD_TEXT, offsetof(refine_memory, name), 0, NULL                                  \
    }
#define FIELD(key, kind, name, needs)                                                              \
    {                                                                                              \
        key, FIELD_##kind, offsetof(refine_report, name), needs, NULL                              \
    }
#define STALLED(key)                                                                               \
    {                                                                                              \
        key, FIELD_STALLED, 0, 0, NULL                                                             \
    }
/* Members of the report itself, gathered in an object; a struct of it. */
#define GROUP(key, needs, rows)                                                                    \
    {                                                                                              \
        key, FIELD_OBJECT, 0, needs, rows                                                          \
    }
#define STRUCT(key, name, needs, rows)                                                             \
    {                                                                                              \
        key, FIELD_OBJECT, offsetof(refine_report, name), needs, rows                              \
    }
#define END                                                                                        \
    {                                                                                              \
        NULL, FIELD_COUNT, 0, 0, NULL                                                              \
    }

enum { IN_RUN = KNOWN_RUN, PREDICTED = KNOWN_PREDICTION, MEASURED = KNOWN_RUN | KNOWN_PREDICTION };

const report_field rate_fields[] = {
    RATE(disk), RATE(decode),    RATE(copy),   RATE(linear),
    RATE(conv), RATE(attention), RATE(memory), END,
};

const report_field memory_fields[] = {
    MEMORY(device_planned, 0),  MEMORY(device_limit, 0),
    MEMORY(device_overhead, 0), MEMORY(device_peak, IN_RUN),
    MEMORY(host_planned, 0),    MEMORY(host_limit, 0),
    MEMORY(host_peak, IN_RUN),  MEMORY(rss_planned, 0),
    MEMORY(rss_peak, IN_RUN),   MEMORY(ring, 0),
    MEMORY(resident, 0),        MEMORY(activations, 0),
    MEMORY(prompt, 0),          MEMORY(workspace, 0),
    MEMORY(vectors, 0),         MEMORY(staging, 0),
    MEMORY(cached, 0),          MEMORY(spill_host, 0),
    MEMORY(spill_file, 0),      MEMORY(smallest_device, 0),
    MEMORY(smallest_host, 0),   LIMIT(device_limit_by),
    LIMIT(host_limit_by),       END,
};

const report_field report_head[] = {
    FIELD("device", TEXT, device, 0),
    FIELD("device_model", TEXT, device_model, 0),
    FIELD("precision", TEXT, precision, 0),
    FIELD("width", COUNT, width, 0),
    FIELD("height", COUNT, height, 0),
    FIELD("images", COUNT, images, 0),
    FIELD("steps_run", COUNT, steps_run, 0),
    FIELD("per_pass", COUNT, per_pass, 0),
    FIELD("passes_per_step", COUNT, passes_per_step, 0),
    FIELD("chunks_per_launch", COUNT, together, 0),
    FIELD("band_rows", COUNT, band_rows, 0),
    END,
};

static const report_field SECONDS[] = {
    FIELD("total", SECONDS, total, 0),
    FIELD("open", SECONDS, open, 0),
    FIELD("text", SECONDS, text, 0),
    FIELD("vae_encode", SECONDS, vae_encode, 0),
    FIELD("unet", SECONDS, unet, 0),
    FIELD("vae_decode", SECONDS, vae_decode, 0),
    FIELD("steps", STEPS, step, 0),
    FIELD("first_step", SECONDS, first_step, 0),
    FIELD("step_median", SECONDS, step_median, 0),
    END,
};

static const report_field STALL[] = {
    STALLED("share"),
    FIELD("disk", SECONDS, stall_disk, 0),
    FIELD("decode", SECONDS, stall_decode, 0),
    FIELD("copy", SECONDS, stall_copy, 0),
    END,
};

static const report_field IO[] = {
    FIELD("disk_bytes_per_step", BYTES, disk_bytes_per_step, 0),
    FIELD("copy_bytes_per_step", BYTES, copy_bytes_per_step, 0),
    FIELD("disk_bytes", BYTES, disk_bytes, IN_RUN),
    FIELD("disk_rate", AMOUNT, disk_rate, IN_RUN),
    FIELD("copy_rate", AMOUNT, copy_rate, IN_RUN),
    FIELD("reader", TEXT, reader, IN_RUN),
    END,
};

static const report_field SLOWEST_STEP[] = {
    FIELD("times", AMOUNT, slow_step, 0),
    FIELD("part", TEXT, slow_part, KNOWN_SLOW),
    FIELD("part_times", AMOUNT, slow_part_by, KNOWN_SLOW),
    END,
};

static const report_field PREDICTION[] = {
    FIELD("step", SECONDS, predicted_step, PREDICTED),
    FIELD("unet", SECONDS, predicted_unet, PREDICTED),
    FIELD("stall_share", AMOUNT, predicted_stall, PREDICTED),
    STRUCT("rates", rates, PREDICTED, rate_fields),
    FIELD("vae_encode", SECONDS, predicted_encode, PREDICTED),
    FIELD("text", SECONDS, predicted_text, PREDICTED),
    FIELD("vae_decode", SECONDS, predicted_decode, PREDICTED),
    FIELD("total", SECONDS, predicted_total, PREDICTED),
    FIELD("replayed_step", SECONDS, replayed_step, MEASURED),
    FIELD("wrong_rate", TEXT, mispredicted_rate, MEASURED),
    GROUP("slowest_step", MEASURED, SLOWEST_STEP),
    STRUCT("measured", measured, MEASURED, rate_fields),
    END,
};

const report_field report_parts[] = {
    GROUP("seconds", IN_RUN, SECONDS),          GROUP("stall", IN_RUN, STALL),
    STRUCT("memory", memory, 0, memory_fields), GROUP("io", 0, IO),
    GROUP("predicted", 0, PREDICTION),          END,
};

const report_field report_source[] = {
    FIELD("source", TEXT, source_name, 0),
    FIELD("source_hash", HASH, source_hash, 0),
    FIELD("model_hash", HASH, model_hash, 0),
    FIELD("scheduler", TEXT, sampler, 0),
    END,
};

unsigned report_known(const refine_report *r, bool ran)
{
    return (ran ? KNOWN_RUN : 0u) | (r->predicted_step > 0 ? KNOWN_PREDICTION : 0u) |
           (r->slow_part && r->slow_part[0] ? KNOWN_SLOW : 0u);
}

/* ---- out ---- */

static json_t *hash_value(uint64_t hash)
{
    char digits[17];
    (void)snprintf(digits, sizeof digits, "%016" PRIx64, hash);
    return json_string(digits);
}

static json_t *steps_value(const refine_report *r)
{
    json_t *list = json_array();
    for (int i = 0; i < r->steps_run; i++)
        if (json_array_append_new(list, json_real(finite_or_zero(r->step[i]))) != 0) {
            json_decref(list);
            return NULL;
        }
    return list;
}

static json_t *stalled_value(const refine_report *r)
{
    const double stalled = r->stall_disk + r->stall_decode + r->stall_copy;
    return json_real(finite_or_zero(r->total > 0 ? stalled / r->total : 0.0));
}

/* The caller's; NULL when memory is short. */
static json_t *field_value(const report_field *f, const void *base, unsigned known)
{
    const void *at = (const char *)base + f->offset;
    switch (f->kind) {
    case FIELD_BYTES: return json_integer(saturate_json_integer(*(const uint64_t *)at));
    case FIELD_COUNT: return json_integer(*(const int *)at);
    case FIELD_SECONDS:
    case FIELD_AMOUNT: return json_real(finite_or_zero(*(const double *)at));
    case FIELD_TEXT: return clean_json_text(*(const char *const *)at);
    case FIELD_HASH: return hash_value(*(const uint64_t *)at);
    case FIELD_STEPS: return steps_value(base);
    case FIELD_STALLED: return stalled_value(base);
    case FIELD_OBJECT: return report_fields_write(json_object(), f->members, at, known);
    }
    return NULL;
}

json_t *report_fields_write(json_t *o, const report_field *fields, const void *base, unsigned known)
{
    for (const report_field *f = fields; o && f->key; f++)
        if ((f->needs & ~known) == 0 &&
            json_object_set_new(o, f->key, field_value(f, base, known)) != 0) {
            json_decref(o);
            return NULL;
        }
    return o;
}

/* ---- back ---- */

static void read_field(json_checker *c, const json_t *o, const report_field *f, void *base)
{
    void *at = (char *)base + f->offset;
    switch (f->kind) {
    case FIELD_BYTES: *(uint64_t *)at = checked_bytes(c, o, f->key); break;
    case FIELD_COUNT: *(int *)at = checked_int(c, o, f->key); break;
    case FIELD_SECONDS: *(double *)at = checked_real(c, o, f->key, CHECKED_SECONDS_MAX); break;
    case FIELD_AMOUNT: *(double *)at = checked_real(c, o, f->key, CHECKED_AMOUNT_MAX); break;
    case FIELD_TEXT: *(const char **)at = checked_text(c, o, f->key); break;
    case FIELD_HASH: *(uint64_t *)at = strtoull(checked_text(c, o, f->key), NULL, 16); break;
    case FIELD_OBJECT: report_fields_read(c, checked_object(c, o, f->key), f->members, at); break;
    case FIELD_STEPS:
    case FIELD_STALLED: break;
    }
}

void report_fields_read(json_checker *c, const json_t *o, const report_field *fields, void *base)
{
    for (const report_field *f = fields; f->key; f++)
        read_field(c, o, f, base);
}

void report_read(json_checker *c, const json_t *result, refine_report *r, double **step)
{
    size_t n;

    *r = (refine_report){ 0 };
    report_fields_read(c, result, report_head, r);
    report_fields_read(c, result, report_parts, r);
    report_fields_read(c, checked_object(c, result, "run"), report_source, r);
    *step = checked_reals(c, checked_object(c, result, "seconds"), "steps", CHECKED_SECONDS_MAX,
                          &n);
    r->step = *step;
    r->steps_run = (int)n; /* as many as there are, whatever the file says of them */
}
