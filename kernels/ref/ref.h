/* kernels/ref/ref.h -- what the referee's files share.
 *
 * The referee is plain loops over elements: any type is read as float, every sum is a
 * double, nothing is blocked, threaded or vectorised by hand.  It is what the other
 * devices are compared with, so it must be easy to believe.
 */
#ifndef REFINE_REF_H
#define REFINE_REF_H

#include "kernels/backend.h"

/* Element c of pixel p (of all images, h and w flattened), its exp2 applied. */
float ref_load(tensor t, size_t p, int c);
void ref_store(tensor t, size_t p, int c, float v);

/* Row r of a matrix or pixel r of an activation, `n` elements, as floats. */
void ref_row(float *out, tensor t, size_t r, size_t n);

float ref_act(act a, float v); /* not GEGLU */

double ref_dot(const float *a, const float *b, size_t n);

/* What becomes of the product(s) for channel c of pixel p in image n: stored in y.
 * `gate` counts only with GEGLU. */
void ref_finish(const epilogue *e, tensor y, size_t n, size_t p, int c, double value, double gate);

/* The workspace as `floats` floats; NULL and the device failed when it is smaller. */
float *ref_workspace(dev *d, size_t bytes);

DECLARE_OPERATORS(ref)

#endif
