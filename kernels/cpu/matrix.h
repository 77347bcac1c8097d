/* kernels/cpu/matrix.h -- a matrix applied to pixels: linears and all convolutions.
 *
 *     y[pixel][r] = finish( sum over parts p, k of  input_p[pixel][k] w[r][tap_p][c0_p + k] )
 *
 * A convolution is the sum of its taps, each a product over pixels that lie densely behind
 * one another in the prepared input, only shifted (kernels/cpu/prepare.h); or of the two
 * inputs that are concatenated.  The rows of an input are `pitch` pixels apart, those of y
 * `width`; the pixels in between are computed too and thrown away.
 *
 *     image = units of unit_rows rows     unit = pieces of about as many pixels
 *     matrix = tiles of rows              task = some panels of a tile, one piece of a unit
 */
#ifndef REFINE_MATRIX_H
#define REFINE_MATRIX_H

#include "kernels/cpu/operand.h"

enum { MATRIX_PARTS = 9 };

/* Some columns of the matrix, and what they meet: pixels that are operands. */
typedef struct matrix_part {
    int tap, c0, channels; /* channels [c0, c0 + channels) of a tap; c0 a multiple of I8_GROUP */
    int k;                 /* as many, padded */
    const char *input;     /* of pixel (row0, 0) of image 0 */
    size_t image_bytes, pixel_bytes;
} matrix_part;

typedef struct matrix_job {
    tensor y, w;
    epilogue e;
    int height, width, pitch; /* of an image of y; a linear's is one row */
    int unit_rows;
    int row0, rows; /* of y, to compute; row0 a multiple of unit_rows */

    gemm_operand x; /* what is multiplied */
    int parts;
    matrix_part part[MATRIX_PARTS];
} matrix_job;

size_t matrix_workspace(const cpu_dev *c, const matrix_job *j);
void matrix_run(cpu_dev *c, const matrix_job *j);

#endif
