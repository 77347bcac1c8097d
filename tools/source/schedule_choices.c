/* tools/source/schedule_choices.c -- the enumerations of a noise schedule and their words. */
#include "tools/source/schedule_choices.h"

#include <jansson.h>
#include <stdio.h>

const char *const SAMPLER_WORDS[] = { "auto", "euler", "euler-ancestral", NULL };
const char *const SPACING_WORDS[] = { "auto", "leading", "trailing", "linspace", NULL };
const char *const PREDICTION_WORDS[] = { "auto", "epsilon", "v", NULL };

void schedule_choices_apply(schedule_config *c, const schedule_choices *chosen)
{
    if (chosen->sampler)
        c->sampler = (sampler_kind)(chosen->sampler - 1);
    if (chosen->spacing)
        c->spacing = (timestep_spacing)(chosen->spacing - 1);
    if (chosen->prediction)
        c->prediction = (prediction_type)(chosen->prediction - 1);
}

const char *schedule_print(char out[SCHEDULE_TEXT], const schedule_config *c)
{
    (void)snprintf(out, SCHEDULE_TEXT, "%s, %s steps, predicts %s", SAMPLER_WORDS[c->sampler + 1],
                   SPACING_WORDS[c->spacing + 1], PREDICTION_WORDS[c->prediction + 1]);
    return out;
}

json_t *schedule_object(const schedule_config *c)
{
    return json_pack("{s:s, s:s, s:s}", "sampler", SAMPLER_WORDS[c->sampler + 1], "spacing",
                     SPACING_WORDS[c->spacing + 1], "prediction",
                     PREDICTION_WORDS[c->prediction + 1]);
}
