/* tests/support/cuda/cuda_fp16.h -- IEEE half, with NVIDIA's names; rounds to nearest even. */
#ifndef EMULATED_CUDA_FP16_H
#define EMULATED_CUDA_FP16_H

#include "cuda_runtime.h"

extern "C" {
#include "quant/f16.h"
}
#ifdef __F16C__
#include <immintrin.h>
#endif

struct alignas(2) __half {
    uint16_t bits;
};
struct alignas(4) __half2 {
    __half x, y;
};
typedef __half half;
typedef __half2 half2;

inline float __half2float(__half h)
{
#ifdef __F16C__
    return _cvtsh_ss(h.bits);
#else
    return f16_to_f32(h.bits);
#endif
}
inline __half __float2half_rn(float f)
{
#ifdef __F16C__
    return { _cvtss_sh(f, _MM_FROUND_TO_NEAREST_INT) };
#else
    return { f32_to_f16(f) };
#endif
}
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

/* A product of halves is exact in float, and a sum of two in double; the last rounding is one. */
inline __half __hfma(__half a, __half b, __half c)
{
    const double v = static_cast<double>(__half2float(a)) * __half2float(b) + __half2float(c);
    const float f = static_cast<float>(v);
    return __float2half_rn(f);
}
inline __half2 __hfma2(__half2 a, __half2 b, __half2 c)
{
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
