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

size_t ref_linear_workspace(const dev *d, const linear_args *a);
void ref_linear(dev *d, const linear_args *a);

size_t ref_prepare_bytes(const dev *d, const matrix_input *in, conv_geometry g);
prepared_input ref_prepare(dev *d, void *p, const matrix_input *in, conv_geometry g);
size_t ref_conv2d_workspace(const dev *d, const conv_args *a);
void ref_conv2d(dev *d, const conv_args *a);

size_t ref_attention_workspace(const dev *d, const attention_args *a);
void ref_attention(dev *d, const attention_args *a);

void ref_groupnorm_sums(dev *d, tensor sums, tensor a, tensor b, int row0, int rows);
void ref_groupnorm(dev *d, tensor affine, tensor sums, int h, int w, tensor gain, tensor bias,
                   float eps);
void ref_apply_norm(dev *d, tensor y, tensor a, tensor b, tensor affine, act f);
void ref_layernorm(dev *d, tensor y, tensor x, tensor gain, tensor bias, float eps);
void ref_silu(dev *d, tensor y, tensor x);
void ref_convert(dev *d, tensor y, tensor x);

#endif
