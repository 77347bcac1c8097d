/* tests/cuda/emulation_calls.h -- calls of the runtime that a test of the emulated card makes, and
 * that must succeed.
 */
#ifndef TEST_EMULATION_CALLS_H
#define TEST_EMULATION_CALLS_H

#include <criterion/criterion.h>
#include <cuda_runtime_api.h>

static inline cudaStream_t open_card_stream(void)
{
    cudaStream_t s = NULL;
    cr_assert_eq(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking), cudaSuccess);
    return s;
}

static inline cudaEvent_t open_card_event(unsigned flags)
{
    cudaEvent_t e = NULL;
    cr_assert_eq(cudaEventCreateWithFlags(&e, flags), cudaSuccess);
    return e;
}

static inline void *alloc_card_bytes(size_t bytes)
{
    void *p = NULL;
    cr_assert_eq(cudaMalloc(&p, bytes), cudaSuccess);
    return p;
}

static inline void *upload_bytes(cudaStream_t s, const void *src, size_t bytes)
{
    void *p = alloc_card_bytes(bytes);
    cr_assert_eq(cudaMemcpyAsync(p, src, bytes, cudaMemcpyHostToDevice, s), cudaSuccess);
    return p;
}

static inline void download_bytes(cudaStream_t s, void *dst, const void *src, size_t bytes)
{
    cr_assert_eq(cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToHost, s), cudaSuccess);
    cr_assert_eq(cudaStreamSynchronize(s), cudaSuccess);
}

#endif
