/* engine/model/layer_output.h -- what the layers give, told piece by piece to whoever inspects a run.
 *
 * A piece is small and of one image, so that looking takes the same memory whatever the size of
 * the picture.  A listener that wants no more leaves the device failed with REFINE_ECANCELLED.
 */
#ifndef REFINE_STAGES_H
#define REFINE_STAGES_H

#include "kernels/device.h"
#include <refine/refine.h>

typedef struct stages stages;

stages *stages_open(void);   /* NULL: out of memory */
void stages_close(stages *); /* NULL is fine */
size_t stages_bytes(void);   /* of host memory that it takes */

/* Tells the job of every image of `t`; `at` is the first one's. */
void stages_tell(stages *s, const refine_job *j, dev *d, refine_stage at, tensor t);

/* Likewise of latents in host memory, [4][at.h][at.w]. */
void stages_tell_latents(stages *s, const refine_job *j, dev *d, refine_stage at,
                         const float *latents);

#endif
