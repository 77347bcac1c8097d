/* kernels/cpu/gemm_flush.h -- between these two, subnormal numbers count as zero.
 *
 * SSE's control register says so, for what is read and for what is written.  The barriers keep
 * loads, products and stores between the two writes to it.
 */
#ifndef REFINE_GEMM_FLUSH_H
#define REFINE_GEMM_FLUSH_H

#include <immintrin.h>

#define FLUSH_BEGIN                                                                                \
    const unsigned csr = _mm_getcsr();                                                             \
    _mm_setcsr(csr | _MM_FLUSH_ZERO_ON | _MM_DENORMALS_ZERO_ON);                                   \
    __asm__ volatile("" ::: "memory")
#define FLUSH_END                                                                                  \
    __asm__ volatile("" ::: "memory");                                                             \
    _mm_setcsr(csr)

#endif
