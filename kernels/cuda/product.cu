/* kernels/cuda/product.cu -- products on tensor cores, and which kernel a product takes.
 *
 * A block computes M pixels x N rows of w with warps of 64 x 32 or 32 x 32; each warp's fragments
 * are read from shared memory by ldmatrix.  Which tile is taken depends on how many blocks there
 * are to be, and changes no bit.
 */
#include "kernels/cuda/product.cuh"

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

typedef warps<2, 4, 4, 1> large; /* 128 x 128 */
typedef warps<2, 2, 2, 3> small; /* 64 x 64 */

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

template <class T, class S, class W>
__global__ void __launch_bounds__(T::THREADS, T::RESIDENT)
    product_tensor_kernel(const product_args p)
{
    typename T::shared *shared = shared_memory<typename T::shared>();
    const int m0 = static_cast<int>(blockIdx.y) * T::M, n0 = static_cast<int>(blockIdx.x) * T::N;
    const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
    const int m = T::m_of(warp), n = T::n_of(warp);
    float d[T::WARP_M / 16][T::J][4] = {};
    S x;
    W w;

    x.begin(p, m0);
    w.begin(p, n0);
    for_each_stage(p, shared->s, x, w, [&](stage<__half, T::M, T::N> &s) {
        multiply_stage<T>(d, s, m, n);
    });
#pragma unroll
    for (int i = 0; i < T::WARP_M / 16; i++) {
        put_fragments(shared->out[warp], d[i]);
        __syncwarp();
        finish(p, shared->out[warp], m0 + m + 16 * i, n0 + n, lane, 32);
        __syncwarp();
    }
}

/* ---- launching ---- */

/* The kernels of a tile, by what they read. */
template <class T> struct tensor_kernels {
    typedef void kernel(const product_args);
    typedef half_pixels<T::M, T::THREADS, false> plain;
    typedef half_pixels<T::M, T::THREADS, true> changed; /* silu of the norm */
    typedef any_pixels<__half, T::M, T::THREADS> any;
    typedef half_rows<T::N, T::THREADS> f16;
    typedef int8_rows<__half, T::N, T::THREADS> int8;
    typedef any_rows<__half, T::N, T::THREADS> other;

    /* F16 weights are best met by F16 pixels; what is not takes the way that reads anything. */
    static kernel *pick(const product_args &p)
    {
        const normed &in = p.in;
        const bool same = !in.b.data || (in.b.type == DT_F16 && in.b.scale == in.a.scale);
        const bool f16_pixels = in.a.type == DT_F16 && same && in.whole_vectors &&
                                (normed_raw(in) || normed_silu(in));
        const bool f16_rows = p.w_type == DT_F16 && in.c % VECTOR == 0 &&
                              reinterpret_cast<uintptr_t>(p.w) % 16 == 0;
        if (p.w_type == DT_I8G64)
            return !f16_pixels        ? product_tensor_kernel<T, any, int8>
                   : normed_raw(in) ? product_tensor_kernel<T, plain, int8>
                                      : product_tensor_kernel<T, changed, int8>;
        if (!f16_pixels || !f16_rows)
            return product_tensor_kernel<T, any, other>;
        return normed_raw(in) ? product_tensor_kernel<T, plain, f16>
                              : product_tensor_kernel<T, changed, f16>;
    }

    static void run(dev *d, const product_args &p)
    {
        const dim3 grid(blocks_of(static_cast<size_t>(p.n), T::N),
                        blocks_of(static_cast<size_t>(p.pixels), T::M));
        launch(d, pick(p), grid, T::THREADS, sizeof(typename T::shared), p);
    }

    static void load(dev *d)
    {
        const size_t bytes = sizeof(typename T::shared);
        load_kernel<bytes>(d, product_tensor_kernel<T, plain, f16>);
        load_kernel<bytes>(d, product_tensor_kernel<T, changed, f16>);
        load_kernel<bytes>(d, product_tensor_kernel<T, plain, int8>);
        load_kernel<bytes>(d, product_tensor_kernel<T, changed, int8>);
        load_kernel<bytes>(d, product_tensor_kernel<T, any, int8>);
        load_kernel<bytes>(d, product_tensor_kernel<T, any, other>);
    }
};

static size_t large_blocks(const product_args &p)
{
    return static_cast<size_t>(blocks_of(static_cast<size_t>(p.n), large::N)) *
           blocks_of(static_cast<size_t>(p.pixels), large::M);
}

void product_run(dev *d, const product_args &p)
{
    const cuda_dev *c = cuda_of(d);
    if (c->math != CUDA_TENSOR_CORES)
        product_run_simt(d, p, c->math == CUDA_HALF2);
    else if (large_blocks(p) >= static_cast<size_t>(c->processors))
        tensor_kernels<large>::run(d, p);
    else
        tensor_kernels<small>::run(d, p);
}

void cuda_load_products(dev *d)
{
    const cuda_dev *c = cuda_of(d);
    if (c->compute == DT_F16) {
        tensor_kernels<large>::load(d);
        tensor_kernels<small>::load(d);
    }
    product_load_simt(d);
}

/* ---- what a product is told ---- */

product_args product_begin(tensor y, tensor w, const epilogue *e)
{
    product_args p = {};
    p.w = w.data;
    p.w_type = w.type;
    p.n = w.n;
    p.kh = w.h;
    p.kw = w.w;
    p.k = w.h * w.w * w.c;
    p.tile = tile_rows(w.h, w.w);
    p.tile_bytes = i8_bytes(p.tile, w.h * w.w, w.c);
    p.steps = w.h * w.w * ((w.c + STEP - 1) / STEP);
    p.stride = 1;
    p.rows = p.y_h = y.h;
    p.y_w = y.w;
    p.y = view_of(y);
    p.bias = static_cast<const float *>(e->bias.data);
    p.per_image = static_cast<const float *>(e->per_image.data);
    p.per_image_stride = static_cast<size_t>(e->per_image.stride);
    p.residual = view_of(e->residual);
    p.act = e->act;
    return p;
}

void product_source(product_args *p, tensor a, tensor b, tensor affine, bool silu, int h,
                    int first)
{
    p->in = normed_of(a, b, affine, silu ? ACT_SILU : ACT_NONE);
    p->source_h = h;
    p->source_w = a.w;
    p->held_h = a.h;
    p->first = first;
    p->pixels = a.n * p->rows * p->y_w;
    p->scale = 1.0f;
    if (normed_raw(p->in)) {
        p->scale = p->in.a.scale;
        p->in.b.scale *= p->in.a.inverse;
        p->in.a.scale = 1.0f;
    }
}
