/* kernels/cuda/context_note.cu -- what a context took, written down in the context itself.
 *
 * A process has one context on a card, which outlives the devices that are opened on it.  What it
 * took can be measured only when it comes into being; a second device finds it there already.  In
 * the card's memory the note lives exactly as long as what it is about.
 */
#include "kernels/cuda/cuda.h"

#include <cuda_runtime.h>

static __device__ unsigned long long context_bytes; /* 0: not yet measured */

extern "C" size_t cuda_context_noted(dev *d)
{
    unsigned long long bytes = 0;
    cuda_check(d, cudaMemcpyFromSymbol(&bytes, context_bytes, sizeof bytes),
               "asking what the context took");
    return static_cast<size_t>(bytes);
}

extern "C" void cuda_context_note(dev *d, size_t bytes)
{
    const unsigned long long note = bytes;
    cuda_check(d, cudaMemcpyToSymbol(context_bytes, &note, sizeof note),
               "noting what the context took");
}
