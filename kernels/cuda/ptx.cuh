/* kernels/cuda/ptx.cuh -- instructions that have no name in CUDA C++.
 *
 * Fragments of mma.m16n8k16 (PTX ISA, "Matrix Fragments for mma.m16n8k16"), with g = lane / 4 and
 * t = lane % 4; a register holds two halves, the one of lower k below:
 *
 *     A 16x16, row-major    a[0] (g, 2t)          a[1] (g + 8, 2t)
 *                           a[2] (g, 2t + 8)      a[3] (g + 8, 2t + 8)
 *     B 16x8, by columns    b[0] (k = 2t, n = g)              b[1] (k = 2t + 8, n = g)
 *     D 16x8, F32           d[0], d[1] (g, 2t), (g, 2t + 1)   d[2], d[3] (g + 8, ...)
 *
 * Of mma.m16n8k32 with int8 ("Matrix Fragments for mma.m16n8k32"), whose registers hold four
 * bytes, the one of lowest k lowest, and whose sums are int32:
 *
 *     A 16x32, row-major    a[0] (g, 4t)          a[1] (g + 8, 4t)
 *                           a[2] (g, 4t + 16)     a[3] (g + 8, 4t + 16)
 *     B 32x8, by columns    b[0] (k = 4t, n = g)              b[1] (k = 4t + 16, n = g)
 *     D 16x8                as above
 *
 * So in bytes the fragments of both lie as ldmatrix puts them.
 *
 * All lanes of a warp take part in those of mma and ldmatrix.
 */
#ifndef REFINE_CUDA_PTX_CUH
#define REFINE_CUDA_PTX_CUH

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <stdint.h>

/* d += a b.  Compute capability 7.5 has only the half of it along k. */
__device__ __forceinline__ void mma_half(float (&d)[4], const uint32_t (&a)[4],
                                         const uint32_t (&b)[2])
{
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 "
                 "{%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(b[0]));
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 "
                 "{%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[2]), "r"(a[3]), "r"(b[1]));
#endif
}

/* d += a b, in integers.  7.5 has a quarter of it: half the rows, half of k. */
__device__ __forceinline__ void mma_int8(int (&d)[4], const uint32_t (&a)[4],
                                         const uint32_t (&b)[2])
{
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
#pragma unroll
    for (int i = 0; i < 4; i++)
        asm volatile("mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 {%0,%1}, {%2}, {%3}, {%0,%1};"
                     : "+r"(d[i % 2 * 2]), "+r"(d[i % 2 * 2 + 1])
                     : "r"(a[i]), "r"(b[i / 2]));
#endif
}

/* d[i][j] += a[i] b[j]: a tile of 16 I x 8 J outputs of one warp, 16 deep. */
template <int I, int J>
__device__ __forceinline__ void mma_tile(float (&d)[I][J][4], const uint32_t (&a)[I][4],
                                         const uint32_t (&b)[J][2])
{
#pragma unroll
    for (int i = 0; i < I; i++)
#pragma unroll
        for (int j = 0; j < J; j++)
            mma_half(d[i][j], a[i], b[j]);
}

/* Likewise of integers, 64 deep, in halves of 32. */
template <int I, int J>
__device__ __forceinline__ void mma_int8_tile(int (&d)[I][J][4], const uint32_t (&a)[2][I][4],
                                              const uint32_t (&b)[2][J][2])
{
#pragma unroll
    for (int half = 0; half < 2; half++)
#pragma unroll
        for (int i = 0; i < I; i++)
#pragma unroll
            for (int j = 0; j < J; j++)
                mma_int8(d[i][j], a[half][i], b[half][j]);
}

/* Four 8x8 matrices of halves from shared memory.  Lane 8 i + r gives the address of row r of
 * matrix i, 16 bytes and aligned to them; out[i] of a lane is the pair (row g, columns 2t, 2t+1)
 * of matrix i, or of its transpose. */
__device__ __forceinline__ void load_matrices(uint32_t (&out)[4], const void *row)
{
    const uint32_t at = static_cast<uint32_t>(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(at)
                 : "memory");
}

__device__ __forceinline__ void load_matrices_transposed(uint32_t (&out)[4], const void *row)
{
    const uint32_t at = static_cast<uint32_t>(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(at)
                 : "memory");
}

/* Can vectors go from memory to shared memory by themselves? */
__device__ __forceinline__ constexpr bool has_copies()
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    return true;
#else
    return false;
#endif
}

/* Sixteen bytes, both places aligned to them; zeros where they are not there, which reads nothing.
 * They have come when the thread has met copies_wait; for others, after a barrier behind that. */
__device__ __forceinline__ void copy16_async(void *to, const void *from, bool is_there)
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    const uint32_t at = static_cast<uint32_t>(__cvta_generic_to_shared(to));
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :
                 : "r"(at), "l"(__cvta_generic_to_global(from)), "r"(is_there ? 16 : 0)
                 : "memory");
#else
    (void)to, (void)from, (void)is_there;
#endif
}

/* Waits for all copies of the calling thread. */
__device__ __forceinline__ void copies_wait()
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_all;" : : : "memory");
#endif
}

/* 2^x to 2 ulp; 0 for -infinity. */
__device__ __forceinline__ float exp2_fast(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/* 1 / x to 1 ulp; 0 from 2^126 on, infinity included. */
__device__ __forceinline__ float reciprocal_fast(float x)
{
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

#endif
