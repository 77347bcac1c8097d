/* engine/report.c -- what the plan and a run leave in the report, and what an engine answers of
 * itself. */
#include "engine/engine_state.h"

#include "engine/base/clock.h"
#include "engine/base/mem.h"
#include "engine/base/num.h"

#include <stdio.h>
#include <string.h>

/* What libraries and threads' stacks take once a run is under way, and what malloc keeps of
 * what is freed while opening: half of all jobs within half a MiB of it (docs/memory.md). */
#define LIBRARY_BYTES ((uint64_t)5 << 17)

uint64_t engine_process_memory(const char *key)
{
    unsigned long long kib = 0;
    const size_t n = strlen(key);
    char line[128];
    FILE *f = fopen("/proc/self/status", "re");
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, key, n) == 0 && sscanf(line + n, ": %llu kB", &kib) == 1)
            break;
    if (f)
        (void)fclose(f);
    return (uint64_t)kib << 10;
}

static void add_note(refine_report *r, const char *note)
{
    const size_t n = strlen(r->note);
    if (note[0])
        (void)snprintf(r->note + n, sizeof r->note - n, "%s%s", n ? "; " : "", note);
}

static double median_step_seconds(double *sorted, const double *v, int n)
{
    for (int i = 0; i < n; i++) { /* insertion: n is a number of steps */
        int k = i;
        for (; k > 0 && sorted[k - 1] > v[i]; k--)
            sorted[k] = sorted[k - 1];
        sorted[k] = v[i];
    }
    return n % 2 ? sorted[n / 2] : 0.5 * (sorted[n / 2 - 1] + sorted[n / 2]);
}

void engine_report_plan(refine_engine *e)
{
    static const char *const PRECISION[] = { "f32", "fp16", "bf16" };
    const plan *p = &e->plan;
    const memory_limits *l = &p->limits;
    const phase_sizes *s = &p->phases;
    const arena_layout *a = &p->arena;
    const host_memory *h = &p->host;
    refine_report *r = &e->report;

    r->struct_bytes = sizeof *r;
    r->memory.device_overhead = l->overhead;
    r->memory.device_planned = l->overhead + a->bytes;
    r->memory.device_limit = l->overhead + l->device;
    r->memory.host_planned = h->bytes;
    r->memory.host_limit = l->host;
    r->memory.rss_planned = e->rss_before + (h->bytes - h->caller - e->heap_before) +
                            (dev_is_discrete(e->d) ? 0 : a->bytes) + LIBRARY_BYTES;
    r->memory.ring = a->ring;
    r->memory.resident = a->residents;
    r->memory.activations = num_max(num_max(s->encode, s->text), num_max(s->unet, s->decode));
    r->memory.prompt = s->prompt;
    r->memory.cached = h->cached;
    r->memory.spill_host = h->spill_host;
    r->memory.spill_file = h->spill_file;
    r->memory.workspace = a->workspace;
    r->memory.vectors = a->vectors;
    r->memory.staging = h->staging;
    r->memory.smallest_device = l->overhead + p->smallest_device;
    r->memory.smallest_host = h->smallest;
    r->device = dev_name(e->d);
    snprintf(e->device_model, sizeof e->device_model, "%s", dev_model(e->d));
    r->device_model = e->device_model;
    r->precision = e->device.int8_math ? "int8" : PRECISION[e->r.act];
    r->reader = e->s ? stream_reader_name(e->s) : "";
    r->width = e->p->width;
    r->height = e->p->height;
    r->steps_run = e->p->steps;
    r->decode_threads = h->workers;
    r->threads = dev_threads(e->d);
    r->step = e->step_seconds;
    r->disk_bytes_per_step = p->step_read;
    r->copy_bytes_per_step = p->step_copied;
    r->images = e->p->images;
    r->per_pass = p->unet.per_pass;
    r->passes_per_step = p->passes;
    r->band_rows = p->vae.band_rows;
    r->together = p->together;
    r->rates = p->rates.unet;
    r->predicted_step = p->predicted.step;
    r->predicted_unet = p->predicted.step * e->p->steps;
    if (p->predicted.step > p->predicted.compute)
        r->predicted_stall = 1.0 - p->predicted.compute / p->predicted.step;
    r->predicted_text = e->forecast.phase[REFINE_TEXT];
    r->predicted_encode = e->forecast.phase[REFINE_ENCODING];
    r->predicted_decode = e->forecast.phase[REFINE_DECODING];
    r->predicted_total = forecast_total(&e->forecast);
    r->mispredicted_rate = r->slow_part = "";
    r->source_hash = pack_super(e->m.p)->source_hash;
    r->source_name = e->m.source_name;
    r->note[0] = '\0';
    add_note(r, e->device.note);
    add_note(r, dev_note(e->d));
    add_note(r, e->s ? stream_note(e->s) : "");
}

static void fill_verdict(refine_engine *e)
{
    refine_report *r = &e->report;
    const forecast *f = &e->forecast;
    forecast_rates(f, &r->measured);
    r->mispredicted_rate = forecast_wrong(f, r->step_median);
    r->replayed_step = f->resimulated;
    r->slow_step = f->slowest.by;
    r->slow_part = f->slowest.part;
    r->slow_part_by = f->slowest.part_by;
}

void engine_report_run(refine_engine *e)
{
    refine_report *r = &e->report;
    const stream_stats s = stream_stats_since(e->o.at_start, stream_get_stats(e->s));
    const uint64_t heap = mem_used().peak,
                   on_host = dev_is_discrete(e->d) ? 0 : e->plan.arena.bytes;

    r->total = clock_seconds() - e->o.started;
    r->vae_encode = e->o.seconds[REFINE_ENCODING];
    r->text = e->o.seconds[REFINE_TEXT];
    r->unet = e->o.seconds[REFINE_DENOISING];
    r->vae_decode = e->o.seconds[REFINE_DECODING];
    r->first_step = e->step_seconds[0];
    r->step_median = median_step_seconds(e->step_seconds + e->p->steps, e->step_seconds,
                                         e->p->steps);
    r->memory.device_peak = e->plan.limits.overhead + e->plan.arena.bytes;
    r->memory.host_peak = heap > on_host ? heap - on_host : heap;
    r->memory.rss_peak = engine_process_memory("VmHWM");
    r->disk_bytes = s.disk_bytes;
    r->disk_rate = s.disk_busy > 0 ? (double)s.disk_bytes / s.disk_busy : 0;
    r->copy_rate = s.copy_busy > 0 ? (double)s.copied_bytes / s.copy_busy : 0;
    r->stall_disk = s.stall_disk;
    r->stall_decode = s.stall_decode;
    r->stall_copy = s.stall_copy;
    r->measured.disk = r->disk_rate;
    r->measured.copy = r->copy_rate;
    if (s.decode_busy > 0)
        r->measured.decode = (double)s.decoded_bytes / s.decode_busy * e->plan.host.workers;
    fill_verdict(e);
}

void refine_get_report(const refine_engine *e, refine_report *out) { *out = e->report; }

int refine_chunks(const refine_engine *e) { return n_pack_chunks(e->m.p); }

refine_status refine_get_chunk(const refine_engine *e, int i, refine_chunk *out)
{
    static const refine_phase PHASES[N_SEGMENTS] = {
        [SEG_VECTORS] = REFINE_OPENING, [SEG_TEXT] = REFINE_TEXT,
        [SEG_ONCE] = REFINE_TEXT,       [SEG_VAE_ENCODE] = REFINE_ENCODING,
        [SEG_UNET] = REFINE_DENOISING,  [SEG_VAE_DECODE] = REFINE_DECODING,
        [SEG_TOKENS] = REFINE_TEXT,
    };
    if (i < 0 || i >= n_pack_chunks(e->m.p))
        return REFINE_EINVAL;
    const pack_chunk *c = pack_chunk_at(e->m.p, i);
    *out = (refine_chunk){ .name = pack_tensor_name(e->m.p, (int)c->tensor),
                           .phase = PHASES[c->segment],
                           .bytes = c->bytes,
                           .stored_bytes = c->stored_bytes,
                           .flops = 2.0 * (double)dev_work_macs(e->plan.work[i]),
                           .seconds = e->plan.seconds[i] };
    if (e->plan.is_resident[i] || c->segment == SEG_VECTORS)
        out->tier = REFINE_TIER_DEVICE;
    else if (e->plan.is_cached[i])
        out->tier = REFINE_TIER_HOST;
    return REFINE_OK;
}

const refine_event *refine_trace(const refine_engine *e, size_t *n, size_t *lost)
{
    return trace_events(e->t, n, lost);
}
