/* engine/report.c -- what the plan and a run leave in the report, and what an engine answers of
 * itself. */
#include "engine/engine_state.h"

#include "engine/base/clock.h"
#include "engine/base/mem.h"
#include "engine/base/num.h"
#include "offload/codec.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

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

/* Latents are the same for both, and pixels may not be. */
static const char *decoder_note(const refine_engine *e)
{
    const uint64_t base = pack_super(e->part[0].m.p)->decoder_hash;
    const uint64_t refiner = pack_super(e->part[e->n_parts - 1].m.p)->decoder_hash;
    return base && refiner && base != refiner
               ? "base and refiner have different VAEs: the refiner's decodes"
               : "";
}

/* Each model's steps are spaced as its own pack says. */
static void add_handover_note(refine_report *r, const refine_engine *e)
{
    const phases *base = e->part[0].p, *refiner = e->part[e->n_parts - 1].p;
    const float left = base->sampler.sigma[base->first + base->steps];
    const float expected = refiner->sampler.sigma[refiner->first];
    char note[96];
    if (!e->hands_noise || fabsf(left - expected) < 0.02f * expected)
        return;
    (void)snprintf(note, sizeof note,
                   "the base leaves noise of %.3g and the refiner expects %.3g: other spacing",
                   left, expected);
    add_note(r, note);
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

/* What is taken already, but not touched before a run.  What libraries and stacks take then is
 * about as much as a plan has and a run leaves untouched (docs/memory.md). */
static uint64_t untouched_bytes(const refine_engine *e)
{
    uint64_t sum = 0;
    for (int k = 0; k < e->n_parts; k++)
        sum += pack_row_buffer_bytes(e->part[k].m.p);
    return sum;
}

static void report_part_memory(const refine_engine *e, engine_part *part)
{
    const plan *p = &part->plan;
    const memory_limits *l = &p->limits;
    const phase_sizes *s = &p->phases;
    const arena_layout *a = &p->arena;
    const host_memory *h = &p->host;
    refine_memory *m = &part->report.memory;

    m->device_overhead = l->overhead;
    m->device_planned = l->overhead + a->bytes;
    m->device_limit = l->overhead + l->device;
    m->host_planned = h->bytes;
    m->host_limit = l->host;
    m->device_limit_by = l->device_by ? l->device_by : "as asked for";
    m->host_limit_by = l->host_by ? l->host_by : "as asked for";
    m->rss_planned = num_max(e->rss_before + (h->bytes - h->caller - e->heap_before) +
                                 (dev_is_discrete(e->d) ? 0 : e->arena_bytes) + untouched_bytes(e),
                             e->rss_peak_before);
    m->ring = a->ring;
    m->resident = a->residents;
    m->activations = num_max(num_max(s->encode, s->text), num_max(s->unet, s->decode));
    m->prompt = s->prompt;
    m->cached = h->cached;
    m->spill_host = h->spill_host;
    m->spill_file = h->spill_file;
    m->workspace = a->workspace;
    m->vectors = a->vectors;
    m->staging = h->staging;
    m->smallest_device = l->overhead + p->smallest_device;
    m->smallest_host = h->smallest;
}

/* With the tokenizer that its prompts are read by. */
static uint64_t hash_read_model(const refine_engine *e, const engine_part *part)
{
    const uint64_t both[] = { part->m.hash, e->merges_hash };
    return e->merges_hash ? codec_hash(both, sizeof both) : part->m.hash;
}

static uint64_t hash_device(const dev *d)
{
    const char *words[] = { dev_name(d), dev_rounding(d) };
    const uint64_t both[] = { codec_hash(words[0], strlen(words[0])),
                              codec_hash(words[1], strlen(words[1])) };
    return codec_hash(both, sizeof both);
}

static void report_part_plan(const refine_engine *e, engine_part *part)
{
    static const char *const PRECISION[] = { "f32", "fp16", "bf16" };
    const plan *p = &part->plan;
    refine_report *r = &part->report;

    r->struct_bytes = sizeof *r;
    report_part_memory(e, part);
    r->device = dev_name(e->d);
    r->device_model = e->device_model;
    r->precision = e->device.int8_math ? "int8" : PRECISION[e->r.act];
    r->reader = e->s ? stream_reader_name(e->s) : "";
    r->width = part->p->width;
    r->height = part->p->height;
    r->steps_run = part->p->steps;
    r->decode_threads = p->host.workers;
    r->threads = dev_threads(e->d);
    r->step = part->step_seconds;
    r->disk_bytes_per_step = p->step_read;
    r->copy_bytes_per_step = p->step_copied;
    r->images = part->p->images;
    r->per_pass = p->unet.per_pass;
    r->passes_per_step = p->passes;
    r->band_rows = p->vae.band_rows;
    r->together = p->together;
    r->rates = p->rates.unet;
    r->predicted_step = p->predicted.step;
    r->predicted_unet = p->predicted.step * part->p->steps;
    if (p->predicted.step > p->predicted.compute)
        r->predicted_stall = 1.0 - p->predicted.compute / p->predicted.step;
    r->predicted_text = part->forecast.phase[REFINE_TEXT];
    r->predicted_encode = part->forecast.phase[REFINE_ENCODING];
    r->predicted_decode = part->forecast.phase[REFINE_DECODING];
    r->predicted_total = forecast_total(&part->forecast);
    r->mispredicted_rate = r->slow_part = "";
    r->sampler = part->p->sampler.ancestral ? "euler ancestral" : "euler";
    r->source_hash = pack_super(part->m.p)->source_hash;
    r->model_hash = hash_read_model(e, part);
    r->device_hash = hash_device(e->d);
    r->source_name = part->m.source_name;
}

/* A base may read more, of a prompt of its own. */
void refine_get_tokens(const refine_engine *e, int image, int *tokens, int *negative_tokens)
{
    *tokens = *negative_tokens = 0;
    for (int k = 0; k < e->n_parts; k++) {
        const phases *p = e->part[k].p;
        const int *counts = &p->n_tokens[2 * image];
        assert(image >= 0 && image < p->images);
        *tokens = counts[1] > *tokens ? counts[1] : *tokens;
        *negative_tokens = counts[0] > *negative_tokens ? counts[0] : *negative_tokens;
    }
}

void refine_get_unused(const refine_engine *e, int image, char out[REFINE_UNUSED_TEXT])
{
    assert(image >= 0 && image < e->part[0].p->images);
    unused_words(out, e->unused[image]);
}

/* The part that needs most of the arena says what it is made of. */
static const refine_memory *most_memory(const refine_engine *e)
{
    const refine_memory *most = &e->part[0].report.memory;
    for (int k = 1; k < e->n_parts; k++)
        if (e->part[k].report.memory.device_planned >= most->device_planned)
            most = &e->part[k].report.memory;
    return most;
}

/* The last part's, but for what is of all. */
static void join_reports(refine_engine *e)
{
    refine_report *r = &e->report;
    *r = engine_last_part(e)->report;
    r->memory = *most_memory(e);
    r->open = e->open_seconds;
    for (int k = 0; k + 1 < e->n_parts; k++) {
        const refine_report *of = &e->part[k].report;
        r->predicted_total = r->predicted_total > 0 && of->predicted_total > 0
                                 ? r->predicted_total + of->predicted_total
                                 : 0;
        r->total += of->total;
        r->disk_bytes += of->disk_bytes;
        r->stall_disk += of->stall_disk;
        r->stall_decode += of->stall_decode;
        r->stall_copy += of->stall_copy;
    }
    refine_get_tokens(e, 0, &r->tokens, &r->negative_tokens);
    add_note(r, e->device.note);
    add_note(r, dev_note(e->d));
    add_note(r, e->s ? stream_note(e->s) : "");
    add_note(r, decoder_note(e));
    add_handover_note(r, e);
    unused_words(r->unused, e->unused[0]);
}

static void find_unused_of_jobs(refine_engine *e, const refine_job *jobs, int n)
{
    const phases *all[PACKS_MAX];
    for (int k = 0; k < e->n_parts; k++)
        all[k] = e->part[k].p;
    for (int i = 0; i < n; i++)
        e->unused[i] = find_unused(all, e->n_parts, &jobs[i]);
}

void engine_report_plan(refine_engine *e, const refine_job *j)
{
    find_unused_of_jobs(e, j, 1);
    snprintf(e->device_model, sizeof e->device_model, "%s", dev_model(e->d));
    for (int k = 0; k < e->n_parts; k++)
        report_part_plan(e, &e->part[k]);
    join_reports(e);
}

static void fill_verdict(engine_part *p)
{
    refine_report *r = &p->report;
    const forecast *f = &p->forecast;
    forecast_rates(f, &r->measured);
    r->mispredicted_rate = forecast_wrong(f, r->step_median);
    r->replayed_step = f->resimulated;
    r->slow_step = f->slowest.by;
    r->slow_part = f->slowest.part;
    r->slow_part_by = f->slowest.part_by;
}

static void report_peaks(const refine_engine *e, refine_memory *m)
{
    const uint64_t heap = mem_used().peak, on_host = dev_is_discrete(e->d) ? 0 : e->arena_bytes;
    m->device_peak = e->part[0].plan.limits.overhead + e->arena_bytes;
    m->host_peak = heap > on_host ? heap - on_host : heap;
    m->rss_peak = engine_process_memory("VmHWM");
}

void engine_report_part(refine_engine *e, engine_part *p)
{
    refine_report *r = &p->report;
    const stream_stats s = stream_stats_since(e->o.at_part, stream_get_stats(e->s));

    r->total = clock_seconds() - e->o.part_started;
    r->vae_encode = e->o.seconds[REFINE_ENCODING];
    r->text = e->o.seconds[REFINE_TEXT];
    r->unet = e->o.seconds[REFINE_DENOISING];
    r->vae_decode = e->o.seconds[REFINE_DECODING];
    r->first_step = p->step_seconds[0];
    r->step_median = median_step_seconds(p->step_seconds + p->p->steps, p->step_seconds,
                                         p->p->steps);
    report_peaks(e, &r->memory);
    r->disk_bytes = s.disk_bytes;
    r->disk_rate = s.disk_busy > 0 ? (double)s.disk_bytes / s.disk_busy : 0;
    r->copy_rate = s.copy_busy > 0 ? (double)s.copied_bytes / s.copy_busy : 0;
    r->stall_disk = s.stall_disk;
    r->stall_decode = s.stall_decode;
    r->stall_copy = s.stall_copy;
    r->measured.disk = r->disk_rate;
    r->measured.copy = r->copy_rate;
    if (s.decode_busy > 0)
        r->measured.decode = (double)s.decoded_bytes / s.decode_busy * p->plan.host.workers;
    fill_verdict(p);
}

void engine_report_run(refine_engine *e, const refine_job *jobs)
{
    find_unused_of_jobs(e, jobs, e->part[0].p->images);
    join_reports(e);
    e->report.total = clock_seconds() - e->o.started;
    report_peaks(e, &e->report.memory);
}

void refine_get_report(const refine_engine *e, refine_report *out)
{
    refine_report *base = out->base;
    *out = e->report;
    out->base = e->n_parts > 1 ? base : NULL;
    if (out->base)
        *out->base = e->part[0].report;
}

int refine_chunks(const refine_engine *e)
{
    int n = 0;
    for (int k = 0; k < e->n_parts; k++)
        n += n_pack_chunks(e->part[k].m.p);
    return n;
}

refine_status refine_get_chunk(const refine_engine *e, int i, refine_chunk *out)
{
    static const refine_phase PHASES[N_SEGMENTS] = {
        [SEG_VECTORS] = REFINE_OPENING, [SEG_TEXT] = REFINE_TEXT,
        [SEG_ONCE] = REFINE_TEXT,       [SEG_VAE_ENCODE] = REFINE_ENCODING,
        [SEG_UNET] = REFINE_DENOISING,  [SEG_VAE_DECODE] = REFINE_DECODING,
        [SEG_TOKENS] = REFINE_TEXT,
    };
    const engine_part *part = e->part;
    if (i < 0 || i >= refine_chunks(e))
        return REFINE_EINVAL;
    while (i >= n_pack_chunks(part->m.p))
        i -= n_pack_chunks((part++)->m.p);
    const pack *p = part->m.p;
    const pack_chunk *c = pack_chunk_at(p, i);
    *out = (refine_chunk){ .name = pack_tensor_name(p, (int)c->tensor),
                           .of_base = part + 1 < e->part + e->n_parts,
                           .phase = PHASES[c->segment],
                           .bytes = c->bytes,
                           .stored_bytes = c->stored_bytes,
                           .flops = 2.0 * (double)dev_work_macs(part->plan.work[i]),
                           .seconds = part->plan.seconds[i] };
    if (part->plan.is_resident[i] || c->segment == SEG_VECTORS)
        out->tier = REFINE_TIER_DEVICE;
    else if (part->plan.is_cached[i])
        out->tier = REFINE_TIER_HOST;
    return REFINE_OK;
}

const refine_event *refine_trace(const refine_engine *e, size_t *n, size_t *lost)
{
    return trace_events(e->t, n, lost);
}
