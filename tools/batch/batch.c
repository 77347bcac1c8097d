/* tools/batch/batch.c -- fill a group, run it, save it; the next. */
#define _GNU_SOURCE /* getrandom */
#include "tools/batch/batch.h"

#include "engine/base/num.h"
#include "engine/base/try.h"
#include "tools/batch/job_notes.h"
#include "tools/batch/output.h"
#include "tools/files/file_target.h"

#include <limits.h>
#include <math.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

/* A smaller group is as good when an image costs no more than this share above the best. */
static const double AS_GOOD = 1.03;

/* More than any plan needs: none is made for memory. */
#define ANY_CEILING ((uint64_t)1 << 40)

enum { FULL_MAX = 8 };

typedef struct member {
    const work_item *item;
    job_input in;
    refine_job j;
} member;

typedef struct batch {
    const batch_options *b;
    const work_list *l;
    refine_options o;
    int next;                /* of the list */
    member m[BATCH_MAX + 1]; /* the group, and perhaps one that begins the next */
    int n, loaded;
    bool waits;       /* the next image of the list, for memory that the group or the engine has */
    uint64_t reserve; /* bytes set aside for reading it beside the engine */
    int advised;      /* images in a group of the last shape */
    refine_engine *e; /* of the last group */
    refine_job shape; /* it was opened for */
    dev_t full[FULL_MAX]; /* file systems on which an output could not be written */
    int n_full;
    batch_result sum;
} batch;

uint64_t batch_draw_seed(void)
{
    uint32_t v = 0;
    (void)!getrandom(&v, sizeof v, 0);
    return v;
}

/* Whether one engine serves both.  From text strength counts only in the second of two stages. */
static bool same_job_shape(const refine_job *a, const refine_job *b)
{
    const bool no_strength = !a->rgb_in && !a->latents_in && a->handoff > 0;
    return a->width == b->width && a->height == b->height && !a->rgb_in == !b->rgb_in &&
           !a->latents_in == !b->latents_in && a->steps == b->steps &&
           (no_strength || !(a->strength < b->strength || a->strength > b->strength)) &&
           (a->guidance > 1) == (b->guidance > 1);
}

/* ---- how many together ---- */

/* The images of such a group, and the first of the next, are still to be loaded. */
static void set_images(batch *b, int n)
{
    b->o.images = n;
    b->o.caller_bytes = (size_t)(n + 2) * job_input_later(&b->m[0].in);
}

/* Plans groups of 1, 2, 4, ... for the shape of j; rates are probed once. */
static refine_status choose_images(batch *b, const refine_job *j, int most, refine_error *err)
{
    double cost[BATCH_MAX + 1] = { 0 }, best = 0;
    const int asked = b->b->o.images < most ? b->b->o.images : most;
    refine_report base = REFINE_REPORT_INIT, r = REFINE_REPORT_INIT;
    r.base = &base;

    set_images(b, 1);
    TRY(refine_plan(&r, &b->o, j, err));
    b->o.rates = r.rates;
    if (asked > 0 || !(r.predicted_step > 0)) {
        set_images(b, asked > 0 ? asked : 1);
        return REFINE_OK;
    }
    cost[1] = best = r.predicted_step;
    for (int n = 2; n <= most; n *= 2) {
        set_images(b, n);
        if (refine_plan(&r, &b->o, j, NULL) != REFINE_OK)
            break;
        cost[n] = r.predicted_step / n;
        best = cost[n] < best ? cost[n] : best;
    }
    int n = 1;
    while (cost[n] > best * AS_GOOD)
        n *= 2;
    set_images(b, n);
    return REFINE_OK;
}

/* As the last group, if that was of the same shape; else planned anew, for which the engine
 * makes room. */
static refine_status size_group(batch *b, const refine_job *j, int most, refine_error *err)
{
    if (b->e && same_job_shape(&b->shape, j)) {
        b->o.images = b->advised < most ? b->advised : most;
        return REFINE_OK;
    }
    refine_close(b->e);
    b->e = NULL;
    b->reserve = 2 * job_input_later(&b->m[0].in);
    TRY(choose_images(b, j, most, err));
    b->advised = b->o.images;
    return REFINE_OK;
}

/* ---- places that are full ---- */

/* Of the file system that the output goes to; false: it is not known. */
static bool find_file_system(dev_t *out, const char *output)
{
    char dir[PATH_MAX];
    struct stat st;
    if (!file_directory(dir, sizeof dir, output) || stat(dir, &st) != 0)
        return false;
    *out = st.st_dev;
    return true;
}

static void note_full_place(batch *b, const char *output, refine_status st)
{
    dev_t place;
    if (st != REFINE_EIO)
        return;
    b->sum.unwritten = true;
    if (b->n_full < FULL_MAX && find_file_system(&place, output))
        b->full[b->n_full++] = place;
}

/* What could not be written there once is not made in vain a second time. */
static refine_status refuse_full_place(const batch *b, const work_item *item, refine_error *err)
{
    dev_t place;
    for (int i = 0; i < b->n_full && find_file_system(&place, item->output); i++)
        if (b->full[i] == place)
            return refine_fail(err, REFINE_EIO,
                               "%s: is not made, as another image could not be written there",
                               item->output);
    return REFINE_OK;
}

/* ---- filling a group ---- */

static void skip_member(batch *b, member *m, refine_status st, const refine_error *err)
{
    b->b->skipped(b->b->context, m->item, st, err);
    b->sum.there += st == REFINE_OK;
    b->sum.failed += st != REFINE_OK;
    job_input_free(&m->in);
}

/* What reading another image may take: beside an open engine, what was set aside for it. */
static uint64_t reading_ceiling(const batch *b)
{
    uint64_t left = b->b->input.image.memory;
    if (b->e)
        return num_min(left, b->reserve);
    for (int i = 0; i < b->loaded; i++)
        left -= num_min(left, job_input_later(&b->m[i].in));
    return left;
}

static bool is_seeded(const batch *b, const work_item *item)
{
    return item->seed_from == SEED_GIVEN || (item->seed_from == SEED_OF_COMMAND && b->b->seeded);
}

static uint64_t seed_of(const batch *b, const work_item *item)
{
    const uint64_t first = item->seed_from == SEED_GIVEN ? item->seed : b->b->j.seed;
    if (!is_seeded(b, item))
        return batch_draw_seed();
    return first + (uint64_t)(item->copy > 0 ? item->copy - 1 : 0);
}

/* What the command and, before it, the list say. */
static refine_job job_of_item(const batch *b, const work_item *item)
{
    refine_job j = b->b->j;
    j.prompt = item->prompt ? item->prompt : j.prompt;
    j.negative = item->negative ? item->negative : j.negative;
    j.prompt_2 = item->prompt_2 ? item->prompt_2 : j.prompt_2;
    j.negative_2 = item->negative_2 ? item->negative_2 : j.negative_2;
    j.steps = item->steps > 0 ? item->steps : j.steps;
    j.strength = isnan(item->strength) ? j.strength : item->strength;
    j.guidance = isnan(item->guidance) ? j.guidance : (float)item->guidance;
    j.seed = seed_of(b, item);
    return j;
}

static refine_status load_member(const batch *b, member *m, refine_error *err)
{
    input_settings how = b->b->input;
    how.image.memory = reading_ceiling(b);
    if (m->item->sized) {
        how.size = m->item->size;
        how.size.fit = b->b->input.size.fit;
    }
    m->j = job_of_item(b, m->item);
    return job_input_load(&m->in, &m->j, m->item->input, true, false, &how, err);
}

/* Asked before the image is made, and when it is written, which may be an hour later. */
static refine_status refuse_foreign(const work_item *item, refine_error *err)
{
    if (!output_is_foreign(item->output))
        return REFINE_OK;
    return refine_fail(err, REFINE_EINVAL,
                       "%s: is there, and no image of this program's making: move it away, or "
                       "write elsewhere",
                       item->output);
}

/* The next image of the list that is to be made; false at the end, or if it must wait. */
static bool load_next(batch *b, const refine_report *plan)
{
    while (b->next < b->l->n) {
        member *m = &b->m[b->loaded];
        refine_error err = { 0 };
        *m = (member){ .item = &b->l->item[b->next++] };
        const refine_status st = load_member(b, m, &err);
        b->waits = st == REFINE_EBUDGET && (b->e || b->loaded > 0);
        if (b->waits) {
            job_input_free(&m->in);
            b->next--;
            return false;
        }
        if (st != REFINE_OK) {
            skip_member(b, m, st, &err);
        } else if (output_is_done(m->item->output, &m->in, &m->j, b->b->input.image.background,
                                  plan, is_seeded(b, m->item))) {
            skip_member(b, m, REFINE_OK, NULL);
        } else if (refuse_foreign(m->item, &err) != REFINE_OK) {
            skip_member(b, m, REFINE_EINVAL, &err);
        } else if (refuse_full_place(b, m->item, &err) != REFINE_OK) {
            skip_member(b, m, REFINE_EIO, &err);
        } else {
            b->loaded++;
            return true;
        }
    }
    return false;
}

static void skip_first(batch *b, refine_status st, const refine_error *why)
{
    skip_member(b, &b->m[0], st, why);
    b->loaded--;
    memmove(b->m, b->m + 1, (size_t)b->loaded * sizeof *b->m);
}

/* An image that cannot be made as the list has it. */
static void drop_first(batch *b, const refine_error *why)
{
    refine_error err = { 0 };
    const work_item *item = b->m[0].item;
    (void)refine_fail(&err, REFINE_EINVAL, "%s: %s", item->input ? item->input : item->output,
                      why->text);
    skip_first(b, REFINE_EINVAL, &err);
}

/* What was loaded beside a group of which something could not be written. */
static void drop_for_full_places(batch *b)
{
    refine_error err = { 0 };
    while (b->loaded > 0 && refuse_full_place(b, b->m[0].item, &err) != REFINE_OK)
        skip_first(b, REFINE_EIO, &err);
}

/* As load_next, where nothing is loaded: an engine in the way is closed. */
static bool load_first(batch *b, const refine_report *plan)
{
    if (load_next(b, plan))
        return true;
    if (!b->waits)
        return false;
    refine_close(b->e);
    b->e = NULL;
    return load_next(b, plan);
}

/* Loads neighbours of one shape.  `plan` says what a finished image carries. */
static refine_status fill_group(batch *b, const refine_report *plan, refine_error *err)
{
    refine_status st = REFINE_EINVAL;
    drop_for_full_places(b);
    while (st == REFINE_EINVAL) {
        if (b->loaded == 0 && !load_first(b, plan))
            return REFINE_OK;
        const int left = b->l->n - b->next + 1;
        st = size_group(b, &b->m[0].j, left < BATCH_MAX ? left : BATCH_MAX, err);
        if (st == REFINE_EINVAL)
            drop_first(b, err);
    }
    TRY(st);
    b->n = 1;
    while (b->n < b->o.images && load_next(b, plan) && same_job_shape(&b->m[0].j, &b->m[b->n].j))
        b->n++;
    b->o.images = b->n;
    return REFINE_OK;
}

/* ---- running it ---- */

static refine_status open_engine(batch *b, const refine_job *j, refine_error *err)
{
    refine_report base = REFINE_REPORT_INIT, r = REFINE_REPORT_INIT;
    r.base = &base;
    if (b->e) {
        refine_get_report(b->e, &r);
        if (r.images == b->n && same_job_shape(&b->shape, j))
            return REFINE_OK;
        refine_close(b->e);
        b->e = NULL;
    }
    b->shape = *j;
    TRY(refine_open(&b->e, &b->o, j, err));
    refine_get_report(b->e, &r);
    b->b->opened(b->b->context, &r, b->l->n - b->next + b->loaded);
    return REFINE_OK;
}

/* The caller's; NULL without memory. */
static json_t *notes_of_member(const batch *b, int number)
{
    const member *m = &b->m[number];
    int tokens, negative;
    char unused[REFINE_UNUSED_TEXT];
    json_t *notes = json_array();
    refine_get_tokens(b->e, number, &tokens, &negative);
    refine_get_unused(b->e, number, unused);
    if (notes && m->item->input)
        note_input(notes, m->item->input, &m->in);
    if (notes)
        note_tokens(notes, m->item->output, tokens, negative);
    if (notes)
        note_unused(notes, unused);
    return notes;
}

static refine_status save_member(const batch *b, const member *m, const refine_report *r,
                                 refine_error *err)
{
    TRY(refuse_foreign(m->item, err));
    return output_save(m->item->output, &m->in, &m->j, b->b->input.image.background, r, err);
}

static void save_group(batch *b, const refine_report *r)
{
    batch_image made[BATCH_MAX];
    int n = 0;

    for (int i = 0; i < b->n; i++) {
        member *m = &b->m[i];
        refine_error err = { 0 };
        const refine_status st = save_member(b, m, r, &err);
        if (st != REFINE_OK) {
            note_full_place(b, m->item->output, st);
            skip_member(b, m, st, &err);
            continue;
        }
        made[n++] = (batch_image){ m->item, m->j, notes_of_member(b, i) };
        job_input_free(&m->in);
    }
    b->sum.made += n;
    if (n > 0)
        b->b->finished(b->b->context, r, made, n);
    for (int i = 0; i < n; i++)
        json_decref(made[i].notes);
}

static refine_status run_group(batch *b, refine_error *err)
{
    refine_job jobs[BATCH_MAX];
    refine_report base = REFINE_REPORT_INIT, r = REFINE_REPORT_INIT;
    r.base = &base;

    for (int i = 0; i < b->n; i++)
        jobs[i] = b->m[i].j;
    TRY(open_engine(b, &jobs[0], err));
    TRY(refine_run_many(b->e, jobs, b->n, err));
    refine_get_report(b->e, &r);
    save_group(b, &r);
    b->loaded -= b->n;
    memmove(b->m, b->m + b->n, (size_t)b->loaded * sizeof *b->m);
    b->n = 0;
    return REFINE_OK;
}

static bool has_item_from_text(const work_list *l)
{
    for (int i = 0; i < l->n; i++)
        if (!l->item[i].input)
            return true;
    return false;
}

static bool has_item_with_steps_of_its_own(const work_list *l)
{
    for (int i = 0; i < l->n; i++)
        if (l->item[i].steps > 0 || !isnan(l->item[i].strength))
            return true;
    return false;
}

/* What every image of the run has in common: the models and the precision.  Any size does, and any
 * steps where they are not every image's; two stages begin with text. */
static refine_status plan_models(const batch *b, refine_report *r, refine_error *err)
{
    refine_options o = b->o;
    refine_job j = b->b->j;
    const bool two_stage = o.base_path && j.handoff == 0;
    uint8_t pixel = 0;
    o.images = 1;
    o.vram_bytes = o.ram_bytes = ANY_CEILING;
    o.rates = (refine_rates){ 1, 1, 1, 1, 1, 1, 1 };
    j.width = j.height = 64;
    j.rgb_in = two_stage ? NULL : &pixel;
    j.rgb_out = &pixel;
    if (has_item_with_steps_of_its_own(b->l)) {
        j.steps = 10;
        j.strength = two_stage ? 0.5 : 1;
        j.handoff = two_stage || !o.base_path ? 0 : 0.5;
        j.denoising_start = j.denoising_end = 0;
    }
    if (!two_stage && has_item_from_text(b->l))
        j.strength = 1;
    return refine_plan(r, &o, &j, err);
}

refine_status batch_run(const batch_options *o, const work_list *l, batch_result *out,
                        refine_error *err)
{
    batch b = { .b = o, .l = l, .o = o->o };
    refine_report base = REFINE_REPORT_INIT, plan = REFINE_REPORT_INIT;
    plan.base = &base;
    refine_status st = plan_models(&b, &plan, err);

    while (st == REFINE_OK) {
        st = fill_group(&b, &plan, err);
        if (st != REFINE_OK || b.n == 0)
            break;
        st = run_group(&b, err);
    }
    for (int i = 0; i < b.loaded; i++)
        job_input_free(&b.m[i].in);
    refine_close(b.e);
    *out = b.sum;
    return st;
}
