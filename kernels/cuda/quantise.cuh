/* kernels/cuda/quantise.cuh -- pixels as int8, each in groups of 64 channels with a scale.
 *
 *     x[c] ~ scale[c / 64] q[c],   scale = largest magnitude / 127,  q = x * (127 / largest), ties
 *                                  to even
 *
 * with the roundings of the CPU device (kernels/cpu/int8_body.h), so that equal pixels become equal
 * bytes.  A group that is not finite gets a scale that is none either.
 *
 * In memory: int8 q[pixel][group][64], behind all of them F32 scale[pixel][group].
 */
#ifndef REFINE_CUDA_QUANTISE_CUH
#define REFINE_CUDA_QUANTISE_CUH

#include "kernels/cuda/normed.cuh"

#include <stddef.h>

static inline size_t quantised_bytes(size_t pixels, int channels)
{
    return pixels * static_cast<size_t>(i8_slabs(channels)) * (I8_GROUP + sizeof(float));
}

/* Where the scales of so many pixels begin. */
static inline const float *quantised_scales(const void *q, size_t pixels, int channels)
{
    return reinterpret_cast<const float *>(static_cast<const int8_t *>(q) +
                                           pixels * static_cast<size_t>(i8_slabs(channels)) *
                                               I8_GROUP);
}

/* to: `images` times `pixels`, the first of which is pixel `first` of an image of the input, whose
 * images lie in_pixels apart. */
void quantise_run(dev *d, void *to, int images, int pixels, const normed &in, size_t first,
                  size_t in_pixels);

#endif
