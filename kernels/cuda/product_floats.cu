/* kernels/cuda/product_floats.cu -- products of 64 x 64 in F32, of operands of any type and
 * shape. */
#include "kernels/cuda/product_simt.cuh"

const product_way product_floats = make_product_way<floats_tile, any_kernels<floats_tile>>();
