/* engine/plan/rates.c -- probing transfers and compute, and completing what could not be
 * measured. */
#include "engine/plan/rates.h"

#include "engine/plan/cost_jobs.h"
#include "engine/plan/host_memory.h"
#include "offload/probe.h"

#include <string.h>

/* The referee would take seconds, and nobody asks it for speed. */
static bool is_probed(const dev *target) { return strcmp(dev_name(target), "ref") != 0; }

static dtype stored_as(const phases *p) { return model_quantised(p->m) ? DT_I8G64 : DT_F16; }

/* What has had nothing to do runs at a fraction of its speed: a GPU, its link, and processors
 * (docs/speed.md). */
static void warm_up_device(const phases *p, dev *target, const refine_options *o,
                           const memory_limits *l, int per_pass)
{
    const cost_job j = cost_job_unet(p, per_pass, stored_as(p));
    if (is_probed(target) && !cost_known(&o->rates))
        cost_warm_up(target, &j, l->device);
}

/* Bytes of the transfer probe's requests; 0: it does not fit. */
static size_t probe_request(const memory_limits *l, size_t heap)
{
    const size_t sizes[] = { PROBE_REQUEST, PROBE_SMALL_REQUEST };
    for (int i = 0; i < 2; i++)
        if (heap + probe_host_memory(sizes[i]) <= l->host &&
            probe_device_memory(sizes[i]) <= l->device)
            return sizes[i];
    return 0;
}

/* As given, else as probed, and no more than the options allow. */
static refine_rates find_transfer_rates(const phases *p, dev *target, const refine_options *o,
                                        size_t request)
{
    refine_rates r = o->rates;
    int first, end;
    if (request && (r.disk <= 0 || r.decode <= 0 || r.copy <= 0)) {
        pack_segment(p->m->p, SEG_UNET, &first, &end);
        const probe_rates t = probe_transfers(target, p->m->p, first, end, (reader_kind)o->reader,
                                              request);
        r.disk = r.disk > 0 ? r.disk : t.disk;
        r.decode = r.decode > 0 ? r.decode : t.decode * host_memory_workers(o);
        r.copy = r.copy > 0 ? r.copy : t.copy;
    }
    if (o->disk_limit > 0 && r.disk > o->disk_limit)
        r.disk = o->disk_limit;
    if (o->copy_limit > 0 && r.copy > o->copy_limit)
        r.copy = o->copy_limit;
    return r;
}

/* What was not measured is taken to be as in the UNet: text has norms too, and the VAE's may not
 * have fitted. */
static void fill_missing_rates(refine_rates *r, const refine_rates *by)
{
    r->linear = r->linear > 0 ? r->linear : by->linear;
    r->conv = r->conv > 0 ? r->conv : by->conv;
    r->attention = r->attention > 0 ? r->attention : by->attention;
    r->memory = r->memory > 0 ? r->memory : by->memory;
}

/* Of each phase, in its own types and shapes. */
static void probe_compute(plan_rates *out, const phases *p, dev *target, uint64_t device_limit,
                          int per_pass)
{
    const dtype stored = stored_as(p);
    const bool maps = p->encodes || p->decodes;
    forward_ctx r;
    phases_precision(&r, target, p->act);
    const struct {
        bool runs;
        refine_rates *into;
        cost_job job;
    } jobs[] = {
        { true, &out->unet, cost_job_unet(p, per_pass, stored) },
        { true, &out->text, cost_job_text(p, stored) },
        { maps, &out->vae, cost_job_vae(p, r.vae_act, stored) },
        { maps, &out->vae, cost_job_vae_attention(p, stored) },
    };
    for (size_t i = 0; i < sizeof jobs / sizeof jobs[0]; i++)
        if (jobs[i].runs)
            cost_probe(jobs[i].into, target, &jobs[i].job, device_limit);
    fill_missing_rates(&out->text, &out->unet);
    fill_missing_rates(&out->vae, &out->unet);
}

plan_rates rates_find(const phases *p, dev *target, const refine_options *o, const memory_limits *l,
                      size_t heap, int per_pass)
{
    warm_up_device(p, target, o, l, per_pass);
    const refine_rates r = find_transfer_rates(p, target, o, probe_request(l, heap));
    plan_rates out = { .unet = r, .text = r, .vae = r };
    if (is_probed(target))
        probe_compute(&out, p, target, l->device, per_pass);
    return out;
}

static const refine_rates *rates_of_segment(const plan_rates *r, uint32_t seg)
{
    if (seg == SEG_VAE_ENCODE || seg == SEG_VAE_DECODE)
        return &r->vae;
    return seg == SEG_TEXT || seg == SEG_ONCE ? &r->text : &r->unet;
}

void rates_apply(double *seconds, const plan_rates *r, const pack *p, const dev_work *work)
{
    for (int i = 0; i < n_pack_chunks(p); i++)
        seconds[i] = cost_seconds(rates_of_segment(r, pack_chunk_at(p, i)->segment), work[i]);
}
