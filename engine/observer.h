/* engine/observer.h -- what a run tells its caller while it goes on, and what it notes of itself.
 *
 *     start -> enter part -> begin phase -> [begin step -> ... -> end step] -> end phase -> ...
 *           -> enter part -> ... -> finish
 *
 * Progress and time left, the layer outputs (engine/model/layer_output.h), spans of the trace, the
 * seconds of phases and steps; and whether what a phase hands to the host is made of numbers
 * (engine/model/finite.h).  The caller's functions may end the run: the device then is failed with
 * REFINE_ECANCELLED.  Nothing here takes memory.
 */
#ifndef REFINE_OBSERVER_H
#define REFINE_OBSERVER_H

#include "engine/model/layer_output.h"
#include "engine/plan/forecast.h"
#include <refine/refine.h>

/* What belongs to one model of a run, the engine's. */
typedef struct observed_part {
    phases *p;
    forecast *forecast;
    double *step_seconds; /* p->steps of them */
    bool of_base;         /* before a refiner */
    double later;         /* predicted seconds of the parts behind it; < 0: not known */
} observed_part;

typedef struct observer {
    /* The engine's, from before the first run on. */
    dev *d;
    forward_ctx *r;
    stream *s;
    trace *t;
    layer_outputs *layer_outputs; /* NULL: layer outputs are off */
    const char *arena;
    const char *advice; /* where numbers are not finite, past the text */
    double open_began, open_ended;
    int steps; /* of all parts */

    /* Of a part. */
    observed_part part;
    phases *p;       /* part.p */
    int steps_before; /* of the parts before it */
    double part_started;
    stream_stats at_part;            /* at its start */
    double seconds[REFINE_FINISHED]; /* of the phases that are over */

    /* Of a run. */
    const refine_job *job; /* the first one */
    refine_phase phase;
    int step, image;               /* under way; image: of the VAE's */
    int phase_chunks, chunks_done; /* of the phase or step, for progress */
    double started, phase_started, step_started, last_report;
    stream_stats reported;           /* at the last report, */
    stream_stats at_start;           /* at the start of the run */
    double disk_rate;                /* between reports */
    float large_latent;              /* the first that no image has; 0: none so far */
    int large_after;                 /* steps that were over then */
} observer;

void observer_start(observer *o, const refine_job *j);
void observer_enter_part(observer *o, const observed_part *part);
void observer_finish(observer *o);

/* uses: of the chunks from segment `seg` to segment `last` (in each step, for the UNet). */
void observer_begin_phase(observer *o, refine_phase phase, int seg, int last, int uses);
void observer_end_phase(observer *o);
void observer_begin_step(observer *o, int step);
void observer_end_step(observer *o);

/* The latents of an image, which are [4][h][w], after a step. */
void observer_show_latents(observer *o, int image);

/* Notes where an image's latents first became larger than any image's are: what is not finite later
 * comes from there.  steps: that are over. */
void observer_watch_latents(observer *o, int image, int steps);

/* Fails the device unless n values of an image are numbers; of `bad` of them it is known that they
 * are none.  advice: NULL for the usual one. */
void observer_check(const observer *o, const char *what, int image, const float *v, size_t n,
                    const char *advice);
void observer_judge(const observer *o, const char *what, int image, size_t bad, size_t n);

#endif
