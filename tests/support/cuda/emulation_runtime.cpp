/* tests/support/cuda/emulation_runtime.cpp -- the runtime API: what CUDA would say to a call, and
 * what is then enqueued.  Reference: CUDA Runtime API, "API synchronization behavior". */
#include "emulation_block.h"
#include "emulation_card.h"
#include "emulation_memory.h"
#include "emulation_streams.h"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <set>
#include <thread>
#include <vector>

using namespace emulation;

namespace {

const size_t SHARED_UNASKED = 48 << 10;
const double LAUNCH_NS = 2000, BYTES_PER_NS = 10;
const int MOST_STANDING = 400; /* times 5 ms */

/* What kernels were loaded, and what they were allowed. */
std::set<const void *> loaded;
std::map<const void *, size_t> allowed;

cudaError_t check_shape(const cudaLaunchConfig_t *c)
{
    const dim3 &g = c->gridDim, &b = c->blockDim;
    const unsigned long threads = static_cast<unsigned long>(b.x) * b.y * b.z;
    if (g.x == 0 || g.y == 0 || g.z == 0 || g.x > 0x7fffffffu || g.y > 65535 || g.z > 65535 ||
        threads == 0 || threads > MOST_THREADS || b.z > 64)
        return cudaErrorInvalidConfiguration;
    if (threads % LANES) {
        fprintf(stderr, "emulation: %lu threads are no whole warps\n", threads);
        abort();
    }
    return cudaSuccess;
}

cudaError_t check_stream(cudaStream_t s)
{
    if (!s) {
        fprintf(stderr, "emulation: the default stream is not emulated\n");
        abort();
    }
    return stream_is(s) ? cudaSuccess : cudaErrorInvalidResourceHandle;
}

/* When a copy runs, its memory must still be there. */
void open_memory(const void *p, size_t bytes)
{
    if (!memory_open(p, bytes)) {
        fprintf(stderr, "emulation: what a copy was to touch was freed before\n");
        abort();
    }
}

bool is_live_stream_late(cudaStream_t s)
{
    const auto hold = card_hold();
    return stream_is(s) && stream_is_late(s);
}

bool is_live_event_late(cudaEvent_t e)
{
    const auto hold = card_hold();
    return event_is(e) && event_is_late(e);
}

bool is_standing(cudaStream_t s)
{
    const auto hold = card_hold();
    return stream_is(s) && stream_stands(s);
}

bool is_standing(cudaEvent_t e)
{
    const auto hold = card_hold();
    return event_is(e) && event_stands(e);
}

/* Until another thread has sent what is waited for, or will not. */
template <class H> void await_sent(H what)
{
    for (int i = 0; i < MOST_STANDING && is_standing(what); i++)
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
}

double copy_ns(size_t bytes)
{
    return LAUNCH_NS + static_cast<double>(bytes) / BYTES_PER_NS;
}

/* Pinned memory is read when the copy runs, other memory before the call returns. */
cudaError_t copy_to_device(void *dst, const void *src, size_t bytes, cudaStream_t s)
{
    const host_kind kind = host_kind_of(src, bytes);
    if (!memory_has(dst, bytes) || kind == HOST_PARTLY_PINNED)
        return cudaErrorInvalidValue;
    std::shared_ptr<std::vector<char>> staged;
    if (kind == HOST_PAGEABLE) {
        const char *from = static_cast<const char *>(src);
        staged = std::make_shared<std::vector<char>>(from, from + bytes);
    }
    stream_push(s, [=] {
        open_memory(dst, bytes);
        memcpy(dst, staged ? staged->data() : src, bytes);
    }, copy_ns(bytes));
    return cudaSuccess;
}

/* Into memory that is not pinned the copy is done when the call returns. */
cudaError_t copy_to_host(void *dst, const void *src, size_t bytes, cudaStream_t s)
{
    const host_kind kind = host_kind_of(dst, bytes);
    if (!memory_has(src, bytes) || kind == HOST_PARTLY_PINNED)
        return cudaErrorInvalidValue;
    const bool wrong = card.copies++ == card.flipped_copy;
    stream_push(s, [=] {
        open_memory(src, bytes);
        memcpy(dst, src, bytes);
        if (wrong)
            static_cast<char *>(dst)[bytes / 2] ^= 1;
    }, copy_ns(bytes));
    if (kind == HOST_PAGEABLE)
        stream_drain(s);
    return cudaSuccess;
}

cudaError_t copy_on_device(void *dst, const void *src, size_t bytes, cudaStream_t s)
{
    if (!memory_has(dst, bytes) || !memory_has(src, bytes))
        return cudaErrorInvalidValue;
    stream_push(s, [=] {
        open_memory(dst, bytes);
        open_memory(src, bytes);
        memmove(dst, src, bytes);
    }, copy_ns(bytes));
    return cudaSuccess;
}

const struct {
    cudaError_t e;
    const char *name, *text;
} ERRORS[] = {
    { cudaSuccess, "cudaSuccess", "no error" },
    { cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument" },
    { cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory" },
    { cudaErrorInitializationError, "cudaErrorInitializationError", "initialization error" },
    { cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration",
      "invalid configuration argument" },
    { cudaErrorInvalidMemcpyDirection, "cudaErrorInvalidMemcpyDirection",
      "invalid copy direction for memcpy" },
    { cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver",
      "CUDA driver version is insufficient for CUDA runtime version" },
    { cudaErrorDevicesUnavailable, "cudaErrorDevicesUnavailable",
      "CUDA-capable device(s) is/are busy or unavailable" },
    { cudaErrorInvalidDeviceFunction, "cudaErrorInvalidDeviceFunction",
      "invalid device function" },
    { cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected" },
    { cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal" },
    { cudaErrorNoKernelImageForDevice, "cudaErrorNoKernelImageForDevice",
      "no kernel image is available for execution on the device" },
    { cudaErrorECCUncorrectable, "cudaErrorECCUncorrectable",
      "uncorrectable ECC error encountered" },
    { cudaErrorUnsupportedPtxVersion, "cudaErrorUnsupportedPtxVersion",
      "the provided PTX was compiled with an unsupported toolchain." },
    { cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle",
      "invalid resource handle" },
    { cudaErrorNotReady, "cudaErrorNotReady", "device not ready" },
    { cudaErrorIllegalAddress, "cudaErrorIllegalAddress",
      "an illegal memory access was encountered" },
    { cudaErrorHostMemoryAlreadyRegistered, "cudaErrorHostMemoryAlreadyRegistered",
      "part or all of the requested memory range is already mapped" },
    { cudaErrorHostMemoryNotRegistered, "cudaErrorHostMemoryNotRegistered",
      "pointer does not correspond to a registered memory region" },
    { cudaErrorLaunchTimeout, "cudaErrorLaunchTimeout", "the launch timed out and was terminated" },
    { cudaErrorHardwareStackError, "cudaErrorHardwareStackError", "hardware stack error" },
    { cudaErrorIllegalInstruction, "cudaErrorIllegalInstruction",
      "an illegal instruction was encountered" },
    { cudaErrorMisalignedAddress, "cudaErrorMisalignedAddress", "misaligned address" },
    { cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure" },
    { cudaErrorSystemNotReady, "cudaErrorSystemNotReady", "system not yet initialized" },
    { cudaErrorSystemDriverMismatch, "cudaErrorSystemDriverMismatch",
      "system has unsupported display driver / cuda driver combination" },
    { cudaErrorUnknown, "cudaErrorUnknown", "unknown error" },
};

} /* namespace */

/* ---- kernels ---- */

void emulation::kernels_forget()
{
    loaded.clear();
    allowed.clear();
}

cudaError_t emulation::enqueue_kernel(const cudaLaunchConfig_t *c, const void *kernel,
                                      kernel_call call)
{
    const api_call now(NEEDS_CONTEXT);
    cudaError_t e = now.wrong;
    if (e == cudaSuccess)
        e = check_stream(c->stream);
    if (e == cudaSuccess)
        e = check_shape(c);
    if (e != cudaSuccess)
        return now.end(e);
    const auto more = allowed.find(kernel);
    if (c->dynamicSmemBytes > (more == allowed.end() ? SHARED_UNASKED : more->second))
        return now.end(cudaErrorInvalidValue);
    if (loaded.insert(kernel).second)
        card.loaded_late++;
    const dim3 grid = c->gridDim, block = c->blockDim;
    const size_t shared = c->dynamicSmemBytes;
    if (card.launches++ == card.lost_launch)
        return now.end(cudaSuccess);
    if (card.listener) {
        const emulation_launch l = { kernel, grid.x * grid.y * grid.z, block.x * block.y * block.z,
                                     shared };
        card.listener(&l);
        return now.end(cudaSuccess);
    }
    stream_push(c->stream, [=] {
        memory_open_all();
        run_grid(grid, block, shared, call);
    }, LAUNCH_NS);
    return now.end(cudaSuccess);
}

cudaError_t cudaFuncSetAttribute(const void *kernel, cudaFuncAttribute, int value)
{
    const api_call now(NEEDS_CONTEXT);
    if (now.wrong == cudaSuccess && value > card_most_shared())
        return now.end(cudaErrorInvalidValue);
    allowed[kernel] = static_cast<size_t>(value);
    return now.end(cudaSuccess);
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *out, const void *kernel)
{
    const api_call now(NEEDS_CONTEXT);
    *out = {};
    out->maxThreadsPerBlock = MOST_THREADS;
    if (now.wrong == cudaSuccess)
        loaded.insert(kernel);
    return now.end(cudaSuccess);
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *n, const void *kernel, int threads,
                                                          size_t shared)
{
    const api_call now(NEEDS_CONTEXT);
    *n = 0;
    if (now.wrong != cudaSuccess)
        return now.end(cudaSuccess);
    if (!kernel || threads < 1 || threads > MOST_THREADS ||
        shared > static_cast<size_t>(card_most_shared()))
        return now.end(cudaErrorInvalidValue);
    *n = card_blocks_held(threads, shared);
    return now.end(cudaSuccess);
}

cudaError_t emulation::write_symbol(void *symbol, const void *src, size_t bytes)
{
    const api_call now(NEEDS_CONTEXT);
    if (now.wrong == cudaSuccess) {
        symbol_note(symbol, bytes);
        memcpy(symbol, src, bytes);
    }
    return now.end(cudaSuccess);
}

cudaError_t emulation::read_symbol(void *dst, const void *symbol, size_t bytes)
{
    const api_call now(NEEDS_CONTEXT);
    if (now.wrong == cudaSuccess)
        memcpy(dst, symbol, bytes);
    return now.end(cudaSuccess);
}

extern "C" {

/* ---- errors ---- */

const char *cudaGetErrorName(cudaError_t e)
{
    for (const auto &known : ERRORS)
        if (known.e == e)
            return known.name;
    return "unrecognized error code";
}

const char *cudaGetErrorString(cudaError_t e)
{
    for (const auto &known : ERRORS)
        if (known.e == e)
            return known.text;
    return "unrecognized error code";
}

cudaError_t cudaGetLastError(void)
{
    const cudaError_t e = last_error();
    last_error() = card.lost;
    return e;
}

cudaError_t cudaPeekAtLastError(void)
{
    return last_error();
}

/* ---- the card ---- */

cudaError_t cudaDriverGetVersion(int *version)
{
    const api_call now(NEEDS_NOTHING);
    *version = card.driver;
    return now.end(cudaSuccess);
}

cudaError_t cudaRuntimeGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int *count)
{
    const api_call now(NEEDS_DRIVER);
    *count = now.wrong == cudaSuccess ? card.devices : 0;
    return now.end(cudaSuccess);
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int device)
{
    const api_call now(NEEDS_DRIVER);
    *p = {};
    if (device < 0 || device >= card.devices)
        return now.end(cudaErrorInvalidDevice);
    snprintf(p->name, sizeof p->name, "emulated card %d", device);
    p->totalGlobalMem = card.total;
    p->sharedMemPerBlockOptin = static_cast<size_t>(card_most_shared());
    p->major = card.major;
    p->minor = card.minor;
    p->multiProcessorCount = card.processors;
    p->pciBusID = 1 + device;
    return now.end(cudaSuccess);
}

cudaError_t cudaSetDevice(int device)
{
    const bool there = device >= 0 && device < card.devices;
    const api_call now(there ? NEEDS_CONTEXT : NEEDS_DRIVER);
    return now.end(there ? cudaSuccess : cudaErrorInvalidDevice);
}

cudaError_t cudaSetDeviceFlags(unsigned)
{
    const api_call now(NEEDS_DRIVER);
    return now.end(cudaSuccess);
}

cudaError_t cudaInitDevice(int device, unsigned, unsigned)
{
    return cudaSetDevice(device);
}

cudaError_t cudaDeviceSynchronize(void)
{
    const api_call now(NEEDS_CONTEXT);
    if (now.wrong == cudaSuccess)
        streams_drain();
    return now.end(cudaSuccess);
}

cudaError_t cudaDeviceReset(void)
{
    const api_call now(NEEDS_DRIVER);
    card_end_context();
    return now.end(cudaSuccess);
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total)
{
    const api_call now(NEEDS_CONTEXT);
    if (now.wrong == cudaSuccess) {
        *free_bytes = card_free_bytes();
        *total = card.total;
    }
    return now.end(cudaSuccess);
}

/* ---- memory ---- */

cudaError_t cudaMalloc(void **p, size_t bytes)
{
    const api_call now(NEEDS_CONTEXT);
    *p = nullptr;
    if (now.wrong != cudaSuccess || bytes == 0)
        return now.end(cudaSuccess);
    if (bytes <= card_free_bytes())
        *p = memory_take(bytes);
    return now.end(*p ? cudaSuccess : cudaErrorMemoryAllocation);
}

cudaError_t cudaFree(void *p)
{
    const api_call now(NEEDS_CONTEXT);
    return now.end(!p || memory_give(p) ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t cudaHostRegister(void *p, size_t bytes, unsigned)
{
    const api_call now(NEEDS_CONTEXT);
    if (now.wrong != cudaSuccess)
        return now.end(cudaSuccess);
    if (!p || bytes == 0)
        return now.end(cudaErrorInvalidValue);
    return now.end(host_register(p, bytes) ? cudaSuccess : cudaErrorHostMemoryAlreadyRegistered);
}

cudaError_t cudaHostUnregister(void *p)
{
    const api_call now(NEEDS_CONTEXT);
    return now.end(host_unregister(p) ? cudaSuccess : cudaErrorHostMemoryNotRegistered);
}

cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t bytes, enum cudaMemcpyKind kind,
                            cudaStream_t s)
{
    if (kind == cudaMemcpyDeviceToHost)
        await_sent(s);
    const api_call now(NEEDS_CONTEXT);
    if (now.wrong != cudaSuccess)
        return now.end(cudaSuccess);
    const cudaError_t e = check_stream(s);
    if (e != cudaSuccess || bytes == 0)
        return now.end(e);
    switch (kind) {
    case cudaMemcpyHostToDevice: return now.end(copy_to_device(dst, src, bytes, s));
    case cudaMemcpyDeviceToHost: return now.end(copy_to_host(dst, src, bytes, s));
    case cudaMemcpyDeviceToDevice: return now.end(copy_on_device(dst, src, bytes, s));
    default: return now.end(cudaErrorInvalidMemcpyDirection);
    }
}

cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t s)
{
    const api_call now(NEEDS_CONTEXT);
    if (now.wrong != cudaSuccess)
        return now.end(cudaSuccess);
    const cudaError_t e = check_stream(s);
    if (e != cudaSuccess || bytes == 0)
        return now.end(e);
    if (!memory_has(p, bytes))
        return now.end(cudaErrorInvalidValue);
    stream_push(s, [=] {
        open_memory(p, bytes);
        memset(p, value, bytes);
    }, copy_ns(bytes));
    return now.end(cudaSuccess);
}

/* ---- streams and events ---- */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned)
{
    const api_call now(NEEDS_CONTEXT);
    *s = now.wrong == cudaSuccess ? stream_make() : nullptr;
    return now.end(cudaSuccess);
}

cudaError_t cudaStreamDestroy(cudaStream_t s)
{
    const api_call now(NEEDS_CONTEXT);
    if (!stream_is(s))
        return now.end(cudaErrorInvalidResourceHandle);
    stream_give(s);
    return now.end(cudaSuccess);
}

cudaError_t cudaStreamSynchronize(cudaStream_t s)
{
    if (is_live_stream_late(s))
        card_linger();
    await_sent(s);
    const api_call now(NEEDS_CONTEXT);
    if (now.wrong != cudaSuccess)
        return now.end(cudaSuccess);
    const cudaError_t e = check_stream(s);
    if (e == cudaSuccess)
        stream_drain(s);
    return now.end(e);
}

cudaError_t cudaStreamQuery(cudaStream_t s)
{
    const api_call now(NEEDS_CONTEXT);
    if (now.wrong != cudaSuccess)
        return now.end(cudaSuccess);
    const cudaError_t e = check_stream(s);
    if (e != cudaSuccess)
        return now.end(e);
    stream_send(s);
    return stream_query(s) ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned)
{
    const api_call now(NEEDS_CONTEXT);
    if (now.wrong != cudaSuccess)
        return now.end(cudaSuccess);
    if (check_stream(s) != cudaSuccess || !event_is(e))
        return now.end(cudaErrorInvalidResourceHandle);
    stream_wait_event(s, e);
    return now.end(cudaSuccess);
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned flags)
{
    const api_call now(NEEDS_CONTEXT);
    *e = now.wrong == cudaSuccess ? event_make(!(flags & cudaEventDisableTiming)) : nullptr;
    return now.end(cudaSuccess);
}

cudaError_t cudaEventDestroy(cudaEvent_t e)
{
    const api_call now(NEEDS_CONTEXT);
    if (!event_is(e))
        return now.end(cudaErrorInvalidResourceHandle);
    event_give(e);
    return now.end(cudaSuccess);
}

cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s)
{
    const api_call now(NEEDS_CONTEXT);
    if (now.wrong != cudaSuccess)
        return now.end(cudaSuccess);
    if (check_stream(s) != cudaSuccess || !event_is(e))
        return now.end(cudaErrorInvalidResourceHandle);
    event_record(e, s);
    return now.end(cudaSuccess);
}

cudaError_t cudaEventSynchronize(cudaEvent_t e)
{
    if (is_live_event_late(e))
        card_linger();
    await_sent(e);
    const api_call now(NEEDS_CONTEXT);
    if (now.wrong != cudaSuccess)
        return now.end(cudaSuccess);
    if (!event_is(e))
        return now.end(cudaErrorInvalidResourceHandle);
    event_drain(e);
    return now.end(cudaSuccess);
}

cudaError_t cudaEventQuery(cudaEvent_t e)
{
    const api_call now(NEEDS_CONTEXT);
    if (now.wrong != cudaSuccess)
        return now.end(cudaSuccess);
    if (!event_is(e))
        return now.end(cudaErrorInvalidResourceHandle);
    return now.end(event_query(e) ? cudaSuccess : cudaErrorNotReady);
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t begin, cudaEvent_t end)
{
    const api_call now(NEEDS_CONTEXT);
    if (now.wrong != cudaSuccess)
        return now.end(cudaSuccess);
    if (!event_is(begin) || !event_is(end))
        return now.end(cudaErrorInvalidResourceHandle);
    return now.end(event_elapsed(ms, begin, end));
}
}
