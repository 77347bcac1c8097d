/* kernels/cuda/product_small_any.cu -- products of 64 x 64 on tensor cores, of operands of any
 * type and shape. */
#include "kernels/cuda/product_tensor.cuh"

const product_way product_small_any =
    make_product_way<small_any_tile, any_kernels<small_any_tile>>();
