/* kernels/cpu/matrix.h -- a matrix applied to pixels: linears and all convolutions.
 *
 *     y[pixel][r] = finish( sum over taps t, k of  input[pixel + tap_at[t]][k] w[r][t][k] )
 *
 * A convolution is the sum of its taps, each a product over pixels that lie densely behind
 * one another in the prepared input, only shifted (kernels/cpu/cpu_conv2d.c).  The rows of
 * that input are `pitch` pixels apart, those of y `width`; the pixels in between are
 * computed too and thrown away.
 *
 *     image = units of unit_rows rows     unit = pieces of about as many pixels
 *     matrix = tiles of rows              task = one piece of one unit of one image,
 *                                         one tile, or some where the input is fetched
 */
#ifndef REFINE_MATRIX_H
#define REFINE_MATRIX_H

#include "kernels/cpu/operand.h"

enum { MATRIX_TAPS = 9 };

typedef struct matrix_job {
    tensor y, w;
    epilogue e;
    int taps;
    int height, width, pitch; /* of an image of y; a linear's is one row */
    int unit_rows;
    int row0, rows; /* of y, to compute; row0 a multiple of unit_rows */

    operand x; /* what is multiplied */

    /* Either pixels of `in` (its a and b, may be normalised), fetched for each task, */
    bool gather;
    conv_input in;
    /* or pixels that are operands, dense: where the input of pixel (row0, 0) of image 0 begins,
     * and how far the next image and the taps are. */
    const char *ready;
    size_t image_bytes;
    size_t tap_at[MATRIX_TAPS];
} matrix_job;

size_t matrix_workspace(const cpu_dev *c, const matrix_job *j);
void matrix_run(cpu_dev *c, const matrix_job *j);

#endif
