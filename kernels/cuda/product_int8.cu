/* kernels/cuda/product_int8.cu -- products of int8 groups on tensor cores: integers inside a group,
 * floats outside.
 *
 *     y[m][n] = sum over groups g of (sw[g][n] * sa[m][g]) * (sum over k < 64 of qa * qw)
 *
 * The inner sum is exact; the outer one goes in the order of g with one rounding for each
 * operation, as on the CPU device (kernels/cpu/int8.h), whose bits these are.
 */
#include "kernels/cuda/product_tensor.cuh"

template <int M, int N> struct int8_stage {
    int8_operand<M> x;
    int8_operand<N> w;
};

/* A tile of the warps T. */
template <class T> struct int8_tile : T {
    typedef int8_stage<T::M, T::N> stages[2];
    union shared {
        stages s;
        typename T::results out;
    };
};

/* The bits of 1.5 * 2^23, and with an integer n below 2^22 added those of 1.5 * 2^23 + n. */
enum { MAGIC_BITS = 0x4b400000 };

/* Adds a group to a warp's sums. */
template <class T>
__device__ __forceinline__ void add_group(float (&d)[T::WARP_M / 16][T::J][4],
                                          const int8_stage<T::M, T::N> &s, int m, int n)
{
    enum { I = T::WARP_M / 16, J = T::J };
    const float MAGIC = 0x1.8p23f;
    const int g = static_cast<int>(threadIdx.x) % 32 / 4, t = static_cast<int>(threadIdx.x) % 4;
    uint32_t a[2][I][4], b[2][J][2];
    int sum[I][J][4];

#pragma unroll
    for (int half = 0; half < 2; half++) {
#pragma unroll
        for (int i = 0; i < I; i++)
            load_rows(a[half][i], s.x, m + 16 * i, 2 * half);
        load_columns(b[half], s.w, n, 2 * half);
    }
#pragma unroll
    for (int i = 0; i < I; i++)
#pragma unroll
        for (int j = 0; j < J; j++)
#pragma unroll
            for (int e = 0; e < 4; e++)
                sum[i][j][e] = MAGIC_BITS;
    mma_int8_tile(sum, a, b);
#pragma unroll
    for (int i = 0; i < I; i++)
#pragma unroll
        for (int j = 0; j < J; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const float by = __fmul_rn(s.w.scale[n + 8 * j + 2 * t + e % 2],
                                           s.x.scale[m + 16 * i + g + e / 2 * 8]);
                const float whole = __uint_as_float(static_cast<unsigned>(sum[i][j][e])) - MAGIC;
                d[i][j][e] = __fadd_rn(__fmul_rn(whole, by), d[i][j][e]);
            }
}

template <class T>
__global__ void TENSOR_BOUNDS(T) product_int8_kernel(const product_args p)
{
    typename T::shared *shared = shared_memory<typename T::shared>();
    const block_place at = block_here<T>(p);
    const int warp = static_cast<int>(threadIdx.x) / 32, m = T::m_of(warp), n = T::n_of(warp);
    float d[T::WARP_M / 16][T::J][4] = {};
    int8_pixels<T::M, T::THREADS> x;
    int8_groups<T::N, T::THREADS> w;

    x.begin(p, at.m0);
    w.begin(p, at.n0);
    for_each_stage(p, shared->s, x, w, [&](const int8_stage<T::M, T::N> &s) {
        add_group<T>(d, s, m, n);
    });
    finish_warp<T>(p, shared->out[warp], d, at.m0 + m, at.n0 + n);
}

/* Every product of the kind. */
template <class T> struct int8_kernels {
    enum { NORMS = false };

    static void run(dev *d, const product_args &p)
    {
        product_launch<T>(d, product_int8_kernel<T>, p);
    }
    static int load(dev *d) { return product_load<T>(d, product_int8_kernel<T>); }
};

typedef int8_tile<small_warps> tile;

const product_way product_int8 = make_product_way<tile, int8_kernels<tile>>();
