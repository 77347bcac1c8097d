/* tests/support/cuda/cuda_runtime.h -- CUDA's C++ dialect on this machine's processor.
 *
 * Threads of a block are fibers of one host thread; they run one after another until each waits
 * for others (a barrier, a warp's collective) and go on when all have come.  So between two
 * meetings any order of threads is a legal one, and emulation_set_order chooses it: a missing
 * barrier then reads what has not been written.  Blocks run one after another, and kernels of all
 * host threads: what is global here is under one lock.
 *
 * What goes to shared memory by itself (cp.async) comes as late as others may rely on it: at the
 * barrier behind its thread's wait.
 *
 * Shared memory is dynamic, poisoned before each block, and as large as the launch asked for:
 * under AddressSanitizer what lies behind may not be touched.  Collectives need all 32 lanes.
 */
#ifndef EMULATED_CUDA_RUNTIME_H
#define EMULATED_CUDA_RUNTIME_H

#include "cuda_runtime_api.h"

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <type_traits>

#define __global__
#define __device__
#define __host__
#define __constant__ const
#define __forceinline__ inline __attribute__((always_inline))
/* Sanitizers, which would look at every access of what is a register, see the caller alone. */
#define REGISTERS_ONLY __attribute__((noinline, no_sanitize("address", "undefined")))
#define __restrict__ __restrict
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __shared__

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};
struct uint3 {
    unsigned x, y, z;
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct alignas(8) int2 {
    int x, y;
};
struct alignas(16) int4 {
    int x, y, z, w;
};
struct alignas(16) double2 {
    double x, y;
};
inline double2 make_double2(double x, double y) { return { x, y }; }
inline float2 make_float2(float x, float y) { return { x, y }; }
inline float4 make_float4(float x, float y, float z, float w) { return { x, y, z, w }; }
inline uint2 make_uint2(unsigned x, unsigned y) { return { x, y }; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return { x, y, z, w }; }
inline int2 make_int2(int x, int y) { return { x, y }; }
inline int4 make_int4(int x, int y, int z, int w) { return { x, y, z, w }; }

struct cudaLaunchAttribute;
struct cudaLaunchConfig_t {
    dim3 gridDim, blockDim;
    size_t dynamicSmemBytes;
    cudaStream_t stream;
    cudaLaunchAttribute *attrs;
    unsigned numAttrs;
};

namespace emulation {

enum { LANES = 32, MOST_THREADS = 1024, MOST_SHARED = 227 * 1024, BEHIND_SHARED = 1024 };

/* Where in its block the running thread is, beyond threadIdx. */
struct place {
    unsigned lane, warp;
};
extern place here;

/* Waits for the other threads of the block; where in the source. */
void meet_block(const char *file, int line);

/* Waits for the other lanes of the warp; the last to come calls `act` with what all brought,
 * on behalf of all.  All must have come for the same `act`. */
void meet_warp(void *brought, void (*act)(void *const brought[LANES]));

/* Likewise, for nothing but meeting. */
void sync_warp(const char *file, int line);

/* Is the card one on which vectors go to shared memory by themselves? */
extern bool has_copies;

/* Sixteen bytes on their way to shared memory, which is NaN until the block meets after the calling
 * thread has waited.  NULL: zeros. */
void begin_copy(void *to, const void *from);
/* Waits for those of the calling thread; where in the source. */
void end_copies(const char *file, int line);

/* Multiply-adds so far, by which events measure time. */
struct work {
    uint64_t tensor, half2;
};
extern work done;

typedef std::function<void()> kernel_call;
cudaError_t enqueue_kernel(const cudaLaunchConfig_t *c, const void *kernel, kernel_call call);

cudaError_t write_symbol(void *symbol, const void *src, size_t bytes);
cudaError_t read_symbol(void *dst, const void *symbol, size_t bytes);

/* What a collective over one value per lane brings. */
template <class T> struct exchange {
    T value;
    unsigned other; /* lane whose value is wanted */
    T got;
};

template <class T> void exchange_all(void *const brought[LANES])
{
    for (int i = 0; i < LANES; i++) {
        exchange<T> *e = static_cast<exchange<T> *>(brought[i]);
        e->got = static_cast<exchange<T> *>(brought[e->other % LANES])->value;
    }
}

template <class T> T take_from(T value, unsigned lane)
{
    exchange<T> e = { value, lane, value };
    meet_warp(&e, exchange_all<T>);
    return e.got;
}

inline void exchange_nothing(void *const *) {}
inline void exchange_votes(void *const brought[LANES])
{
    unsigned mask = 0;
    for (int i = 0; i < LANES; i++)
        mask |= (*static_cast<unsigned *>(brought[i]) != 0 ? 1u : 0u) << i;
    for (int i = 0; i < LANES; i++)
        *static_cast<unsigned *>(brought[i]) = mask;
}

} /* namespace emulation */

extern unsigned char dynamic_shared[];

extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

inline void __syncthreads(const char *file = __builtin_FILE(), int line = __builtin_LINE())
{
    emulation::meet_block(file, line);
}
inline void __syncwarp(unsigned = ~0u, const char *file = __builtin_FILE(),
                       int line = __builtin_LINE())
{
    emulation::sync_warp(file, line);
}

template <class T> T __shfl_sync(unsigned, T v, int lane)
{
    return emulation::take_from(v, static_cast<unsigned>(lane));
}
template <class T> T __shfl_xor_sync(unsigned, T v, int mask)
{
    return emulation::take_from(v, emulation::here.lane ^ static_cast<unsigned>(mask));
}
template <class T> T __shfl_down_sync(unsigned, T v, unsigned delta)
{
    const unsigned lane = emulation::here.lane;
    return emulation::take_from(v, lane + delta < emulation::LANES ? lane + delta : lane);
}
template <class T> T __shfl_up_sync(unsigned, T v, unsigned delta)
{
    const unsigned lane = emulation::here.lane;
    return emulation::take_from(v, lane >= delta ? lane - delta : lane);
}
inline unsigned __ballot_sync(unsigned, int predicate)
{
    unsigned mine = predicate != 0;
    emulation::meet_warp(&mine, emulation::exchange_votes);
    return mine;
}
inline int __any_sync(unsigned m, int predicate) { return __ballot_sync(m, predicate) != 0; }
inline int __all_sync(unsigned m, int predicate) { return __ballot_sync(m, predicate) == ~0u; }

template <class T> T __ldg(const T *p) { return *p; }

/* Threads never run at the same time here. */
template <class T> T atomicAdd(T *p, T v)
{
    const T old = *p;
    *p = static_cast<T>(old + v);
    return old;
}

/* Four of the eight bytes of (y, x), each chosen by four bits of the selector. */
inline unsigned __byte_perm(unsigned x, unsigned y, unsigned selector)
{
    const uint64_t both = static_cast<uint64_t>(y) << 32 | x;
    unsigned out = 0;
    for (int i = 0; i < 4; i++)
        out |= static_cast<unsigned>(both >> (8 * (selector >> (4 * i) & 7u)) & 0xffu) << (8 * i);
    return out;
}

inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline float __expf(float x) { return std::exp(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
/* No locals whose address is taken: their end of scope would be marked, for good, in frames that
 * sanitizers do not see. */
__forceinline__ float __uint_as_float(unsigned u) { return __builtin_bit_cast(float, u); }
__forceinline__ unsigned __float_as_uint(float f) { return __builtin_bit_cast(unsigned, f); }
template <class T> inline T min(T a, T b) { return b < a ? b : a; }
template <class T> inline T max(T a, T b) { return a < b ? b : a; }

cudaError_t cudaFuncSetAttribute(const void *kernel, cudaFuncAttribute a, int value);
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *out, const void *kernel);
/* As for kernels that take 168 registers. */
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *n, const void *kernel, int threads,
                                                          size_t shared);
template <class... P>
cudaError_t cudaFuncSetAttribute(void (*kernel)(P...), cudaFuncAttribute a, int value)
{
    return cudaFuncSetAttribute(reinterpret_cast<const void *>(kernel), a, value);
}
template <class... P>
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *out, void (*kernel)(P...))
{
    return cudaFuncGetAttributes(out, reinterpret_cast<const void *>(kernel));
}

template <class... P>
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *n, void (*kernel)(P...), int threads,
                                                          size_t shared)
{
    return cudaOccupancyMaxActiveBlocksPerMultiprocessor(
        n, reinterpret_cast<const void *>(kernel), threads, shared);
}

/* A variable of the card is one of this process, and what it was when the context ends. */
template <class T> cudaError_t cudaMemcpyToSymbol(T &symbol, const void *src, size_t bytes)
{
    return emulation::write_symbol(&symbol, src, bytes);
}
template <class T> cudaError_t cudaMemcpyFromSymbol(void *dst, const T &symbol, size_t bytes)
{
    return emulation::read_symbol(dst, &symbol, bytes);
}

/* Arguments are copied when the kernel is launched, as on a card. */
template <class... P, class... A>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t *c, void (*kernel)(P...), A &&...args)
{
    static_assert((std::is_trivially_copyable<P>::value && ...), "a kernel takes plain values");
    return emulation::enqueue_kernel(c, reinterpret_cast<const void *>(kernel),
                                     std::bind(kernel, static_cast<P>(args)...));
}

#endif
