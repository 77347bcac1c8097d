/* kernels/cuda/element.cuh -- y = act([a | b] * affine), one element at a time. */
#ifndef REFINE_CUDA_ELEMENT_CUH
#define REFINE_CUDA_ELEMENT_CUH

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/normed.cuh"

/* y has `images` times `pixels`, the first of which is pixel `first` of an image of the input,
 * whose images lie in_pixels apart. */
void element_run(dev *d, const view &y, int images, int pixels, const normed &in, size_t first,
                 size_t in_pixels);

#endif
