/* kernels/cuda/product_tensor.cuh -- products on tensor cores.
 *
 * A block computes M pixels x N rows of w with warps of 64 x 32 or 32 x 32; each warp's fragments
 * are read from shared memory by ldmatrix.
 */
#ifndef REFINE_CUDA_PRODUCT_TENSOR_CUH
#define REFINE_CUDA_PRODUCT_TENSOR_CUH

#include "kernels/cuda/product_kernels.cuh"

/* A block of warps, of which a multiprocessor is to have room for BLOCKS: three leave a thread 168
 * registers. */
template <int WARPS_M, int WARPS_N, int I, int BLOCKS> struct warps {
    enum {
        J = 4,
        WARP_M = 16 * I,
        WARP_N = 8 * J,
        M = WARPS_M * WARP_M,
        N = WARPS_N * WARP_N,
        WARPS = WARPS_M * WARPS_N,
        THREADS = 32 * WARPS,
        RESIDENT = BLOCKS
    };
    typedef stage<__half, M, N> stages[2];
    typedef outputs<16, WARP_N> results[WARPS]; /* a warp stores 16 rows at a time */
    union shared {
        stages s;
        results out;
    };
    static __device__ __forceinline__ int m_of(int warp) { return warp / WARPS_N * WARP_M; }
    static __device__ __forceinline__ int n_of(int warp) { return warp % WARPS_N * WARP_N; }
};

typedef warps<2, 4, 4, 1> large_warps; /* 128 x 128 */
typedef warps<2, 2, 4, 2> medium_warps; /* 128 x 64 */
typedef warps<2, 2, 2, 3> small_warps; /* 64 x 64 */
typedef warps<2, 2, 2, 2> small_any_warps; /* likewise, where converting takes more registers */

/* Adds a stage to a warp's sums. */
template <class T>
__device__ __forceinline__ void multiply_stage(float (&d)[T::WARP_M / 16][T::J][4],
                                               stage<__half, T::M, T::N> &s, int m, int n)
{
#pragma unroll
    for (int k = 0; k < STEP / 16; k++) {
        uint32_t a[T::WARP_M / 16][4], b[T::J][2];
#pragma unroll
        for (int i = 0; i < T::WARP_M / 16; i++)
            load_rows(a[i], s.x, m + 16 * i, 2 * k);
        load_columns(b, s.w, n, 2 * k);
        mma_tile(d, a, b);
    }
}

/* Stores a warp's sums, whose first is of row m for row n of w, by way of shared memory. */
template <class T>
__device__ __forceinline__ void finish_warp(const product_args &p, outputs<16, T::WARP_N> &out,
                                            const float (&d)[T::WARP_M / 16][T::J][4], int m, int n)
{
    const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
    for (int i = 0; i < T::WARP_M / 16; i++) {
        put_fragments(out, d[i]);
        __syncwarp();
        store_outputs(p, out, m + 16 * i, n, lane, 32);
        __syncwarp();
    }
}

/* 7.5 has shared memory for two at most. */
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
#define TENSOR_BOUNDS(T) __launch_bounds__(T::THREADS, T::RESIDENT < 2 ? T::RESIDENT : 2)
#else
#define TENSOR_BOUNDS(T) __launch_bounds__(T::THREADS, T::RESIDENT)
#endif

template <class T, class S, class W>
__global__ void TENSOR_BOUNDS(T) product_tensor_kernel(const product_args p)
{
    typename T::shared *shared = shared_memory<typename T::shared>();
    const block_place at = block_here<T>(p);
    const int warp = static_cast<int>(threadIdx.x) / 32, m = T::m_of(warp), n = T::n_of(warp);
    float d[T::WARP_M / 16][T::J][4] = {};
    S x;
    W w;

    x.begin(p, at.m0);
    w.begin(p, at.n0);
    for_each_stage(p, shared->s, x, w, [&](stage<__half, T::M, T::N> &s) {
        multiply_stage<T>(d, s, m, n);
    });
    finish_warp<T>(p, shared->out[warp], d, at.m0 + m, at.n0 + n);
}

/* Its kernels, by what they read. */
template <class T> struct tensor_tile : T {
    typedef __half element;

    template <class S, class W> static product_kernel *kernel()
    {
        return product_tensor_kernel<T, S, W>;
    }
};

typedef tensor_tile<large_warps> large_tile;
typedef tensor_tile<medium_warps> medium_tile;
typedef tensor_tile<small_warps> small_tile;
typedef tensor_tile<small_any_warps> small_any_tile;

#endif
