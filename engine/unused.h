/* engine/unused.h -- what jobs give and no model of their run uses.
 *
 * A number is of no use where changing it changes no micro-conditioning number of any model (the
 * rules are those of engine/model/micro_ids.h); a prompt, where no text encoder is given it.
 */
#ifndef REFINE_UNUSED_H
#define REFINE_UNUSED_H

#include "engine/model/phases.h"
#include <refine/refine.h>

enum { UNUSED_TEXT = sizeof(((refine_report *)NULL)->unused) };

/* What some of the jobs give to no end, as a list in words; "" if there is nothing.  parts: the
 * models of the run, each prepared for such jobs. */
void list_unused(char out[UNUSED_TEXT], const phases *const *parts, int n_parts,
                 const refine_job *jobs, int n_jobs);

#endif
