/* kernels/cuda/product_large_any.cu -- products of 128 x 128 on tensor cores, of operands of any
 * type and shape. */
#include "kernels/cuda/product_tensor.cuh"

typedef any_kernels<large_tile> kernels;

const product_way product_large_any = { kernels::run, kernels::load };
