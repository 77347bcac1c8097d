/* kernels/cpu/operand.h -- a pixel's channels as a product reads them.
 *
 * Either as floats for one of the device's products (kernels/cpu/gemm.h), padded with zeros to a
 * multiple of GEMM_ALIGN, or as int8 groups with their scales (kernels/cpu/int8.h).  Which, is
 * decided by the type of the input: what is kept in BF16 is multiplied in BF16, all else in F32.
 */
#ifndef REFINE_OPERAND_H
#define REFINE_OPERAND_H

#include "kernels/cpu/cpu.h"

typedef struct gemm_operand {
    bool int8_math;
    const gemm *gemm; /* of floats */
    int k;            /* channels, padded */
    size_t bytes;     /* of a pixel */
} gemm_operand;

/* What the pixels of `in` become. */
gemm_operand operand_of(const cpu_dev *c, const matrix_input *in);

const gemm *operand_gemm(const cpu_dev *c, dtype input);

/* Do the pixels of t lie as the operand wants them? */
bool operand_is(gemm_operand o, tensor t);

/* Pixel `pixel` of image `image` of an input (images flattened; its resampling is the caller's
 * business). */
void operand_fill(const cpu_dev *c, gemm_operand o, char *to, const matrix_input *in, size_t image,
                  size_t pixel);

#endif
