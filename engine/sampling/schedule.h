/* engine/sampling/schedule.h -- the noise schedule a model was trained with, as its checkpoint says
 * it (scheduler_config.json).  Samplers (engine/sampling/euler.h) make their steps from it. */
#ifndef REFINE_SCHEDULE_H
#define REFINE_SCHEDULE_H

typedef struct schedule_config {
    float beta_start, beta_end; /* 0.00085, 0.012, "scaled_linear" */
    int train_steps;            /* 1000 */
    int steps_offset;           /* 1, with "leading" spacing */
} schedule_config;

#endif
