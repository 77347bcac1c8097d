/* kernels/cuda/product_simt.cuh -- products without tensor cores.
 *
 * A block of 16 x 16 threads computes 16 TM pixels x 16 TN rows of w; a thread's are 16 apart.
 * Of F32 they are sums of F32 products.  Of halves two neighbouring k are multiplied at once
 * (HFMA2), and after 16 k the two sums are added in F32: in between they are fp16, which costs
 * accuracy (docs/numerics.md) and doubles the rate of cards that have no tensor cores.
 */
#ifndef REFINE_CUDA_PRODUCT_SIMT_CUH
#define REFINE_CUDA_PRODUCT_SIMT_CUH

#include "kernels/cuda/product_kernels.cuh"

enum { SIDE = 16, SIMT_THREADS = SIDE * SIDE };

template <class E, int TM, int TN> struct threads {
    typedef E element;
    enum { M = SIDE * TM, N = SIDE * TN, THREADS = SIMT_THREADS };
    typedef stage<E, M, N> stages[2];
    union shared {
        stages s;
        outputs<M, N> out;
    };
};

/* Adds a dot product: of pairs of halves two at once, */
template <int TN>
__device__ REGISTERS_ONLY void add_half_products(__half2 (&d)[TN], half8 a, const half8 (&b)[TN])
{
#pragma unroll
    for (int j = 0; j < TN; j++)
#pragma unroll
        for (int q = 0; q < 4; q++)
            d[j] = __hfma2(a.pair[q], b[j].pair[q], d[j]);
}

/* and of floats. */
template <int TN>
__device__ REGISTERS_ONLY void add_float_products(float (&d)[TN], float8 a, const float8 (&b)[TN])
{
#pragma unroll
    for (int j = 0; j < TN; j++)
#pragma unroll
        for (int q = 0; q < 8; q++)
            d[j] = fmaf(a.x[q], b[j].x[q], d[j]);
}

/* The vectors v and v + 1 of k, 16 of it. */
template <int TM, int TN>
__device__ __forceinline__ void multiply_k16(float (&d)[TM][TN],
                                             stage<__half, SIDE * TM, SIDE * TN> &s, int v, int tm,
                                             int tn)
{
    __half2 sum[TM][TN];
#pragma unroll
    for (int i = 0; i < TM; i++)
#pragma unroll
        for (int j = 0; j < TN; j++)
            sum[i][j] = __float2half2_rn(0.0f);
#pragma unroll
    for (int u = 0; u < 2; u++) {
        half8 b[TN];
#pragma unroll
        for (int j = 0; j < TN; j++)
            b[j] = s.w.vector(tn + SIDE * j, v + u);
#pragma unroll
        for (int i = 0; i < TM; i++)
            add_half_products(sum[i], s.x.vector(tm + SIDE * i, v + u), b);
    }
#pragma unroll
    for (int i = 0; i < TM; i++)
#pragma unroll
        for (int j = 0; j < TN; j++) {
            const float2 f = __half22float2(sum[i][j]);
            d[i][j] += f.x + f.y;
        }
}

template <int TM, int TN>
__device__ __forceinline__ void multiply_k16(float (&d)[TM][TN],
                                             stage<float, SIDE * TM, SIDE * TN> &s, int v, int tm,
                                             int tn)
{
#pragma unroll
    for (int u = 0; u < 2; u++) {
        float8 b[TN];
#pragma unroll
        for (int j = 0; j < TN; j++)
            b[j] = s.w.vector(tn + SIDE * j, v + u);
#pragma unroll
        for (int i = 0; i < TM; i++)
            add_float_products(d[i], s.x.vector(tm + SIDE * i, v + u), b);
    }
}

template <class E, int TM, int TN, class S, class W>
__global__ void __launch_bounds__(SIMT_THREADS, 1) product_simt_kernel(const product_args p)
{
    typedef threads<E, TM, TN> tile;
    typename tile::shared *shared = shared_memory<typename tile::shared>();
    const block_place at = block_here<tile>(p);
    const int thread = static_cast<int>(threadIdx.x), tm = thread % SIDE, tn = thread / SIDE;
    float d[TM][TN] = {};
    S x;
    W w;

    x.begin(p, at.m0);
    w.begin(p, at.n0);
    for_each_stage(p, shared->s, x, w, [&](stage<E, tile::M, tile::N> &s) {
        for (int v = 0; v < VECTORS; v += 2)
            multiply_k16(d, s, v, tm, tn);
    });
#pragma unroll
    for (int i = 0; i < TM; i++)
#pragma unroll
        for (int j = 0; j < TN; j++)
            shared->out.at[tm + SIDE * i][tn + SIDE * j] = d[i][j];
    __syncthreads();
    store_outputs(p, shared->out, at.m0, at.n0, thread, SIMT_THREADS);
}

/* Its kernels, by what they read. */
template <class E, int TM, int TN> struct simt_tile : threads<E, TM, TN> {
    template <class S, class W> static product_kernel *kernel()
    {
        return product_simt_kernel<E, TM, TN, S, W>;
    }
};

typedef simt_tile<__half, 8, 4> halves_tile; /* 128 x 64 */
typedef simt_tile<float, 4, 4> floats_tile;  /* 64 x 64 */

#endif
