/* engine/model/layer_output.h -- layer outputs, reported piece by piece to whoever inspects a run.
 *
 * A piece is small and of one image, so that looking takes the same memory whatever the size of
 * the image.  A listener that wants no more leaves the device failed with REFINE_ECANCELLED.
 */
#ifndef REFINE_LAYER_OUTPUT_H
#define REFINE_LAYER_OUTPUT_H

#include "kernels/device.h"
#include <refine/refine.h>

typedef struct layer_outputs layer_outputs;

layer_outputs *layer_outputs_open(void);   /* NULL: out of memory */
void layer_outputs_close(layer_outputs *); /* NULL is fine */
size_t layer_outputs_bytes(void);          /* of host memory that it takes */

/* Tells the job of every image of `t`; `at` is the first one's. */
void layer_outputs_report(layer_outputs *s, const refine_job *j, dev *d, refine_layer_output at,
                          tensor t);

/* Likewise of latents in host memory, [4][at.h][at.w]. */
void layer_outputs_report_latents(layer_outputs *s, const refine_job *j, dev *d,
                                  refine_layer_output at, const float *latents);

#endif
