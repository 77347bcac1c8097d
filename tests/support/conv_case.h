/* tests/support/conv_case.h -- convolutions of the refiner's kinds and of awkward shapes, and how
 * to run one on a device, whole or cut up.
 */
#ifndef TEST_CONV_CASE_H
#define TEST_CONV_CASE_H

#include "tests/support/field.h"

typedef struct conv_case {
    int n, h, w, a, b, rows; /* source size and channels; output channels */
    int kh, stride, pad;
    int to_h, to_w; /* resampled to; 0: not */
    dtype type, weights;
    bool norm, per_image, residual;
    int views; /* a view_kind */
    int exp2;
} conv_case;

/* How the work is cut; the default is all at once. */
typedef struct conv_cut {
    const conv_case *c;
    int band, chunk; /* rows at a time; 0: all */
    int together;    /* chunks at a time, of those that the device takes; 0: 1 */
    bool detach, per_image_calls;
    bool in_place; /* the residual is y itself */
    bool exact; /* inputs that int8 holds exactly */
    bool no_affine, no_silu; /* of a norm only the other half */
} conv_cut;

enum { CONV_Y, CONV_A, CONV_B, CONV_AFFINE, CONV_W, CONV_BIAS, CONV_PER_IMAGE, CONV_RESIDUAL,
       CONV_FIELDS };

/* Every kind of layer; those with int8 weights; some large enough to be cut. */
extern const conv_case CONV_CASES[], CONV_INT8[], CONV_INVARIANT[];
extern const int N_CONV_CASES, N_CONV_INT8, N_CONV_INVARIANT;

void conv_fields(field f[CONV_FIELDS], const conv_cut *k);
void conv_free_fields(field f[CONV_FIELDS]);
void conv_run(dev *d, field f[CONV_FIELDS], const conv_cut *k); /* into f[CONV_Y] */

field conv_result(dev *d, const conv_cut *k);

/* How far d is from the referee; *peak: the largest value. */
double conv_distance(dev *d, const conv_cut *k, double *peak);

/* Products that are summed. */
static inline int conv_k(const conv_case *c) { return c->kh * c->kh * (c->a + c->b); }

#endif
