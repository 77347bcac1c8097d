/* kernels/cuda/product_small.cu -- products of 64 x 64 on tensor cores, of F16 or int8 in whole
 * vectors. */
#include "kernels/cuda/product_tensor.cuh"

const product_way product_small = make_product_way<small_tile, vector_kernels<small_tile>>();
