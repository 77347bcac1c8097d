/* tests/cuda/emulation_calls.h -- calls of the runtime that a test of the emulated card makes, and
 * that must succeed.
 */
#ifndef TEST_EMULATION_CALLS_H
#define TEST_EMULATION_CALLS_H

#include <criterion/criterion.h>
#include <cuda_runtime_api.h>

static inline cudaStream_t stream_open(void)
{
    cudaStream_t s = NULL;
    cr_assert_eq(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking), cudaSuccess);
    return s;
}

static inline cudaEvent_t event_open(unsigned flags)
{
    cudaEvent_t e = NULL;
    cr_assert_eq(cudaEventCreateWithFlags(&e, flags), cudaSuccess);
    return e;
}

static inline void *take(size_t bytes)
{
    void *p = NULL;
    cr_assert_eq(cudaMalloc(&p, bytes), cudaSuccess);
    return p;
}

static inline void *put(cudaStream_t s, const void *src, size_t bytes)
{
    void *p = take(bytes);
    cr_assert_eq(cudaMemcpyAsync(p, src, bytes, cudaMemcpyHostToDevice, s), cudaSuccess);
    return p;
}

static inline void get(cudaStream_t s, void *dst, const void *src, size_t bytes)
{
    cr_assert_eq(cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToHost, s), cudaSuccess);
    cr_assert_eq(cudaStreamSynchronize(s), cudaSuccess);
}

#endif
