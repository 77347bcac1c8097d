/* engine/plan/forecast.h -- what a run should take, how much of that is left, and what was slow.
 *
 * A phase takes as long as its chunks' compute and transfers together by the plan's rates
 * (offload/simulate.h); the first step also brings the weights that stay.  While a run goes on,
 *
 *     left = what is left of this phase + slow * (all the phases to come)
 *     slow = (taken + PRIOR) / (predicted + PRIOR)     of the phases and steps that are over
 *
 * where of a phase of which a share is done, by predicted compute, there are left
 *
 *     (1 - share) * ((1 - share) * slow * predicted + taken)
 *
 * seconds: at first what was predicted, then more and more what was measured.  Of steps the
 * measured ones say how long the others will be.
 *
 * A step's parts are its seconds of compute by kind (kernels/device.h, dev_kind), as the stream
 * timed them between changes of kind, and its waits for disk, decoding and copying.  They are timed
 * and not fitted to the times of chunks: these hold norms and attention beside a product, rates
 * differ by shape, and a fit would put what they differ by on the kind of which there is least.  A
 * change costs a reading of the clock; on a GPU an event, of which a use has one in any case.
 */
#ifndef REFINE_FORECAST_H
#define REFINE_FORECAST_H

#include "engine/plan/plan.h"

enum { PART_DISK = DEV_KINDS, PART_DECODE, PART_COPY, PARTS };

typedef struct parts {
    double seconds[PARTS];
} parts;

/* The step that took most times its prediction. */
typedef struct slow_step {
    double by;        /* times as long as predicted; 0: no step yet */
    const char *part; /* that is to blame: "linear", ...; "" where `by` is 1.5 or less */
    double part_by;   /* times as slow as probed; 0: not known */
} slow_step;

typedef struct forecast {
    plan *plan;
    const model *m;
    const phases *p;
    double disk_limit, copy_limit;
    bool known;                    /* all rates are; else every prediction is 0 */
    double phase[REFINE_FINISHED]; /* predicted seconds */
    double first_step, resimulated;   /* replayed: of a step, from what the first one measured */
    parts first_parts, step_parts; /* predicted */
    /* During a run: */
    parts before, steps; /* what the stream had counted before this step; of all steps */
    refine_phase now;
    double phase_began, step_began;      /* by the clock */
    double taken, predicted;             /* seconds of the phases that are over, */
    double steps_taken, steps_predicted; /* and of steps, while they go on */
    int step;                            /* under way, or next */
    int first, end, next;                /* chunks of the phase, and the next to be done */
    double done, all;                    /* predicted compute of them, of all uses */
    slow_step slowest;
} forecast;

void forecast_open(forecast *f, plan *pl, const model *m, const phases *p, const refine_options *o);

/* Seconds of all phases, opening apart. */
double forecast_total(const forecast *f);

/* A run, a phase (which ends the one before) or a step begins now; uses of each of the chunks
 * [first, end) are to come in it. */
void forecast_run(forecast *f, double now);
void forecast_phase(forecast *f, refine_phase p, int first, int end, int uses, double now);
void forecast_step(forecast *f, stream *s, int step, double now);
void forecast_tick(forecast *f, int chunk); /* it has been computed with; < 0: nothing has */

/* After the stream has paused: a step took so many seconds. */
void forecast_step_over(forecast *f, stream *s, double seconds);

double forecast_share(const forecast *f); /* of the phase (or step) that is done; < 0: not known */
/* Seconds until the run is over, with the times of the steps so far; < 0: not known. */
double forecast_left(const forecast *f, const double *steps, double now);

/* What is to blame when a step took `median` seconds and 10 % more or less than predicted, or "";
 * and the rates of compute that the steps showed. */
const char *forecast_wrong(const forecast *f, double median);
void forecast_rates(const forecast *f, refine_rates *out);

#endif
