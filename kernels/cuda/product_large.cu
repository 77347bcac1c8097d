/* kernels/cuda/product_large.cu -- products of 128 x 128 on tensor cores, of F16 or int8 in whole
 * vectors. */
#include "kernels/cuda/product_tensor.cuh"

const product_way product_large = make_product_way<large_tile, vector_kernels<large_tile>>();
