/* kernels/cuda/product_small_any.cu -- products of 64 x 64 on tensor cores, of operands of any
 * type and shape. */
#include "kernels/cuda/product_tensor.cuh"

typedef any_kernels<small_tile> kernels;

const product_way product_small_any = { kernels::run, kernels::load };
