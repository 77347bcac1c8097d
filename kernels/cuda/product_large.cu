/* kernels/cuda/product_large.cu -- products of 128 x 128 on tensor cores, of F16 or int8 in whole
 * vectors. */
#include "kernels/cuda/product_tensor.cuh"

typedef vector_kernels<large_tile> kernels;

static_assert(int(large_tile::M) == PRODUCT_LARGE && int(large_tile::N) == PRODUCT_LARGE,
              "product.cu counts blocks of another size");

const product_way product_large = { kernels::run, kernels::load };
