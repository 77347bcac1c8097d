/* tests/support/cuda/emulation_block.h -- one block of a kernel, run to its end. */
#ifndef EMULATION_BLOCK_H
#define EMULATION_BLOCK_H

#include "cuda_runtime.h"
#include "emulation.h"

namespace emulation {

/* Shapes have been checked; the number of threads is a multiple of LANES. */
void run_block(dim3 blocks, dim3 threads, uint3 block, size_t shared, const kernel_call &call);

void block_reset();

} /* namespace emulation */

#endif
