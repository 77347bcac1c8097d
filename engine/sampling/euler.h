/* engine/sampling/euler.h -- Euler's method on the noise schedule.
 *
 *     x = x0 + sigma * noise;  the model predicts the noise;  sigma falls to 0
 *
 * Steps are numbered in the full schedule, 0 the noisiest; a run takes a part of them.
 */
#ifndef REFINE_SCHEDULER_H
#define REFINE_SCHEDULER_H

#include "engine/sampling/schedule.h"
#include <refine/status.h>

#include <stddef.h>

enum { SCHEDULER_MAX_STEPS = 1000 };

/* A value: nothing to close. */
typedef struct scheduler {
    int steps, train_steps;
    float timestep[SCHEDULER_MAX_STEPS];  /* falling */
    float sigma[SCHEDULER_MAX_STEPS + 1]; /* of each step, then 0 */
} scheduler;

/* `c` has passed model_config_check.  REFINE_EINVAL: steps is not within 1 and the
 * smaller of SCHEDULER_MAX_STEPS and c->train_steps. */
refine_status scheduler_open(scheduler *s, const schedule_config *c, int steps);

/* The first step to run, s->steps when there is none.  With `denoising_start` in (0,1)
 * those steps are run whose timestep is below that share of the schedule, and strength
 * is not used; else the last `strength` of all steps, rounded down. */
int scheduler_first(const scheduler *s, double strength, double denoising_start);

/* One past the last step to run: s->steps, or fewer with `denoising_end` in (0,1). */
int scheduler_end(const scheduler *s, double denoising_end);

/* What x is to be divided by before the model sees it at step i: sqrt(sigma^2 + 1). */
float scheduler_input_scale(const scheduler *s, int i);

/* x += noise at the level of step i. */
void scheduler_add_noise(const scheduler *s, int i, float *x, const float *noise, size_t n);

/* x from step i to step i + 1, given the predicted noise. */
void scheduler_step(const scheduler *s, int i, float *x, const float *eps, size_t n);

#endif
