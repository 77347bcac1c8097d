/* tools/source/schedule_choices.h -- how a model is sampled, in words.
 *
 * A single file does not say, and a pipeline may be meant for a sampler that is not here: then the
 * user does.
 */
#ifndef REFINE_SCHEDULE_CHOICES_H
#define REFINE_SCHEDULE_CHOICES_H

#include "engine/sampling/noise_schedule.h"

/* NULL-ended: "auto", which is what the checkpoint says, and the values in the order of their
 * enumerations (engine/sampling/noise_schedule.h). */
extern const char *const SAMPLER_WORDS[], *const SPACING_WORDS[], *const PREDICTION_WORDS[];

typedef struct schedule_choices {
    unsigned sampler, spacing, prediction; /* index of the word */
} schedule_choices;

/* Puts what was chosen in the place of what the checkpoint says. */
void schedule_choices_apply(schedule_config *c, const schedule_choices *chosen);

/* "euler, leading steps, predicts epsilon".  Returns out. */
enum { SCHEDULE_TEXT = 64 };
const char *schedule_print(char out[SCHEDULE_TEXT], const schedule_config *c);

/* The same as an object of its words; NULL: out of memory. */
struct json_t *schedule_object(const schedule_config *c);

#endif
