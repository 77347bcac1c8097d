/* kernels/cpu/prepare.h -- what a matrix multiplies, as operands (kernels/cpu/operand.h).
 *
 * The prepared input is cut into stride * stride planes by the parity of padded row and
 * column, so that each tap reads pixels that lie densely behind one another:
 *
 *     padded row Y = y + pad, column X = x + pad
 *     plane (Y % s, X % s), row Y / s - row0, column X / s
 *     output (i, j), tap (u, v): plane (u % s, v % s), row i + u / s, column j + v / s
 *
 * Rows of a plane are `pitch` = output width + 1 pixels.  With stride 1 the zero in front
 * of a row is also the one behind the row before, and one more pixel closes the last.  Of 1x1
 * the plane is the image.
 *
 * An input of 1x1 that is operands already is read where it lies, and so are two.
 */
#ifndef REFINE_PREPARE_H
#define REFINE_PREPARE_H

#include "kernels/cpu/operand.h"

typedef struct plane_layout {
    int stride, pad;
    int rows, pitch; /* of a plane */
    gemm_operand x;
    size_t plane_pixels, image_bytes;
} plane_layout;

plane_layout prepare_layout(const cpu_dev *c, const matrix_input *in, conv_geometry g);

/* False: it is read where it lies. */
bool prepare_must(const cpu_dev *c, const matrix_input *in, conv_geometry g);

#endif
