/* tools/refine_lowmem.c -- make or refine an image within a memory budget.
 *
 * Arguments in, one job through <refine/refine.h>, a PNG or JPEG (or latents) out.  Results go to
 * stdout, progress and errors to stderr.  Exit: 0 done, 1 failed while running, 2 usage,
 * 3 the budget cannot be met, 4 bad input file.
 */
#define _XOPEN_SOURCE 700
#include "engine/base/mem.h"
#include "engine/base/num.h"
#include "engine/base/process_limits.h"
#include "engine/base/try.h"
#include "tools/arguments/lowmem_arguments.h"
#include "tools/batch/batch.h"
#include "tools/batch/job_input.h"
#include "tools/batch/job_notes.h"
#include "tools/batch/manifest.h"
#include "tools/batch/output.h"
#include "tools/batch/work_list.h"
#include "tools/cli/exit_code.h"
#include "tools/cli/interrupt.h"
#include "tools/cli/places.h"
#include "tools/cli/program.h"
#include "tools/cli/progress.h"
#include "tools/files/durations.h"
#include "tools/files/json_values.h"
#include "tools/files/merges.h"
#include "tools/files/new_file.h"
#include "tools/report/compare_report.h"
#include "tools/report/result_json.h"
#include "tools/report/trace_json.h"
#include <refine/refine.h>

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const float SCALING_FACTOR = 0.13025f;

static int lowmem_print_error(const refine_error *err, int code)
{
    fprintf(stderr, "refine-lowmem: %s\n", err->text);
    return code;
}

/* ---- progress ---- */

typedef struct display {
    progress bar;
    bool of_reference; /* the run that another is compared with */
} display;

static const char *phase_name(const display *d, const refine_progress *p)
{
    static const char *const NAMES[][3] = {
        { "opening", "reference: opening", "base: opening" },
        { "encoding image", "reference: encoding image", "base: encoding image" },
        { "reading prompt", "reference: reading prompt", "base: reading prompt" },
        { "refining", "reference: refining", "base: denoising" },
        { "decoding image", "reference: decoding image", "base: decoding image" },
        { "finished", "reference: finished", "base: finished" },
    };
    return NAMES[p->phase][p->of_base ? 2 : d->of_reference];
}

static int on_run_progress(void *context, const refine_progress *p)
{
    display *d = context;
    if (interrupt_pending())
        return 1;
    if (p->phase == REFINE_FINISHED) {
        progress_clear(&d->bar);
        return 0;
    }
    d->bar.what = phase_name(d, p);
    if (!progress_due(&d->bar))
        return 0;
    if (p->phase == REFINE_DENOISING)
        progress_show(&d->bar, (p->step + p->done) / p->steps, p->eta,
                      "step %d of %d, disk %.2f GB/s, stalled %.1f %%", p->step + 1, p->steps,
                      p->disk_rate / 1e9, 100.0 * p->stall_share);
    else
        progress_show(&d->bar, p->done, p->eta, "disk %.2f GB/s", p->disk_rate / 1e9);
    return 0;
}

/* ---- the job ---- */

/* A run may take an hour: that its results cannot be written must be known before. */
static refine_status try_outputs(const lowmem_arguments *a, refine_error *err)
{
    const char *const paths[] = { a->output, a->output_latents, a->trace };
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        if (paths[i] && strcmp(paths[i], "-") != 0)
            TRY(new_file_try(paths[i], NEW_FILE_STREAM, err));
    }
    return REFINE_OK;
}

static const char *output_of(const lowmem_arguments *a)
{
    if (a->output || a->output_latents)
        return a->output ? a->output : a->output_latents;
    return "";
}

/* NULL: from text alone. */
static const char *only_input(const lowmem_arguments *a)
{
    return a->n_inputs > 0 ? a->inputs[0] : NULL;
}

static run_record record_of(const lowmem_arguments *a)
{
    return (run_record){ .output = output_of(a),
                         .pack = a->o.pack_path,
                         .base = a->o.base_path,
                         .input = only_input(a),
                         .prompt = a->j.prompt,
                         .negative = a->j.negative,
                         .job = &a->j,
                         .notes = a->notes };
}

static refine_status save_outputs(const lowmem_arguments *a, const refine_engine *e,
                                  const job_input *in, const refine_report *r, refine_error *err)
{
    const run_record record = record_of(a);
    refine_status st = REFINE_OK;
    if (a->output)
        st = output_save(a->output, in, &a->j, a->background, r, err);
    if (st == REFINE_OK && a->output_latents)
        st = latents_save(a->output_latents, &in->l, SCALING_FACTOR, err);
    if (st == REFINE_OK && a->trace)
        st = trace_json_save(a->trace, e, &record, err);
    return st;
}

/* Consumes `member`. */
static json_t *add_member(json_t *o, const char *key, json_t *member)
{
    if (json_object_set_new(o, key, member) == 0)
        return o;
    json_decref(o);
    return NULL;
}

static refine_status print_whole_json(const lowmem_arguments *a, const refine_report *r,
                                      const compare *c, refine_error *err)
{
    const run_record record = record_of(a);
    json_t *o = result_object(r, &record);
    if (c)
        o = add_member(o, "comparison", compare_json(c, r));
    return result_write(stdout, o, err);
}

/* c: NULL, nothing was compared. */
static int show_result(const lowmem_arguments *a, const refine_report *r, const compare *c,
                       refine_error *err)
{
    refine_status st = REFINE_OK;
    if (a->json)
        st = print_whole_json(a, r, c, err);
    else if (c) /* peaks would be those of both runs */
        compare_print(stdout, c, a->o.pack_path, r);
    else if (!a->quiet)
        result_print_run(stderr, r);
    return st == REFINE_OK ? EXIT_DONE : lowmem_print_error(err, EXIT_FAILED);
}

/* Of so many notes it is remembered that they were told. */
enum { TOLD_MAX = 256 };

/* In the result, and on the terminal unless they were told there. */
static void tell_notes(const lowmem_arguments *a, const json_t *more)
{
    const json_t *v;
    size_t i;
    json_array_foreach(more, i, v)
    {
        const size_t told = json_array_size(a->told);
        append_json_note(a->notes, "%s", json_string_value(v));
        append_json_note(a->told, "%s", json_string_value(v));
        const bool is_new = json_array_size(a->told) > told;
        if (told == TOLD_MAX && is_new)
            (void)json_array_remove(a->told, TOLD_MAX);
        if (!a->quiet && is_new)
            fprintf(stderr, "refine-lowmem: %s\n", json_string_value(v));
    }
}

/* The caller's: what is known before the first step.  in: NULL where each image has its own. */
static json_t *list_opened_notes(const lowmem_arguments *a, const job_input *in,
                                 const refine_report *r)
{
    json_t *notes = json_array();
    if (r->note[0])
        append_json_note(notes, "%s", r->note);
    if (in)
        note_unused(notes, r->unused);
    if (in && only_input(a))
        note_input(notes, only_input(a), in);
    return notes;
}

static void tell_opened(const lowmem_arguments *a, const job_input *in, const refine_report *r)
{
    json_t *notes = list_opened_notes(a, in, r);
    tell_notes(a, notes);
    json_decref(notes);
}

/* Before the first step. */
static void tell_prediction(const lowmem_arguments *a, const refine_report *r, double seconds,
                            int images)
{
    char many[32] = "", about[DURATION_TEXT];
    if (a->quiet || !(r->predicted_total > 0))
        return;
    if (images > 1)
        (void)snprintf(many, sizeof many, " for %d images", images);
    fprintf(stderr, "about %s predicted%s%s\n", duration_text(about, seconds), many,
            result_advice(seconds));
}

static void print_warnings(const lowmem_arguments *a, const refine_report *r)
{
    json_t *notes = json_array();
    if (r->note[0])
        append_json_note(notes, "%s", r->note);
    note_tokens(notes, output_of(a), r->tokens, r->negative_tokens);
    tell_notes(a, notes);
    json_decref(notes);
    if (!a->quiet)
        result_print_slow(stderr, r);
}

/* c: what the result is compared with, or NULL. */
static int run_and_save(lowmem_arguments *a, job_input *in, compare *c, display *d)
{
    refine_engine *e;
    refine_error err = { 0 };
    refine_report base = REFINE_REPORT_INIT, r = REFINE_REPORT_INIT;

    refine_status st = refine_open(&e, &a->o, &a->j, &err);
    if (st != REFINE_OK)
        return lowmem_print_error(&err, exit_code(st, true));
    r.base = &base;
    refine_get_report(e, &r);
    tell_prediction(a, &r, r.predicted_total, 1);
    tell_opened(a, in, &r);
    if (!a->seeded && !a->quiet)
        fprintf(stderr, "seed %llu\n", (unsigned long long)a->j.seed);
    st = refine_run(e, &a->j, &err);
    if (c)
        st = compare_why(c, st, &err);
    progress_clear(&d->bar);
    int code = exit_code(st, false);
    if (st == REFINE_OK) {
        refine_get_report(e, &r);
        print_warnings(a, &r);
        if (c)
            compare_finish(c, in->out.rgb);
        st = save_outputs(a, e, in, &r, &err);
        code = st == REFINE_OK ? EXIT_DONE : EXIT_FAILED;
    }
    if (st != REFINE_OK)
        (void)lowmem_print_error(&err, code);
    else
        code = show_result(a, &r, c, &err);
    refine_close(e);
    return code;
}

/* Whether both runs can be had; the first may take an hour. */
static refine_status plan_comparison(lowmem_arguments *a, compare *c, refine_error *err)
{
    refine_report r = REFINE_REPORT_INIT;
    compare_attach(c, &a->j);
    TRY(compare_plan(c, err));
    TRY(refine_plan(&r, &a->o, &a->j, err));
    if (!compare_same_source(c, &r) && !a->quiet)
        fprintf(stderr,
                "refine-lowmem: warning: %s and %s were made from different weights; what differs "
                "is not the effect of how they are stored alone\n",
                a->o.pack_path, a->reference);
    return REFINE_OK;
}

static int run_reference(lowmem_arguments *a, compare **c, display *d)
{
    refine_error err = { 0 };
    bool reading = true;
    refine_status st = compare_open(c, a->reference, &a->o, &a->j, &err);
    if (st != REFINE_OK)
        return lowmem_print_error(&err, exit_code(st, false));
    st = plan_comparison(a, *c, &err);
    if (st == REFINE_OK) {
        reading = false;
        d->of_reference = true;
        st = compare_record(*c, &err);
        d->of_reference = false;
        progress_clear(&d->bar);
    }
    return st == REFINE_OK ? EXIT_DONE : lowmem_print_error(&err, exit_code(st, reading));
}

static int run_one(lowmem_arguments *a, job_input *in)
{
    refine_error err = { 0 };
    compare *c = NULL;
    display d = { 0 };

    interrupt_hold();
    const refine_status st = try_outputs(a, &err);
    if (st != REFINE_OK)
        return lowmem_print_error(&err, exit_code(st, false));
    progress_open(&d.bar, stderr, "opening", a->quiet);
    a->j.progress = on_run_progress;
    a->j.progress_context = &d;
    int code = a->reference ? run_reference(a, &c, &d) : EXIT_DONE;
    if (code == EXIT_DONE)
        code = run_and_save(a, in, c, &d);
    compare_close(c);
    return code;
}

static refine_status print_plan(const lowmem_arguments *a, const job_input *in,
                                const refine_report *r, refine_error *err)
{
    run_record record = record_of(a);
    json_t *notes = list_opened_notes(a, in, r);
    refine_status st = REFINE_OK;
    record.output = NULL;
    record.notes = notes;
    if (a->json)
        st = result_print_json(stdout, r, &record, err);
    else
        result_print_plan(stdout, r, notes);
    json_decref(notes);
    return st;
}

static int plan_one(const lowmem_arguments *a, const job_input *in)
{
    refine_error err = { 0 };
    refine_report base = REFINE_REPORT_INIT, r = REFINE_REPORT_INIT;
    r.base = &base;
    refine_status st = refine_plan(&r, &a->o, &a->j, &err);
    if (st != REFINE_OK)
        return lowmem_print_error(&err, exit_code(st, true));
    st = print_plan(a, in, &r, &err);
    return st == REFINE_OK ? EXIT_DONE : lowmem_print_error(&err, EXIT_FAILED);
}

static refine_status lowmem_load_tokenizer(lowmem_arguments *a, char **merges, refine_error *err)
{
    *merges = NULL;
    if (!a->tokenizer)
        return REFINE_OK;
    const refine_status st = merges_load(a->tokenizer, merges, &a->o.merges_len, err);
    a->o.merges = *merges;
    return st;
}

/* ---- files that are read and written ---- */

static void add_read(places *p, const char *role, const char *name)
{
    if (name && strcmp(name, "-") == 0)
        places_add_open(p, PLACE_READ, "standard input", STDIN_FILENO);
    else
        places_add(p, PLACE_READ, role, name);
}

static void add_written(places *p, const char *role, const char *name)
{
    if (name && strcmp(name, "-") != 0) /* standard output is added whatever goes there */
        places_add(p, PLACE_WRITTEN, role, name);
}

static void add_tokenizer(places *p, const char *tokenizer)
{
    static const char ROLE[] = "the tokenizer (--tokenizer)";
    char file[MERGES_PATH], beside[MERGES_PATH];
    if (!tokenizer || !merges_files(file, beside, tokenizer))
        return;
    places_add(p, PLACE_READ, ROLE, file);
    places_add(p, PLACE_READ, ROLE, beside);
}

/* Of a directory its files, and itself: were it the output's too, the next run would find there
 * what this one made. */
static void add_inputs(places *p, const lowmem_arguments *a, const work_list *l)
{
    char file[LATENTS_PATH];
    for (int i = 0; i < a->n_inputs; i++)
        add_read(p, "the input (-i)", latents_file(file, a->inputs[i]));
    for (int i = 0; i < l->n; i++)
        if (l->item[i].input)
            add_read(p, "the input", latents_file(file, l->item[i].input));
}

/* No original is replaced, and no result by another; every image is of a format that is written. */
static refine_status lowmem_check_places(const lowmem_arguments *a, const work_list *l,
                                         refine_error *err)
{
    places p = { 0 };
    if (a->output && !l->several)
        TRY(image_check_name(a->output, err));
    for (int i = 0; i < l->n; i++)
        if (l->item[i].output)
            TRY(image_check_name(l->item[i].output, err));
    places_add(&p, PLACE_READ, "the model (-m)", a->o.pack_path);
    places_add(&p, PLACE_READ, "the base (--base)", a->o.base_path);
    places_add(&p, PLACE_READ, "the reference (--compare)", a->reference);
    add_read(&p, "the manifest (--manifest)", a->manifest);
    add_tokenizer(&p, a->tokenizer);
    add_inputs(&p, a, l);
    if (l->several)
        places_add(&p, PLACE_WRITTEN, "the directory (-o)", a->output);
    else
        add_written(&p, "the image (-o)", a->output);
    for (int i = 0; i < l->n; i++)
        add_written(&p, "the image", l->item[i].output);
    add_written(&p, "the latents (--output-latents)", a->output_latents);
    add_written(&p, "the trace (--trace)", a->trace);
    places_add_open(&p, PLACE_WRITTEN, "standard output", STDOUT_FILENO);
    const refine_status st = places_check(&p, err);
    places_free(&p);
    return st;
}

/* ---- several images ---- */

/* As try_outputs; of a directory's results only the first is tried in earnest. */
static refine_status try_list(const work_list *l, refine_error *err)
{
    const char *last = NULL;
    for (int i = 0; i < l->n; i++) {
        const char *path = l->item[i].output;
        const size_t n = (size_t)(file_base(path) - path);
        const bool again = last && (size_t)(file_base(last) - last) == n &&
                           memcmp(last, path, n) == 0;
        TRY(again ? new_file_check(path, NEW_FILE_STREAM, err)
                  : new_file_try(path, NEW_FILE_STREAM, err));
        last = path;
    }
    return REFINE_OK;
}

static void on_opened(void *context, const refine_report *r, int left)
{
    const lowmem_arguments *a = context;
    progress_clear(&((display *)a->j.progress_context)->bar);
    tell_prediction(a, r, r->predicted_total / r->images * left, left);
    tell_opened(a, NULL, r);
}

static void on_finished(void *context, const refine_report *r, const batch_image *made, int n)
{
    const lowmem_arguments *a = context;
    refine_error err = { 0 };

    progress_clear(&((display *)a->j.progress_context)->bar);
    if (!a->json && !a->quiet)
        result_print_run(stderr, r);
    if (!a->quiet)
        result_print_slow(stderr, r);
    for (int i = 0; i < n; i++) {
        const run_record record = { .output = made[i].item->output,
                                    .pack = a->o.pack_path,
                                    .base = a->o.base_path,
                                    .input = made[i].item->input,
                                    .prompt = made[i].job.prompt,
                                    .negative = made[i].job.negative,
                                    .job = &made[i].job,
                                    .notes = a->notes };
        const size_t of_all = json_array_size(a->notes);
        tell_notes(a, made[i].notes);
        if (a->json && result_print_json(stdout, r, &record, &err) != REFINE_OK)
            (void)lowmem_print_error(&err, EXIT_FAILED);
        else if (!a->quiet && !a->json)
            fprintf(stderr, "%s\n", made[i].item->output);
        while (json_array_size(a->notes) > of_all)
            (void)json_array_remove(a->notes, of_all);
    }
}

/* So that scripts find an object for every image that was come to. */
static void print_skipped_json(const work_item *item, refine_status st, const refine_error *why)
{
    refine_error err = { 0 };
    json_t *o = json_pack("{s:o}", "output", clean_json_text(item->output));
    o = st == REFINE_OK ? add_member(o, "there_already", json_true())
                        : add_member(o, "error", clean_json_text(why->text));
    if (result_write(stdout, o, &err) != REFINE_OK)
        (void)lowmem_print_error(&err, EXIT_FAILED);
}

static void on_skipped(void *context, const work_item *item, refine_status st,
                       const refine_error *err)
{
    const lowmem_arguments *a = context;
    progress_clear(&((display *)a->j.progress_context)->bar);
    if (a->json)
        print_skipped_json(item, st, err);
    if (st != REFINE_OK)
        fprintf(stderr, "refine-lowmem: %s\n", err->text);
    else if (!a->quiet)
        fprintf(stderr, "%s is there already\n", item->output);
}

/* A ceiling below what any model needs is refused by the plan, which names one that will do. */
enum { LEAST_READING = 16 << 20 };

static input_settings input_settings_of(const lowmem_arguments *a)
{
    input_settings s = { .scaling_factor = SCALING_FACTOR,
                         .image = IMAGE_READING_INIT,
                         .size = a->size };
    /* As by default of host memory: half of what may be had, at most. */
    const uint64_t by_default = num_min(s.image.memory, process_memory_room("", 0).bytes / 2);
    s.image.memory = num_max(a->o.ram_bytes ? a->o.ram_bytes : by_default, LEAST_READING);
    memcpy(s.image.background, a->background, sizeof s.image.background);
    return s;
}

static refine_status make_directory(const char *path, refine_error *err)
{
    struct stat st;
    if (!path || (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) || mkdir(path, 0777) == 0)
        return REFINE_OK;
    return refine_fail(err, REFINE_EINVAL, "%s: several images need a directory: %s", path,
                       strerror(errno));
}

/* A table's rows may all have one; of a command, --strength is refused there. */
static void note_strengths(json_t *notes, const lowmem_arguments *a, const work_list *l)
{
    int n = 0;
    for (int i = 0; i < l->n && a->flow != FLOW_TWO_STAGE; i++)
        n += !isnan(l->item[i].strength) && (!l->item[i].input || a->j.denoising_start > 0);
    if (n > 0)
        append_json_note(notes, "%s: \"strength\" is not used for %d of %d images: %s",
                         manifest_name(a->manifest), n, l->n,
                         a->j.denoising_start > 0 ? "--denoising-start says where they begin"
                                                  : "they have no input");
}

static int run_list(lowmem_arguments *a, work_list *l)
{
    display d = { 0 };
    refine_error err = { 0 };
    batch_result sum;

    json_t *notes = json_array();
    if (work_list_group(l))
        append_json_note(notes, "images of the same size and steps go together, and so come in "
                                "another order than their list's");
    note_strengths(notes, a, l);
    tell_notes(a, notes);
    json_decref(notes);
    tell_notes(a, l->notes);
    progress_open(&d.bar, stderr, "opening", a->quiet);
    a->j.progress = on_run_progress;
    a->j.progress_context = &d;
    const batch_options b = { .o = a->o,
                              .j = a->j,
                              .seeded = a->seeded,
                              .input = input_settings_of(a),
                              .opened = on_opened,
                              .finished = on_finished,
                              .skipped = on_skipped,
                              .context = a };
    const refine_status st = batch_run(&b, l, &sum, &err);
    progress_clear(&d.bar);
    if (!a->quiet && l->n > 1)
        fprintf(stderr, "%d made, %d there already, %d failed, of %d\n", sum.made, sum.there,
                sum.failed, l->n);
    if (st != REFINE_OK)
        return lowmem_print_error(&err, exit_code(st, sum.made == 0));
    if (sum.unwritten)
        return EXIT_FAILED;
    return sum.failed > 0 ? EXIT_INPUT : EXIT_DONE;
}

static refine_status check_prompts(const lowmem_arguments *a, const work_list *l, refine_error *err)
{
    for (int i = 0; i < l->n && !a->j.prompt; i++)
        if (!l->item[i].prompt)
            return refine_fail(err, REFINE_EINVAL,
                               "%s: line %d: no prompt: give \"prompt\" there, or -p TEXT",
                               manifest_name(a->manifest), l->item[i].line);
    return REFINE_OK;
}

static refine_status check_two_stage(const lowmem_arguments *a, const work_list *l,
                                     refine_error *err)
{
    for (int i = 0; i < l->n && a->flow == FLOW_TWO_STAGE; i++)
        if (l->item[i].input)
            return refine_fail(
                err, REFINE_EINVAL,
                "%s: line %d: --flow two-stage begins with text: leave out \"input\"",
                manifest_name(a->manifest), l->item[i].line);
    return REFINE_OK;
}

static int refine_several(lowmem_arguments *a, work_list *l)
{
    refine_error err = { 0 };
    if (a->output_latents || a->trace || a->plan || a->reference)
        return options_report(&LOWMEM_OPTIONS, "%s is for one image",
                              a->plan        ? "--plan"
                              : a->trace     ? "--trace"
                              : a->reference ? "--compare"
                                             : "--output-latents");
    if (a->output && strcmp(a->output, "-") == 0)
        return options_report(&LOWMEM_OPTIONS,
                              "several images need a directory: give -o DIRECTORY");
    interrupt_hold();
    refine_status st = check_prompts(a, l, &err);
    if (st == REFINE_OK)
        st = check_two_stage(a, l, &err);
    if (st == REFINE_OK)
        st = work_list_repeat(l, a->count, &err);
    if (st == REFINE_OK)
        st = work_list_name_outputs(l, a->output, &err);
    if (st == REFINE_OK)
        st = lowmem_check_places(a, l, &err);
    if (st == REFINE_OK)
        st = make_directory(a->output, &err);
    if (st == REFINE_OK)
        st = try_list(l, &err);
    return st == REFINE_OK ? run_list(a, l) : lowmem_print_error(&err, exit_code(st, false));
}

/* ---- one image ---- */

static int refine_one(lowmem_arguments *a, const work_list *l)
{
    job_input in = { 0 };
    const input_settings how = input_settings_of(a);
    refine_error err = { 0 };
    if (!a->seeded)
        a->j.seed = batch_draw_seed();
    refine_status st = lowmem_check_places(a, l, &err);
    if (st == REFINE_OK)
        st = job_input_load(&in, &a->j, l->n > 0 ? l->item[0].input : NULL,
                            a->plan || a->output || a->reference, a->output_latents, &how, &err);
    a->o.caller_bytes = job_input_later(&in) + (a->reference ? COMPARE_LATER : 0);
    const int code = st != REFINE_OK ? lowmem_print_error(&err, exit_code(st, true))
                     : a->plan       ? plan_one(a, &in)
                                     : run_one(a, &in);
    job_input_free(&in);
    return code;
}

static refine_status list_work(const lowmem_arguments *a, work_list *l, refine_error *err)
{
    for (int i = 0; i < a->n_inputs; i++)
        TRY(work_list_add(l, a->inputs[i], err));
    if (a->manifest)
        TRY(manifest_read(l, a->manifest, err));
    if (l->n == 0 && a->count > 1) { /* of the prompt alone */
        work_item *item;
        TRY(work_list_append(l, &item, err));
    }
    l->several = l->several || a->count > 1;
    return REFINE_OK;
}

static int refine_inputs(lowmem_arguments *a)
{
    work_list l = { 0 };
    char *merges = NULL;
    refine_error err = { 0 };
    int code;

    refine_status st = lowmem_load_tokenizer(a, &merges, &err);
    if (st == REFINE_OK)
        st = list_work(a, &l, &err);
    if (st != REFINE_OK)
        code = lowmem_print_error(&err, exit_code(st, true));
    else
        code = l.several ? refine_several(a, &l) : refine_one(a, &l);
    work_list_free(&l);
    mem_free(merges);
    return code;
}

static int run_lowmem(int argc, char **argv)
{
    lowmem_arguments a = {
        .o = REFINE_OPTIONS_INIT, .j = REFINE_JOB_INIT, .background = { 255, 255, 255 }, .count = 1
    };

    const char *scratch = getenv("TMPDIR"), *guards = getenv("REFINE_GUARDS");
    a.o.spill_dir = scratch && *scratch ? scratch : NULL;
    a.o.guards = guards && *guards;
    int code = lowmem_arguments_read(&a, argc, argv);
    if (code < 0)
        code = refine_inputs(&a);
    lowmem_arguments_free(&a);
    return code;
}

int main(int argc, char **argv)
{
    if (!program_begin("refine-lowmem"))
        return EXIT_FAILED;
    return program_end("refine-lowmem", run_lowmem(argc, argv));
}
