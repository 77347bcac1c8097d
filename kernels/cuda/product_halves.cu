/* kernels/cuda/product_halves.cu -- products of 128 x 64 in pairs of halves, of F16 or int8 in
 * whole vectors. */
#include "kernels/cuda/product_simt.cuh"

const product_way product_halves = make_product_way<halves_tile, vector_kernels<halves_tile>>();
