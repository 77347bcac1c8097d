/* tools/batch/batch.c -- fill a group, run it, save it; the next. */
#define _GNU_SOURCE /* getrandom */
#include "tools/batch/batch.h"

#include "engine/base/num.h"
#include "engine/base/try.h"
#include "tools/batch/output.h"

#include <string.h>
#include <sys/random.h>

/* A smaller group is as good when an image costs no more than this share above the best. */
static const double AS_GOOD = 1.03;

/* More than any plan needs: none is made for memory. */
#define ANY_CEILING ((uint64_t)1 << 40)

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
    batch_result sum;
} batch;

uint64_t batch_draw_seed(void)
{
    uint32_t v = 0;
    (void)!getrandom(&v, sizeof v, 0);
    return v;
}

static bool same_latent_shape(const refine_job *a, const refine_job *b)
{
    return a->width == b->width && a->height == b->height && !a->rgb_in == !b->rgb_in;
}

/* ---- how many together ---- */

/* Plans groups of 1, 2, 4, ... for the shape of j; rates are probed once. */
static refine_status choose_images(batch *b, const refine_job *j, int most, refine_error *err)
{
    double cost[BATCH_MAX + 1] = { 0 }, best = 0;
    refine_report base = REFINE_REPORT_INIT, r = REFINE_REPORT_INIT;
    r.base = &base;

    b->o.images = 1;
    TRY(refine_plan(&r, &b->o, j, err));
    b->o.rates = r.rates;
    if (b->b->o.images > 0 || !(r.predicted_step > 0)) {
        b->o.images = b->b->o.images > 0 ? b->b->o.images : 1;
        return REFINE_OK;
    }
    cost[1] = best = r.predicted_step;
    for (int n = 2; n <= most; n *= 2) {
        b->o.images = n;
        if (refine_plan(&r, &b->o, j, NULL) != REFINE_OK)
            break;
        cost[n] = r.predicted_step / n;
        best = cost[n] < best ? cost[n] : best;
    }
    for (b->o.images = 1; cost[b->o.images] > best * AS_GOOD;)
        b->o.images *= 2;
    return REFINE_OK;
}

/* As the last group, if that was of the same shape; else planned anew, for which the engine
 * makes room. */
static refine_status size_group(batch *b, const refine_job *j, int most, refine_error *err)
{
    if (b->e && same_latent_shape(&b->shape, j)) {
        b->o.images = b->advised < most ? b->advised : most;
        return REFINE_OK;
    }
    refine_close(b->e);
    b->e = NULL;
    /* The group's images and the first of the next are still to be loaded. */
    b->o.caller_bytes = (size_t)(most + 2) * job_input_later(&b->m[0].in);
    b->reserve = 2 * job_input_later(&b->m[0].in);
    TRY(choose_images(b, j, most, err));
    b->advised = b->o.images;
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

static refine_status load_member(const batch *b, member *m, refine_error *err)
{
    const work_item *item = m->item;
    input_settings how = b->b->input;
    how.image.memory = reading_ceiling(b);
    m->j = b->b->j;
    if (item->prompt)
        m->j.prompt = item->prompt;
    if (item->negative)
        m->j.negative = item->negative;
    if (item->seeded)
        m->j.seed = item->seed;
    else if (!b->b->seeded)
        m->j.seed = batch_draw_seed();
    return job_input_load(&m->in, &m->j, item->input, true, false, &how, err);
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
                                  plan, b->b->seeded || m->item->seeded)) {
            skip_member(b, m, REFINE_OK, NULL);
        } else {
            if (m->in.note)
                b->b->noted(b->b->context, m->item, m->in.note);
            b->loaded++;
            return true;
        }
    }
    return false;
}

/* Loads neighbours of one shape.  `plan` says what a finished image carries. */
static refine_status fill_group(batch *b, const refine_report *plan, refine_error *err)
{
    if (b->loaded == 0 && !load_next(b, plan)) {
        if (!b->waits)
            return REFINE_OK;
        refine_close(b->e);
        b->e = NULL;
        return fill_group(b, plan, err);
    }
    const int left = b->l->n - b->next + 1;
    TRY(size_group(b, &b->m[0].j, left < BATCH_MAX ? left : BATCH_MAX, err));
    b->n = 1;
    while (b->n < b->o.images && load_next(b, plan) && same_latent_shape(&b->m[0].j, &b->m[b->n].j))
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
        if (r.images == b->n && same_latent_shape(&b->shape, j))
            return REFINE_OK;
        refine_close(b->e);
        b->e = NULL;
    }
    b->shape = *j;
    return refine_open(&b->e, &b->o, j, err);
}

static void save_group(batch *b, const refine_report *r)
{
    const work_item *made[BATCH_MAX];
    refine_job jobs[BATCH_MAX];
    int n = 0;

    for (int i = 0; i < b->n; i++) {
        member *m = &b->m[i];
        refine_error err = { 0 };
        const refine_status st = output_save(m->item->output, &m->in, &m->j,
                                             b->b->input.image.background, r, &err);
        if (st != REFINE_OK) {
            skip_member(b, m, st, &err);
            continue;
        }
        jobs[n] = m->j;
        made[n++] = m->item;
        job_input_free(&m->in);
    }
    b->sum.made += n;
    if (n > 0)
        b->b->finished(b->b->context, r, jobs, made, n);
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

/* What every image of the run has in common: the model and the precision.  Any size does. */
static refine_status plan_model(const batch *b, refine_report *r, refine_error *err)
{
    refine_options o = b->o;
    refine_job j = b->b->j;
    uint8_t pixel = 0;
    o.images = 1;
    o.vram_bytes = o.ram_bytes = ANY_CEILING;
    o.rates = (refine_rates){ 1, 1, 1, 1, 1, 1, 1 };
    j.width = j.height = 64;
    j.rgb_in = j.rgb_out = &pixel;
    return refine_plan(r, &o, &j, err);
}

refine_status batch_run(const batch_options *o, const work_list *l, batch_result *out,
                        refine_error *err)
{
    batch b = { .b = o, .l = l, .o = o->o };
    refine_report plan = REFINE_REPORT_INIT;
    refine_status st = plan_model(&b, &plan, err);

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
