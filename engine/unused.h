/* engine/unused.h -- what a job gives and no model of its run uses.
 *
 * A number is of no use where changing it changes no micro-conditioning number of any model (the
 * rules are those of engine/model/micro_ids.h); a prompt, where no text encoder is given it.
 */
#ifndef REFINE_UNUSED_H
#define REFINE_UNUSED_H

#include "engine/model/phases.h"
#include <refine/refine.h>

/* Bits, for unused_words.  parts: the models of the run, each prepared for such jobs. */
unsigned find_unused(const phases *const *parts, int n_parts, const refine_job *j);

/* A list in words; "" of 0. */
void unused_words(char out[REFINE_UNUSED_TEXT], unsigned unused);

#endif
