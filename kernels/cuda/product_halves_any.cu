/* kernels/cuda/product_halves_any.cu -- products of 128 x 64 in pairs of halves, of operands of any
 * type and shape. */
#include "kernels/cuda/product_simt.cuh"

const product_way product_halves_any = make_product_way<halves_tile, any_kernels<halves_tile>>();
