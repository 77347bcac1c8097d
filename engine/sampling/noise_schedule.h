/* engine/sampling/noise_schedule.h -- a model's noise schedule, and the sampler it is meant for.
 *
 * As its checkpoint says them (scheduler_config.json).  The samplers (engine/sampling/euler.h) make
 * their steps from it.
 */
#ifndef REFINE_NOISE_SCHEDULE_H
#define REFINE_NOISE_SCHEDULE_H

/* Which of the training timesteps a schedule of n steps takes. */
typedef enum timestep_spacing {
    SPACING_LEADING,  /* every (train_steps / n)th, from the clean end, plus an offset */
    SPACING_TRAILING, /* every (train_steps / n)th, from the noisy end */
    SPACING_LINSPACE  /* n from the noisy to the clean end, both included; fractional */
} timestep_spacing;

/* What the UNet predicts: the noise, or v = sqrt(abar) noise - sqrt(1 - abar) x0. */
typedef enum prediction_type { PREDICTS_EPSILON, PREDICTS_V } prediction_type;

typedef enum sampler_kind { SAMPLER_EULER, SAMPLER_EULER_ANCESTRAL } sampler_kind;

typedef struct schedule_config {
    float beta_start, beta_end; /* 0.00085, 0.012, "scaled_linear" */
    int train_steps;            /* 1000 */
    int steps_offset;           /* 1, with leading spacing */
    timestep_spacing spacing;
    prediction_type prediction;
    sampler_kind sampler; /* ancestral: noise is added in every step */
} schedule_config;

#endif
