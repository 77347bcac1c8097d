/* engine/sampling/euler.h -- Euler's method on the noise schedule, plain and ancestral.
 *
 *     x = x0 + sigma * noise;  the model predicts the noise or v;  sigma falls to 0
 *
 * Steps are numbered in the full schedule, 0 the noisiest; a run takes a part of them.
 */
#ifndef REFINE_EULER_H
#define REFINE_EULER_H

#include "engine/sampling/noise_schedule.h"
#include <refine/status.h>

#include <stdbool.h>
#include <stddef.h>

enum { EULER_STEPS_MAX = 1000 };

/* A value: nothing to close. */
typedef struct euler {
    int steps, train_steps;
    prediction_type prediction;
    bool ancestral;
    float init_noise;                 /* the deviation that pure noise starts with */
    float timestep[EULER_STEPS_MAX];  /* falling */
    float sigma[EULER_STEPS_MAX + 1]; /* of each step, then 0 */
} euler;

/* `c` has passed model_config_check.  REFINE_EINVAL: steps is not within 1 and the
 * smaller of EULER_STEPS_MAX and c->train_steps. */
refine_status euler_open(euler *s, const schedule_config *c, int steps);

/* The first step to run, s->steps when there is none.  With `denoising_start` in (0,1)
 * those steps are run whose timestep is below that share of the schedule, and strength
 * is not used; else the last `strength` of all steps, rounded down. */
int euler_first(const euler *s, double strength, double denoising_start);

/* One past the last step to run: s->steps, or fewer with `denoising_end` in (0,1). */
int euler_end(const euler *s, double denoising_end);

/* What x is to be divided by before the model sees it at step i: sqrt(sigma^2 + 1). */
float euler_input_scale(const euler *s, int i);

/* x += noise at the level of step i. */
void euler_add_noise(const euler *s, int i, float *x, const float *noise, size_t n);

/* x from step i to step i + 1, given what the model predicts.  noise: of an ancestral sampler,
 * drawn for every step, the last one too; else not used. */
void euler_step(const euler *s, int i, float *x, const float *predicted, const float *noise,
                size_t n);

#endif
