/* tests/support/linear_case.h -- linear operators of the refiner's kinds and of awkward shapes,
 * and how to run one on a device, whole or cut up.
 */
#ifndef TEST_LINEAR_CASE_H
#define TEST_LINEAR_CASE_H

#include "tests/support/field.h"

typedef struct linear_case {
    int n, h, w, k, rows;
    dtype type, weights;
    act act;
    bool bias, per_image, residual;
    int views; /* a view_kind */
    int exp2;
} linear_case;

enum { LINEAR_Y, LINEAR_X, LINEAR_W, LINEAR_BIAS, LINEAR_PER_IMAGE, LINEAR_RESIDUAL,
       LINEAR_FIELDS };

/* Every kind of layer; those with int8 weights. */
extern const linear_case LINEAR_CASES[], LINEAR_INT8[];
extern const int N_LINEAR_CASES, N_LINEAR_INT8;

/* How the matrix is cut into chunks of rows. */
typedef struct linear_cut {
    int rows[MATRIX_BLOCKS_MAX], n;
    bool together; /* in one go */
} linear_cut;

/* `exact`: inputs that int8 holds exactly. */
void linear_fields(field f[LINEAR_FIELDS], const linear_case *c, bool exact);
void linear_free_fields(field f[LINEAR_FIELDS]);

/* Into f[LINEAR_Y]: all at once; the residual being y itself; each image by itself, and chunk by
 * chunk, both with the bias alone. */
void linear_run(dev *d, field f[LINEAR_FIELDS], act a);
void linear_run_in_place(dev *d, field f[LINEAR_FIELDS], act a);
void linear_run_images(dev *d, field f[LINEAR_FIELDS]);
void linear_run_chunks(dev *d, field f[LINEAR_FIELDS], act a, const linear_cut *cut);

/* y = x w^T with an input prepared for this alone. */
void linear_once(dev *d, tensor y, tensor x, tensor w, const epilogue *e);

/* How far d is from the referee; *peak: the largest value. */
double linear_distance(dev *d, const linear_case *c, bool exact, double *peak);

#endif
