/* tools/memprof/memprof_report.c -- measurements out of a trace, predictions out of refine_plan. */
#define _XOPEN_SOURCE 700
#include "tools/memprof/memprof_report.h"

#include "engine/base/try.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

void memprof_device_bytes(uint64_t bytes[DEVICE_OWNERS], const refine_memory *m)
{
    owners_of_device(bytes, m, REFINE_DENOISING, m->activations);
}

/* ---- predictions ---- */

static refine_status predict_cards(memprof *m, const refine_options *o, const refine_job *j,
                                   const memprof_wish *w, refine_error *err)
{
    refine_options plain = *o;
    plain.vram_bytes = 0;
    plain.rates = (refine_rates){ 0 };
    for (int i = 0; i < CARDS; i++) {
        if (w->card && w->card != &cards[i])
            continue;
        TRY(card_predict(&m->row[m->n_rows], &cards[i], &w->with, &plain, j, err));
        m->n_rows++;
    }
    return REFINE_OK;
}

static double measured_or_assumed(double a, double b) { return a > 0 ? a : b; }

/* A run's own rates are better than any assumption. */
static refine_rates best_rates(const refine_rates *m, const refine_rates *a)
{
    return (refine_rates){
        measured_or_assumed(m->disk, a->disk),    measured_or_assumed(m->decode, a->decode),
        measured_or_assumed(m->copy, a->copy),    measured_or_assumed(m->linear, a->linear),
        measured_or_assumed(m->conv, a->conv),    measured_or_assumed(m->attention, a->attention),
        measured_or_assumed(m->memory, a->memory)
    };
}

/* A plan asks which of the images there are, and looks at none of them. */
static void stand_in(refine_job *j, uint8_t *pixel, bool from_text)
{
    if (!from_text && !j->rgb_in && !j->latents_in)
        j->rgb_in = pixel;
    if (!j->rgb_out && !j->latents_out)
        j->rgb_out = pixel;
}

/* ---- the job of a trace, to be planned again ---- */

static bool is_from_text(const recording *t)
{
    const char *input = json_string_value(
        json_object_get(json_object_get(t->result, "run"), "input"));
    return input && !*input;
}

static int small_member(const json_t *o, const char *key, int otherwise)
{
    const json_t *v = json_object_get(o, key);
    const json_int_t n = json_integer_value(v);
    return json_is_integer(v) && n >= 0 && n <= INT_MAX ? (int)n : otherwise;
}

static double real_member(const json_t *o, const char *key, double otherwise)
{
    const json_t *v = json_object_get(o, key);
    return json_is_number(v) ? json_number_value(v) : otherwise;
}

static refine_precision parse_precision_name(const char *word)
{
    return strcmp(word, "f32") == 0    ? REFINE_F32
           : strcmp(word, "bf16") == 0 ? REFINE_BF16
           : strcmp(word, "fp16") == 0 ? REFINE_FP16
           : strcmp(word, "int8") == 0 ? REFINE_INT8
                                       : REFINE_PRECISION_AUTO;
}

static void job_from_recording(refine_options *o, refine_job *j, const recording *t)
{
    const json_t *run = json_object_get(t->result, "run");
    const refine_report *r = &t->report;
    o->pack_path = json_string_value(json_object_get(run, "pack"));
    o->precision = parse_precision_name(r->precision);
    o->ram_bytes = r->memory.host_limit;
    o->rates = best_rates(&r->measured, &r->rates);
    o->images = r->images;
    j->width = r->width;
    j->height = r->height;
    j->steps = small_member(run, "steps", j->steps);
    j->strength = real_member(run, "strength", j->strength);
    j->denoising_start = real_member(run, "denoising_start", 0);
    j->denoising_end = real_member(run, "denoising_end", 0);
    j->guidance = (float)real_member(run, "guidance", (double)j->guidance);
}

/* A name from a trace may lead anywhere; only a regular file is opened. */
static bool is_recorded_pack_file(const char *path)
{
    struct stat s;
    return path && stat(path, &s) == 0 && S_ISREG(s.st_mode);
}

static void predict_run(memprof *m, const memprof_wish *w)
{
    refine_options o = REFINE_OPTIONS_INIT;
    refine_job j = REFINE_JOB_INIT;
    refine_error err = { 0 };
    uint8_t pixel;
    job_from_recording(&o, &j, m->run);
    stand_in(&j, &pixel, is_from_text(m->run));
    m->pack = o.pack_path ? o.pack_path : "";
    if (!is_recorded_pack_file(o.pack_path)) {
        (void)snprintf(m->note, sizeof m->note,
                       "no predictions: the pack '%.150s' is not here; start from the directory "
                       "of the run",
                       m->pack);
        return;
    }
    refine_status st = curve_of(&m->curve, &o, &j, &err);
    if (st == REFINE_OK && m->curve.all.source_hash != m->r.source_hash) {
        m->curve.n = 0;
        (void)snprintf(m->note, sizeof m->note,
                       "no predictions: the pack '%.150s' has other weights than the run's",
                       m->pack);
        return;
    }
    if (st == REFINE_OK)
        st = predict_cards(m, &o, &j, w, &err);
    if (st != REFINE_OK)
        (void)snprintf(m->note, sizeof m->note, "not all predictions: %.200s", err.text);
}

refine_status memprof_of_run(memprof *m, const recording *t, const memprof_wish *w,
                             refine_error *err)
{
    *m = (memprof){ .run = t, .result = json_incref(t->result), .r = t->report };
    refine_status st = layers_of(&m->layer, t, err);
    if (st == REFINE_OK)
        st = layers_blocks(&m->block, &m->layer, err);
    if (st != REFINE_OK) {
        memprof_free(m);
        return st;
    }
    m->use = use_of(t);
    predict_run(m, w);
    return REFINE_OK;
}

refine_status memprof_of_plan(memprof *m, const refine_options *o, const refine_job *j,
                              const memprof_wish *w, refine_error *err)
{
    uint8_t pixel;
    refine_job job = *j;
    *m = (memprof){ .r = REFINE_REPORT_INIT, .pack = o->pack_path };
    stand_in(&job, &pixel, false);
    TRY(refine_plan(&m->r, o, &job, err));
    refine_options at = *o;
    at.rates = m->r.rates;
    TRY(curve_of(&m->curve, &at, &job, err));
    TRY(predict_cards(m, o, &job, w, err));
    m->result = result_object(&m->r, &(run_record){ .pack = o->pack_path, .job = &job });
    return m->result ? REFINE_OK : refine_fail(err, REFINE_ENOMEM, "out of memory");
}

void memprof_free(memprof *m)
{
    layers_free(&m->layer);
    layers_free(&m->block);
    json_decref(m->result);
    *m = (memprof){ 0 };
}
