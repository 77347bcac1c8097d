/* tests/support/cuda/emulation_block.h -- one block of a kernel, run to its end. */
#ifndef EMULATION_BLOCK_H
#define EMULATION_BLOCK_H

#include "cuda_runtime.h"

namespace emulation {

void run_block(dim3 blocks, dim3 threads, uint3 block, size_t shared, const kernel_call &call);

} /* namespace emulation */

#endif
