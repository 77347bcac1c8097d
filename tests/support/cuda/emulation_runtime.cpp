/* tests/support/cuda/emulation_runtime.cpp -- the runtime API of a card that runs all at once. */
#include "emulation.h"
#include "emulation_block.h"

#include <cstdlib>
#include <map>
#include <mutex>

struct emulated_stream {};
struct emulated_event {};

namespace {

enum { SHARED_UNASKED = 48 << 10, SHARED_MOST = 64 << 10 };
const size_t TOTAL = static_cast<size_t>(8) << 30;

struct {
    std::mutex lock;
    std::map<const void *, size_t> shared; /* what kernels were allowed */
    std::map<void *, size_t> memory;
    size_t taken = 0;
} card;

thread_local cudaError_t last;

cudaError_t result(cudaError_t e)
{
    if (e != cudaSuccess)
        last = e;
    return e;
}

} /* namespace */

namespace emulation {

cudaError_t enqueue_kernel(const cudaLaunchConfig_t *c, const void *kernel, kernel_call call)
{
    std::lock_guard<std::mutex> hold(card.lock);
    const auto allowed = card.shared.find(kernel);
    const size_t most =
        allowed == card.shared.end() ? static_cast<size_t>(SHARED_UNASKED) : allowed->second;
    if (c->dynamicSmemBytes > most || c->gridDim.x == 0 || c->gridDim.y == 0 ||
        c->gridDim.y > 65535 || c->gridDim.z == 0 || c->gridDim.z > 65535)
        return result(cudaErrorInvalidValue);
    for (unsigned z = 0; z < c->gridDim.z; z++)
        for (unsigned y = 0; y < c->gridDim.y; y++)
            for (unsigned x = 0; x < c->gridDim.x; x++)
                run_block(c->gridDim, c->blockDim, { x, y, z }, c->dynamicSmemBytes, call);
    return cudaSuccess;
}

} /* namespace emulation */

cudaError_t cudaFuncSetAttribute(const void *kernel, cudaFuncAttribute, int value)
{
    if (value > SHARED_MOST)
        return result(cudaErrorInvalidValue);
    std::lock_guard<std::mutex> hold(card.lock);
    card.shared[kernel] = static_cast<size_t>(value);
    return cudaSuccess;
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *out, const void *)
{
    memset(out, 0, sizeof *out);
    return cudaSuccess;
}

extern "C" {

const char *cudaGetErrorName(cudaError_t) { return "cudaError"; }
const char *cudaGetErrorString(cudaError_t) { return "an error"; }
cudaError_t cudaGetLastError(void)
{
    const cudaError_t e = last;
    last = cudaSuccess;
    return e;
}
cudaError_t cudaPeekAtLastError(void) { return last; }

cudaError_t cudaDriverGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return cudaSuccess;
}
cudaError_t cudaGetDeviceCount(int *count)
{
    *count = 1;
    return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int device)
{
    memset(p, 0, sizeof *p);
    if (device != 0)
        return result(cudaErrorInvalidDevice);
    strcpy(p->name, "emulated card");
    p->totalGlobalMem = TOTAL;
    p->sharedMemPerBlockOptin = SHARED_MOST;
    p->major = 7;
    p->minor = 5;
    p->multiProcessorCount = 16;
    return cudaSuccess;
}
cudaError_t cudaSetDevice(int device)
{
    return result(device == 0 ? cudaSuccess : cudaErrorInvalidDevice);
}
cudaError_t cudaSetDeviceFlags(unsigned) { return cudaSuccess; }
cudaError_t cudaInitDevice(int device, unsigned, unsigned) { return cudaSetDevice(device); }
cudaError_t cudaDeviceSynchronize(void) { return cudaSuccess; }
cudaError_t cudaDeviceReset(void) { return cudaSuccess; }
cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total)
{
    std::lock_guard<std::mutex> hold(card.lock);
    *free_bytes = TOTAL - card.taken;
    *total = TOTAL;
    return cudaSuccess;
}

cudaError_t cudaMalloc(void **p, size_t bytes)
{
    std::lock_guard<std::mutex> hold(card.lock);
    *p = bytes <= TOTAL - card.taken ? aligned_alloc(256, (bytes + 255) / 256 * 256) : nullptr;
    if (!*p)
        return result(cudaErrorMemoryAllocation);
    memset(*p, 0xff, bytes);
    card.memory[*p] = bytes;
    card.taken += bytes;
    return cudaSuccess;
}
cudaError_t cudaFree(void *p)
{
    std::lock_guard<std::mutex> hold(card.lock);
    const auto at = card.memory.find(p);
    if (at == card.memory.end())
        return result(p ? cudaErrorInvalidValue : cudaSuccess);
    card.taken -= at->second;
    card.memory.erase(at);
    free(p);
    return cudaSuccess;
}
cudaError_t cudaHostRegister(void *, size_t, unsigned) { return cudaSuccess; }
cudaError_t cudaHostUnregister(void *) { return cudaSuccess; }
cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t bytes, enum cudaMemcpyKind,
                            cudaStream_t)
{
    memcpy(dst, src, bytes);
    return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t)
{
    memset(p, value, bytes);
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned)
{
    *s = new emulated_stream;
    return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t s)
{
    delete s;
    return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) { return cudaSuccess; }

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned)
{
    *e = new emulated_event;
    return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t e)
{
    delete e;
    return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return cudaSuccess; }
cudaError_t cudaEventSynchronize(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaEventQuery(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t, cudaEvent_t)
{
    *ms = 1.0f;
    return cudaSuccess;
}
}
