/* engine/plan/forecast.c -- predicted seconds against those that a run took. */
#include "engine/plan/forecast.h"

#include "engine/plan/cost.h"

#include <math.h>

static const char *const PART[PARTS] = { "linear", "conv",     "attention", "memory",
                                         "disk",   "decoding", "copying" };

/* The prior's share of the whole run; a step that took so many times its prediction is told. */
static const double PRIOR = 0.1, SLOW = 1.5;

/* ---- before a run ---- */

/* One use after the other of the chunks [first, end), none of which stays. */
static simulate_result simulate_fresh(const forecast *f, int first, int end, int uses)
{
    const plan *p = f->plan;
    const simulate_config c = { .p = f->m->p,
                                .first = first,
                                .end = end,
                                .passes = uses,
                                .seconds = p->seconds,
                                .together = p->together,
                                .ring_bytes = p->arena.ring,
                                .slots = p->host.slots,
                                .disk = p->rates.unet.disk,
                                .decode = p->rates.unet.decode,
                                .copy = p->rates.unet.copy };
    return first < end ? simulate_step(&c) : (simulate_result){ 0 };
}

static double simulate_segments(const forecast *f, int seg, int last, int uses)
{
    int first, end, ignored;
    pack_segment(f->m->p, seg, &first, &ignored);
    pack_segment(f->m->p, last, &ignored, &end);
    return simulate_fresh(f, first, end, uses).step;
}

static dev_work work_of_step(const forecast *f)
{
    const uint64_t passes = (uint64_t)phases_passes(f->p);
    dev_work sum = { 0 };
    int first, end;
    pack_segment(f->m->p, SEG_UNET, &first, &end);
    for (int i = first; i < end; i++) {
        const dev_work w = f->plan->work[i];
        sum.linear += w.linear;
        sum.conv += w.conv;
        sum.attention += w.attention;
        sum.bytes += w.bytes;
    }
    return (dev_work){ passes * sum.linear, passes * sum.conv, passes * sum.attention,
                       passes * sum.bytes };
}

static dev_work work_of_kind(dev_work w, dev_kind k)
{
    return (dev_work){ .linear = k == DEV_LINEAR ? w.linear : 0,
                       .conv = k == DEV_CONV ? w.conv : 0,
                       .attention = k == DEV_ATTENTION ? w.attention : 0,
                       .bytes = k == DEV_MEMORY ? w.bytes : 0 };
}

static parts predicted_parts(const forecast *f, const simulate_result *r)
{
    const dev_work w = work_of_step(f);
    parts out = { 0 };
    for (int k = 0; k < DEV_KINDS; k++)
        out.seconds[k] = cost_seconds(&f->plan->rates.unet, work_of_kind(w, (dev_kind)k));
    out.seconds[PART_DISK] = r->stall_disk;
    out.seconds[PART_DECODE] = r->stall_decode;
    out.seconds[PART_COPY] = r->stall_copy;
    return out;
}

void forecast_open(forecast *f, plan *pl, const model *m, const phases *p, const refine_options *o)
{
    int first, end;
    *f = (forecast){ .plan = pl,
                     .m = m,
                     .p = p,
                     .disk_limit = o->disk_limit,
                     .copy_limit = o->copy_limit,
                     .known = pl->predicted.step > 0,
                     .slowest = { .part = "" } };
    if (!f->known)
        return;
    pack_segment(m->p, SEG_UNET, &first, &end);
    const simulate_result fresh = simulate_fresh(f, first, end, phases_passes(p));
    f->first_step = fresh.step;
    f->first_parts = predicted_parts(f, &fresh);
    f->step_parts = predicted_parts(f, &pl->predicted);
    if (p->encodes)
        f->phase[REFINE_ENCODING] = simulate_segments(f, SEG_VAE_ENCODE, SEG_VAE_ENCODE, p->images);
    f->phase[REFINE_TEXT] = simulate_segments(f, SEG_TEXT, SEG_ONCE, 1);
    f->phase[REFINE_DENOISING] = fresh.step + (p->steps - 1) * pl->predicted.step;
    if (p->decodes)
        f->phase[REFINE_DECODING] = simulate_segments(f, SEG_VAE_DECODE, SEG_VAE_DECODE, p->images);
}

static double phases_from(const forecast *f, int phase)
{
    double sum = 0;
    for (int i = phase; i < REFINE_FINISHED; i++)
        sum += f->phase[i];
    return sum;
}

double forecast_total(const forecast *f) { return phases_from(f, REFINE_OPENING); }

/* ---- how much is left ---- */

void forecast_run(forecast *f, double now)
{
    f->now = REFINE_OPENING;
    f->phase_began = now;
    f->taken = f->predicted = f->resimulated = 0;
    f->done = f->all = 0;
    f->steps = (parts){ 0 };
    f->slowest = (slow_step){ .part = "" };
}

static void begin_chunks(forecast *f, int first, int end, int uses)
{
    f->first = f->next = first;
    f->end = end;
    f->done = f->all = 0;
    for (int i = first; i < end; i++)
        f->all += f->plan->seconds[i] * uses;
}

void forecast_phase(forecast *f, refine_phase p, int first, int end, int uses, double now)
{
    f->taken += now - f->phase_began;
    f->predicted += f->phase[f->now];
    f->now = p;
    f->phase_began = f->step_began = now;
    f->step = 0;
    f->steps_taken = f->steps_predicted = 0;
    begin_chunks(f, first, end, uses);
}

/* Chunks come in order, and from the first again in the next use. */
void forecast_tick(forecast *f, int chunk)
{
    if (chunk < f->first || chunk >= f->end)
        return;
    if (chunk < f->next - 1) {
        while (f->next < f->end)
            f->done += f->plan->seconds[f->next++];
        f->next = f->first;
    }
    while (f->next <= chunk)
        f->done += f->plan->seconds[f->next++];
}

double forecast_share(const forecast *f) { return f->all > 0 ? fmin(f->done / f->all, 1.0) : -1.0; }

static double slowdown_factor(const forecast *f)
{
    const double prior = PRIOR * forecast_total(f);
    return (f->taken + f->steps_taken + prior) / (f->predicted + f->steps_predicted + prior);
}

/* Of something of which a share is done. */
static double remaining_seconds(double share, double predicted, double taken)
{
    return (1 - share) * ((1 - share) * predicted + taken);
}

/* What a step that has not begun will take. */
static double expected_step(const forecast *f, const double *steps)
{
    double sum = 0;
    if (f->step == 0)
        return slowdown_factor(f) * f->plan->predicted.step;
    if (f->step == 1)
        return f->resimulated > 0 ? f->resimulated : steps[0];
    for (int i = 1; i < f->step; i++)
        sum += steps[i];
    return sum / (f->step - 1);
}

static double left_of_steps(const forecast *f, const double *steps, double share, double now)
{
    const double each = expected_step(f, steps);
    const double this_one = f->step == 0 ? slowdown_factor(f) * f->first_step : each;
    if (f->step >= f->p->steps)
        return 0;
    return remaining_seconds(share, this_one, now - f->step_began) +
           each * (f->p->steps - f->step - 1);
}

double forecast_left(const forecast *f, const double *steps, double now)
{
    const double share = fmax(forecast_share(f), 0.0);
    if (f->now == REFINE_FINISHED)
        return 0.0;
    if (!f->known)
        return -1.0;
    const double later = slowdown_factor(f) * phases_from(f, (int)f->now + 1);
    if (f->now == REFINE_DENOISING)
        return left_of_steps(f, steps, share, now) + later;
    return remaining_seconds(share, slowdown_factor(f) * f->phase[f->now], now - f->phase_began) +
           later;
}

/* ---- steps ---- */

static parts read_stream_parts(stream *s)
{
    const stream_stats t = stream_get_stats(s);
    parts out = { 0 };
    for (int k = 0; k < DEV_KINDS; k++)
        out.seconds[k] = stream_kind_seconds(s, (dev_kind)k);
    out.seconds[PART_DISK] = t.stall_disk;
    out.seconds[PART_DECODE] = t.stall_decode;
    out.seconds[PART_COPY] = t.stall_copy;
    return out;
}

static parts parts_since(const parts *then, stream *s)
{
    parts out = read_stream_parts(s);
    for (int i = 0; i < PARTS; i++)
        out.seconds[i] -= then->seconds[i];
    return out;
}

/* The part that differs most from its prediction, in the given direction. */
static int worst_part(const parts *took, const parts *predicted, double direction)
{
    int worst = 0;
    double most = -HUGE_VAL;
    for (int i = 0; i < PARTS; i++) {
        const double more = direction * (took->seconds[i] - predicted->seconds[i]);
        if (more > most) {
            most = more;
            worst = i;
        }
    }
    return worst;
}

/* A limited line is idle when it is not busy, but not free. */
static double at_most(double rate, double limit)
{
    return limit > 0 && rate > limit ? limit : rate;
}

static double ratio_or_zero(double amount, double seconds)
{
    return seconds > 0 ? amount / seconds : 0.0;
}

/* Of the transfers so far; as assumed where there were none. */
static refine_rates transfer_rates(const forecast *f, stream *s)
{
    refine_rates r = f->plan->rates.unet;
    const stream_stats t = stream_get_stats(s);
    if (t.disk_busy > 0)
        r.disk = at_most((double)t.disk_bytes / t.disk_busy, f->disk_limit);
    if (t.copy_busy > 0)
        r.copy = at_most((double)t.copied_bytes / t.copy_busy, f->copy_limit);
    if (t.decode_busy > 0)
        r.decode = (double)t.decoded_bytes / t.decode_busy * f->plan->host.workers;
    return r;
}

static double times_as_slow(const forecast *f, stream *s, int part, const parts *took,
                            const parts *predicted)
{
    const refine_rates r = transfer_rates(f, s), *p = &f->plan->rates.unet;
    switch (part) {
    case PART_DISK: return ratio_or_zero(p->disk, r.disk);
    case PART_DECODE: return ratio_or_zero(p->decode, r.decode);
    case PART_COPY: return ratio_or_zero(p->copy, r.copy);
    default: return ratio_or_zero(took->seconds[part], predicted->seconds[part]);
    }
}

/* Refines the prediction: after a step the compute of every chunk is known.  Measured times
 * overwrite plan->seconds, which is no longer needed. */
static void update_prediction(forecast *f, stream *s)
{
    const refine_rates r = transfer_rates(f, s);
    for (int i = f->first; i < f->end; i++)
        f->plan->seconds[i] = stream_compute_seconds(s, i);
    f->resimulated = plan_simulate(f->plan, f->m, &r, f->plan->seconds).step;
}

void forecast_step(forecast *f, stream *s, int step, double now)
{
    f->before = read_stream_parts(s);
    f->step = step;
    f->step_began = now;
    begin_chunks(f, f->first, f->end, phases_passes(f->p));
}

void forecast_step_over(forecast *f, stream *s, double seconds)
{
    const parts *predicted = f->step == 0 ? &f->first_parts : &f->step_parts;
    const double expected = f->step == 0 ? f->first_step : f->plan->predicted.step;
    const double by = ratio_or_zero(seconds, expected);
    const parts took = parts_since(&f->before, s);
    for (int i = 0; i < PARTS; i++)
        f->steps.seconds[i] += took.seconds[i];
    if (by > f->slowest.by) {
        const int part = worst_part(&took, predicted, 1);
        f->slowest = (slow_step){ .by = by,
                                  .part = by > SLOW ? PART[part] : "",
                                  .part_by = times_as_slow(f, s, part, &took, predicted) };
    }
    f->steps_taken += seconds;
    f->steps_predicted += expected;
    if (f->step == 0)
        update_prediction(f, s);
    f->step++;
    begin_chunks(f, f->first, f->end, phases_passes(f->p));
}

/* ---- after a run ---- */

const char *forecast_wrong(const forecast *f, double median)
{
    const double more = median - f->plan->predicted.step, steps = f->p->steps;
    parts took = f->steps;
    if (!f->known || fabs(more) < 0.1 * f->plan->predicted.step)
        return "";
    for (int i = 0; i < PARTS; i++)
        took.seconds[i] /= steps;
    return PART[worst_part(&took, &f->step_parts, more > 0 ? 1 : -1)];
}

void forecast_rates(const forecast *f, refine_rates *out)
{
    double *const rate[DEV_KINDS] = { &out->linear, &out->conv, &out->attention, &out->memory };
    const dev_work w = work_of_step(f);
    for (int k = 0; k < DEV_KINDS; k++) {
        const double each = k == DEV_MEMORY ? 1.0 : 2.0;
        const double work = each * f->p->steps * (double)dev_work_of(w, (dev_kind)k);
        *rate[k] = ratio_or_zero(work, f->steps.seconds[k]);
    }
}
