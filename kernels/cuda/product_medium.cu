/* kernels/cuda/product_medium.cu -- products of 128 x 64 on tensor cores, of F16 or int8 in whole
 * vectors; not normalised, for which there are not enough registers.
 */
#include "kernels/cuda/product_tensor.cuh"

const product_way product_medium = make_product_way<medium_tile, plain_kernels<medium_tile>>();
