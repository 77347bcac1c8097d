/* engine/observer.c -- progress, layer outputs, trace and checks of a run. */
#include "engine/observer.h"

#include "engine/arena.h"
#include "engine/base/clock.h"
#include "engine/base/mem.h"
#include "engine/model/finite.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const double REPORT_EVERY = 0.2; /* seconds over which the disk's rate is taken */

/* ---- progress ---- */

static double total_stall(const stream_stats *s)
{
    return s->stall_disk + s->stall_decode + s->stall_copy;
}

/* Seconds until the run is over; < 0: not known. */
static double predict_end(const observer *o, double now)
{
    const double left = forecast_left(o->part.forecast, o->part.step_seconds, now);
    return left >= 0 && o->part.later >= 0 ? left + o->part.later : -1.0;
}

/* done: the share of the phase or step. */
static void report_progress(observer *o, double done)
{
    const double now = clock_seconds();
    if (!o->job->progress)
        return;
    const stream_stats s = stream_get_stats(o->s);
    if (now - o->last_report > REPORT_EVERY) {
        o->disk_rate = (double)(s.disk_bytes - o->reported.disk_bytes) / (now - o->last_report);
        o->reported = s;
        o->last_report = now;
    }
    const refine_progress p = {
        .phase = o->phase,
        .step = o->steps_before + o->step,
        .steps = o->steps,
        .of_base = o->part.of_base,
        .done = done,
        .elapsed = now - o->started,
        .eta = predict_end(o, now),
        .disk_rate = o->disk_rate,
        .stall_share = (total_stall(&s) - total_stall(&o->at_start)) / (now - o->started + 1e-9),
    };
    const bool allowed = mem_allow(true); /* to whoever looks on */
    if (o->job->progress(o->job->progress_context, &p))
        dev_fail(o->d, REFINE_ECANCELLED, "interrupted");
    (void)mem_allow(allowed);
}

/* Called by the model each time it is done with a chunk (or a layer) of weights. */
static void count_chunk(forward_ctx *r)
{
    observer *o = r->chunk_done_context;
    const double now = clock_seconds();
    o->chunks_done++;
    forecast_tick(o->part.forecast, stream_position(o->s));
    trace_add(o->t, REFINE_LANE_ACTIVATIONS, (int)o->phase, now, now, scratch_high(&r->mem));
    const double share = forecast_share(o->part.forecast);
    const double chunks = (double)o->chunks_done / o->phase_chunks;
    report_progress(o, share >= 0 ? share : fmin(chunks, 1.0));
}

/* ---- layer outputs ---- */

/* Called by the model with what a layer gives. */
static void show_layer(forward_ctx *r, const char *name, tensor t)
{
    observer *o = r->layer_output_context;
    const bool denoising = o->phase == REFINE_DENOISING;
    const refine_layer_output first = { .name = name,
                                        .phase = o->phase,
                                        .of_base = o->part.of_base,
                                        .step = denoising ? o->step : 0,
                                        .batch_index = denoising ? r->batch0 : o->image };
    layer_outputs_report(o->layer_outputs, o->job, o->d, first, t);
}

void observer_show_latents(observer *o, int image)
{
    const refine_layer_output s = { .name = "latents",
                                    .phase = o->phase,
                                    .of_base = o->part.of_base,
                                    .step = o->step,
                                    .batch_index = image,
                                    .h = o->p->h,
                                    .w = o->p->w };
    if (o->r->layer_output)
        layer_outputs_report_latents(o->layer_outputs, o->job, o->d, s,
                                     phases_latents(o->p, image));
}

/* ---- the course of a run ---- */

void observer_start(observer *o, const refine_job *j)
{
    o->job = j;
    o->r->chunk_done = count_chunk;
    o->r->layer_output = j->layer_output ? show_layer : NULL;
    o->r->chunk_done_context = o->r->layer_output_context = o;
    trace_add(o->t, REFINE_LANE_PHASE, REFINE_OPENING, o->open_began, o->open_ended, 0);
    o->started = o->last_report = clock_seconds();
    o->reported = o->at_start = stream_get_stats(o->s);
    o->steps_before = 0;
    o->p = NULL;
}

void observer_enter_part(observer *o, const observed_part *part)
{
    o->steps_before += o->p ? o->p->steps : 0;
    o->part = *part;
    o->p = part->p;
    o->step = 0;
    o->part_started = clock_seconds();
    o->at_part = stream_get_stats(o->s);
    memset(o->seconds, 0, sizeof o->seconds);
    o->large_latent = 0;
    forecast_run(part->forecast, o->part_started);
}

void observer_begin_phase(observer *o, refine_phase phase, int seg, int last, int uses)
{
    int first = 0, end = 0, ignored;
    if (seg >= 0) {
        pack_segment(o->p->m->p, seg, &first, &ignored);
        pack_segment(o->p->m->p, last, &ignored, &end);
    }
    o->phase = phase;
    o->image = 0;
    o->phase_chunks = (end - first) * uses;
    o->chunks_done = 0;
    o->phase_started = clock_seconds();
    forecast_phase(o->part.forecast, phase, first, end, uses, o->phase_started);
    report_progress(o, 0.0);
}

void observer_end_phase(observer *o)
{
    stream_settle_times(o->s);
    arena_check(o->d, &o->part.forecast->plan->arena, o->arena);
    const double now = clock_seconds();
    trace_add(o->t, REFINE_LANE_PHASE, (int)o->phase, o->phase_started, now, 0);
    o->seconds[o->phase] = now - o->phase_started;
}

void observer_begin_step(observer *o, int step)
{
    o->step = step;
    o->chunks_done = 0;
    o->step_started = clock_seconds();
    forecast_step(o->part.forecast, o->s, step, o->step_started);
}

void observer_end_step(observer *o)
{
    stream_settle_times(o->s);
    const double now = clock_seconds(), seconds = now - o->step_started;
    o->part.step_seconds[o->step] = seconds;
    forecast_step_over(o->part.forecast, o->s, seconds);
    trace_add(o->t, REFINE_LANE_STEP, o->steps_before + o->step, o->step_started, now, 0);
}

void observer_finish(observer *o) { observer_begin_phase(o, REFINE_FINISHED, -1, -1, 0); }

/* ---- what phases hand over ---- */

static const char TRY_VERIFY[] = "the model's weights may be damaged: try refine-pack --verify";

/* Those of images are below 10 without noise, and below 100 with all of it. */
static const float LARGE_LATENT = 1e4f;

void observer_watch_latents(observer *o, int image, int steps)
{
    const size_t n = LATENT_CHANNELS * (size_t)o->p->h * (size_t)o->p->w;
    const float largest = finite_largest(phases_latents(o->p, image), n);
    if (o->large_latent > 0 || largest < LARGE_LATENT)
        return;
    o->large_latent = largest;
    o->large_after = steps;
}

typedef struct finite_advice {
    char text[160];
} finite_advice;

/* What is not finite after latents became too large is their fault, and no weight's. */
static const char *usual_advice(const observer *o, finite_advice *room)
{
    const char *usual = o->phase == REFINE_TEXT || !o->advice ? TRY_VERIFY : o->advice;
    if (o->phase == REFINE_TEXT || !(o->large_latent > 0))
        return usual;
    if (o->large_after == 0 && o->job->latents_in)
        (void)snprintf(room->text, sizeof room->text,
                       "the latents given reach %.3g, as none of an image do: give others",
                       (double)o->large_latent);
    else
        (void)snprintf(room->text, sizeof room->text, "the latents reached %.3g %s %d of %d; %.80s",
                       (double)o->large_latent, o->large_after ? "in step" : "before step",
                       o->large_after ? o->large_after : 1, o->p->steps, usual);
    return room->text;
}

static finite_place finite_place_of(const observer *o, const char *what, int image,
                                    const char *advice, finite_advice *room)
{
    return (finite_place){ .what = what,
                           .advice = advice ? advice : usual_advice(o, room),
                           .step = o->step,
                           .steps = o->phase == REFINE_DENOISING ? o->p->steps : 0,
                           .image = image,
                           .images = o->p->images };
}

void observer_check(const observer *o, const char *what, int image, const float *v, size_t n,
                    const char *advice)
{
    finite_advice room;
    const finite_place at = finite_place_of(o, what, image, advice, &room);
    finite_judge(o->d, &at, finite_bad(v, n), n);
}

void observer_judge(const observer *o, const char *what, int image, size_t bad, size_t n)
{
    finite_advice room;
    const finite_place at = finite_place_of(o, what, image, NULL, &room);
    finite_judge(o->d, &at, bad, n);
}
