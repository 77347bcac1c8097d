/* engine/plan/dry_run.c -- phases on the plan device, with weights that never arrive. */
#include "engine/plan/dry_run.h"

#include "engine/base/mem.h"
#include "engine/base/num.h"
#include "engine/plan/recorder.h"

#include <assert.h>

typedef struct dry_run {
    phases p; /* a copy, which goes the way that is tried */
    forward_ctx r;
    recorder rec;
    size_t zone;
} dry_run;

static dry_run *dry_run_open(const dry_run_job *j, dev_work *work, refine_error *err)
{
    dev *d = dev_open_plan(j->target, err);
    dry_run *h = mem_calloc(1, sizeof *h);

    if (!d || !h) {
        dev_close(d);
        mem_free(h);
        refine_fail(err, REFINE_ENOMEM, "out of memory");
        return NULL;
    }
    h->p = *j->p;
    h->zone = j->zone;
    phases_precision(&h->r, d, j->p->act);
    recorder_open(&h->rec, j->p->m->p, d, work);
    h->r.m = j->p->m;
    h->r.w = &h->rec.w;
    h->r.vectors = SCRATCH_TOKEN;
    return h;
}

/* Closes it and says what it needed of all phases alike. */
static refine_status dry_run_end(dry_run *h, phase_sizes *out, refine_error *err)
{
    dev *d = h->r.d;
    const refine_status st = dev_status(d);
    if (st != REFINE_OK)
        refine_fail(err, st, "planning failed: %s", dev_why(d));
    recorder_flush(&h->rec);
    assert(h->rec.in_order && "the model touches its weights in another order than its layout");
    out->workspace = num_align(dev_workspace_needed(d), SCRATCH_ALIGN);
    out->inside = h->rec.inside_peak;
    mem_free(h);
    dev_close(d);
    return st;
}

/* Starts a phase (or a group of them) on an empty region. */
static void open_dry_region(dry_run *h)
{
    scratch_open(&h->r.mem, h->r.d, SCRATCH_TOKEN, SIZE_MAX, h->zone);
}

/* Each returns the peak of what it replays. */
static size_t dry_run_encode(dry_run *h)
{
    open_dry_region(h);
    phases_encode(&h->p, &h->r, NULL);
    return h->r.mem.peak;
}

static size_t dry_run_decode(dry_run *h)
{
    open_dry_region(h);
    phases_decode(&h->p, &h->r, 0, NULL);
    return h->r.mem.peak;
}

static size_t dry_run_step(dry_run *h)
{
    h->r.mem.peak = 0;
    phases_pass(&h->p, &h->r, 0, 0);
    return h->r.mem.peak;
}

/* Writes out the norms that lie within so many bytes, and then those below the peak which that
 * makes.  They raise it no further: what is prepared is given back before anything else is
 * taken. */
static size_t dry_run_twice(dry_run *h, size_t (*phase)(dry_run *), size_t norms_within)
{
    h->r.norms_within = norms_within;
    h->r.norms_within = phase(h);
    return phase(h);
}

refine_status dry_run_vae(phase_sizes *out, const dry_run_job *j, vae_way way, dev_work *work,
                          refine_error *err)
{
    dry_run *h = dry_run_open(j, work, err);
    if (!h)
        return REFINE_ENOMEM;
    *out = (phase_sizes){ 0 };
    h->r.band_rows = way.band_rows;
    h->r.spill_from = way.spill_from;
    scratch_open(&h->r.spilled, h->r.d, SCRATCH_TOKEN, SIZE_MAX, 0);
    if (h->p.encodes)
        out->encode = dry_run_twice(h, dry_run_encode, 0);
    if (h->p.decodes)
        out->decode = dry_run_twice(h, dry_run_decode, 0);
    out->spill = h->r.spilled.peak;
    return dry_run_end(h, out, err);
}

refine_status dry_run_unet(phase_sizes *out, const dry_run_job *j, unet_way way, dev_work *work,
                           refine_error *err)
{
    dry_run *h = dry_run_open(j, work, err);
    if (!h)
        return REFINE_ENOMEM;
    *out = (phase_sizes){ 0 };
    h->p.per_pass = way.per_pass;
    open_dry_region(h);
    phases_text(&h->p, &h->r, NULL);
    out->text = h->r.mem.peak;
    out->prompt = scratch_live(&h->r.mem);
    out->unet = dry_run_twice(h, dry_run_step, way.norms_anywhere ? SIZE_MAX : 0);
    return dry_run_end(h, out, err);
}

phase_sizes phase_sizes_join(const phase_sizes *a, const phase_sizes *b)
{
    return (phase_sizes){ .encode = num_max(a->encode, b->encode),
                          .text = num_max(a->text, b->text),
                          .unet = num_max(a->unet, b->unet),
                          .decode = num_max(a->decode, b->decode),
                          .prompt = num_max(a->prompt, b->prompt),
                          .spill = num_max(a->spill, b->spill),
                          .workspace = num_max(a->workspace, b->workspace),
                          .inside = num_max(a->inside, b->inside) };
}
