/* tests/support/cuda/cuda_fp16.h -- IEEE half, with NVIDIA's names; rounds to nearest even. */
#ifndef EMULATED_CUDA_FP16_H
#define EMULATED_CUDA_FP16_H

#include "cuda_runtime.h"

struct alignas(2) __half {
    uint16_t bits;
};
struct alignas(4) __half2 {
    __half x, y;
};
typedef __half half;
typedef __half2 half2;

/* The exponent's bias is corrected by a multiplication, which is right for subnormals too. */
__forceinline__ float __half2float(__half h)
{
    const uint32_t magnitude = (h.bits & 0x7fffu) << 13, sign = (h.bits & 0x8000u) << 16;
    if (magnitude >= 0x0f800000u) /* infinity, NaN */
        return __uint_as_float(sign | 0x70000000u | magnitude);
    return __uint_as_float(sign | __float_as_uint(__uint_as_float(magnitude) * 0x1p112f));
}

namespace emulation {

/* With e the exponent of x, not below that of subnormals, n = x / 2^(e - 10) is rounded where
 * doubles have no fraction left; n = 2048 carries into the exponent. */
__forceinline__ uint16_t half_bits(double x)
{
    const uint64_t bits = __builtin_bit_cast(uint64_t, x);
    const unsigned sign = static_cast<unsigned>(bits >> 48) & 0x8000u;
    const double magnitude = std::fabs(x);
    if (!(magnitude < 65520.0))
        return static_cast<uint16_t>(std::isnan(x) ? 0x7fffu : sign | 0x7c00u);
    int e = static_cast<int>(bits >> 52 & 0x7ffu) - 1023;
    e = e < -14 ? -14 : e;
    const uint64_t scale_bits = static_cast<uint64_t>(10 - e + 1023) << 52;
    const double scale = __builtin_bit_cast(double, scale_bits);
    const double n = magnitude * scale + 0x1p52 - 0x1p52;
    const int encoded = (e + 14) * 1024 + static_cast<int>(n);
    return static_cast<uint16_t>(sign + static_cast<unsigned>(encoded));
}

} /* namespace emulation */

inline __half __float2half_rn(float f) { return { emulation::half_bits(f) }; }
inline __half __float2half(float f) { return __float2half_rn(f); }
inline __half __ushort_as_half(unsigned short u) { return { u }; }
inline unsigned short __half_as_ushort(__half h) { return h.bits; }

inline __half2 __halves2half2(__half x, __half y) { return { x, y }; }
inline __half2 __half2half2(__half x) { return { x, x }; }
inline __half2 __float2half2_rn(float f) { return __half2half2(__float2half_rn(f)); }
inline __half2 __floats2half2_rn(float x, float y)
{
    return { __float2half_rn(x), __float2half_rn(y) };
}
inline float2 __half22float2(__half2 h) { return { __half2float(h.x), __half2float(h.y) }; }
inline __half __low2half(__half2 h) { return h.x; }
inline __half __high2half(__half2 h) { return h.y; }

/* A product of halves is exact in float, and a sum of two in double: rounded once. */
__forceinline__ __half __hfma(__half a, __half b, __half c)
{
    const float product = __half2float(a) * __half2float(b);
    return { emulation::half_bits(static_cast<double>(product) + __half2float(c)) };
}
__forceinline__ __half2 __hfma2(__half2 a, __half2 b, __half2 c)
{
    emulation::done.half2 += 2;
    return { __hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y) };
}
inline __half2 __hmul2(__half2 a, __half2 b)
{
    return __floats2half2_rn(__half2float(a.x) * __half2float(b.x),
                             __half2float(a.y) * __half2float(b.y));
}
inline __half2 __hadd2(__half2 a, __half2 b)
{
    return __floats2half2_rn(__half2float(a.x) + __half2float(b.x),
                             __half2float(a.y) + __half2float(b.y));
}

#endif
