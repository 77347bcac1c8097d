/* kernels/cpu/operand.h -- a pixel's channels as a product reads them.
 *
 * Either in the multiplied type, padded with zeros to a multiple of PRODUCT_ALIGN, or as int8
 * groups with their scales (kernels/cpu/int8.h).
 */
#ifndef REFINE_OPERAND_H
#define REFINE_OPERAND_H

#include "kernels/cpu/cpu.h"

typedef struct operand {
    bool ints;
    int k;        /* channels, padded */
    size_t bytes; /* of a pixel */
} operand;

operand operand_of(const cpu_dev *c, bool ints, int channels);

/* Do the pixels of t lie as the operand wants them? */
bool operand_is(const cpu_dev *c, operand o, tensor t);

/* Pixel `pixel` of image `image` of what a convolution reads (images flattened; its resampling
 * is the caller's business). */
void operand_fill(const cpu_dev *c, operand o, char *to, const conv_input *in, size_t image,
                  size_t pixel);

/* Does a product run in integers? */
static inline bool operand_ints(const cpu_dev *c, dtype input, bool quantised)
{
    return c->ints && quantised && input == c->compute;
}

#endif
