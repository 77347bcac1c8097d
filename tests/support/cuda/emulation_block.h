/* tests/support/cuda/emulation_block.h -- a kernel, run to its end. */
#ifndef EMULATION_BLOCK_H
#define EMULATION_BLOCK_H

#include "cuda_runtime.h"
#include "emulation.h"

namespace emulation {

/* All blocks of a kernel, one after another, in the order of a test's choice.  Shapes have been
 * checked; the number of threads is a multiple of LANES. */
void run_grid(dim3 blocks, dim3 threads, size_t shared, const kernel_call &call);

void block_reset();

} /* namespace emulation */

#endif
