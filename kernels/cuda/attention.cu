/* kernels/cuda/attention.cu -- attention on tensor cores, heads of up to 64 channels.
 *
 * A block has 64 queries, 16 for each of its warps, whose O and S never leave registers: what mma
 * leaves of S is, as halves, what mma takes of P.  While a tile of keys is worked on the next is
 * on its way to the other half of shared memory.  The queries are in registers before that half is
 * needed, and lie there first: of 32 KiB every card has room for two blocks.
 */
#include "kernels/cuda/attention.cuh"

enum {
    QUERIES = 64,
    KEYS = 64,
    WARPS = QUERIES / 16,
    THREADS = 32 * WARPS,
    HEAD = 64,
    HEAD_VECTORS = HEAD / VECTOR,
    EACH = KEYS * HEAD_VECTORS / THREADS, /* vectors of a thread */
    J = KEYS / 8                          /* and of a head: both are 64 */
};

/* A multiprocessor is to have registers for so many blocks: three where keys and values come by
 * themselves.  For 12.0 ptxas finds room for more, where it is not asked for any. */
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1200
#define FLASH_BOUNDS __launch_bounds__(THREADS)
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
#define FLASH_BOUNDS __launch_bounds__(THREADS, HALVES ? 3 : 2)
#else
#define FLASH_BOUNDS __launch_bounds__(THREADS, 2)
#endif

typedef operand<__half, KEYS, HEAD_VECTORS> flash_tile;

union flash_shared {
    flash_tile kv[2][2]; /* [which][keys, values] */
    struct {
        flash_tile first[2]; /* kv[0] */
        flash_tile q;
    } begin;
    outputs<16, HEAD> out[WARPS];
};

/* Which vectors a thread has of a tile: tile_vector() of rows tile_row(0), tile_row(1), ... */
__device__ __forceinline__ int tile_row(int i)
{
    return static_cast<int>(threadIdx.x) / HEAD_VECTORS + i * (THREADS / HEAD_VECTORS);
}
__device__ __forceinline__ int tile_vector()
{
    return static_cast<int>(threadIdx.x) % HEAD_VECTORS;
}

/* A tile of tokens on its way: of halves in whole vectors, see flash_args, */
template <bool HALVES> struct tile_copy {
    vector_copies<EACH> copies;

    __device__ __forceinline__ void fetch(const flash_args &a, const view &t, int tokens,
                                          const flash_place &at, int token0, flash_tile &to)
    {
        const int c = tile_vector() * VECTOR;
        const __half *from = static_cast<const __half *>(t.data) + at.head * a.hd + c;
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            const bool is_there = token0 + tile_row(i) < tokens && c < a.hd;
            const size_t pixel = static_cast<size_t>(at.image) * tokens + token0 + tile_row(i);
            copies.fetch(i, &to.vector(tile_row(i), tile_vector()),
                         from + (is_there ? pixel * t.stride : 0), is_there);
        }
    }

    __device__ __forceinline__ void keep(flash_tile &to) const
    {
#pragma unroll
        for (int i = 0; i < EACH; i++)
            copies.keep(i, &to.vector(tile_row(i), tile_vector()));
    }
};

/* and of anything. */
template <> struct tile_copy<false> {
    half8 have[EACH];

    __device__ __forceinline__ void fetch(const flash_args &a, const view &t, int tokens,
                                          const flash_place &at, int token0, flash_tile &)
    {
#pragma unroll
        for (int i = 0; i < EACH; i++)
            have[i] = flash_fetch(a, t, tokens, at, token0 + tile_row(i), tile_vector());
    }

    __device__ __forceinline__ void keep(flash_tile &to) const
    {
#pragma unroll
        for (int i = 0; i < EACH; i++)
            to.vector(tile_row(i), tile_vector()) = have[i];
    }
};

/* Keys and values. */
template <bool HALVES> struct pair_copy {
    tile_copy<HALVES> k, v;

    __device__ __forceinline__ void fetch(const flash_args &a, const flash_place &at, int key0,
                                          flash_tile (&to)[2])
    {
        k.fetch(a, a.k, a.tk, at, key0, to[0]);
        v.fetch(a, a.v, a.tk, at, key0, to[1]);
    }

    __device__ __forceinline__ void keep(flash_tile (&to)[2]) const
    {
        k.keep(to[0]);
        v.keep(to[1]);
    }
};

/* What a warp carries from tile to tile: rows g and g + 8 of its 16 queries. */
struct flash_state {
    float o[1][J][4];
    float max[2], sum[2];
};

__device__ __forceinline__ float quad_max(float x)
{
    x = fmaxf(x, __shfl_xor_sync(~0u, x, 1));
    return fmaxf(x, __shfl_xor_sync(~0u, x, 2));
}

__device__ __forceinline__ float quad_sum(float x)
{
    x += __shfl_xor_sync(~0u, x, 1);
    return x + __shfl_xor_sync(~0u, x, 2);
}

/* Of keys that all queries see. */
__device__ __forceinline__ void scale_scores(const flash_args &a, float (&s)[1][J][4])
{
#pragma unroll
    for (int j = 0; j < J; j++)
#pragma unroll
        for (int e = 0; e < 4; e++)
            s[0][j][e] *= a.scale;
}

/* Scales the scores, and makes those of keys that a query does not see -infinity. */
__device__ __forceinline__ void mask_fragments(const flash_args &a, float (&s)[1][J][4], int query,
                                               int key0)
{
    const int t = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
    for (int j = 0; j < J; j++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
            const int key = key0 + 8 * j + 2 * t + e % 2, row = query + e / 2 * 8;
            const bool seen = key < a.tk && (!a.causal || key <= row);
            s[0][j][e] = seen ? s[0][j][e] * a.scale : -INFINITY;
        }
}

/* S becomes P; the state goes on to the new maximum. */
__device__ __forceinline__ void softmax_fragments(flash_state &f, float (&s)[1][J][4])
{
#pragma unroll
    for (int r = 0; r < 2; r++) {
        float m = f.max[r];
#pragma unroll
        for (int j = 0; j < J; j++)
            m = fmaxf(m, fmaxf(s[0][j][2 * r], s[0][j][2 * r + 1]));
        m = quad_max(m);
        const float shrink = exp2_fast(f.max[r] - m);
        float sum = 0;
#pragma unroll
        for (int j = 0; j < J; j++)
#pragma unroll
            for (int e = 2 * r; e < 2 * r + 2; e++) {
                s[0][j][e] = exp2_fast(s[0][j][e] - m);
                sum += s[0][j][e];
                f.o[0][j][e] *= shrink;
            }
        f.max[r] = m;
        f.sum[r] = f.sum[r] * shrink + quad_sum(sum);
    }
}

__device__ __forceinline__ uint32_t pack_halves(float low, float high)
{
    const __half2 h = __floats2half2_rn(low, high);
    return *reinterpret_cast<const uint32_t *>(&h);
}

__device__ __forceinline__ void attend_key_tile(const flash_args &a, flash_state &f,
                                                const uint32_t (&q)[HEAD / 16][1][4],
                                                const flash_tile (&kv)[2], int query, int key0,
                                                bool whole)
{
    float s[1][J][4] = {};
#pragma unroll
    for (int k = 0; k < HEAD / 16; k++) {
        uint32_t b[J][2];
        load_columns(b, kv[0], 0, 2 * k);
        mma_tile(s, q[k], b);
    }
    if (whole)
        scale_scores(a, s);
    else
        mask_fragments(a, s, query, key0);
    softmax_fragments(f, s);
#pragma unroll
    for (int k = 0; k < KEYS / 16; k++) {
        const uint32_t p[1][4] = { { pack_halves(s[0][2 * k][0], s[0][2 * k][1]),
                                     pack_halves(s[0][2 * k][2], s[0][2 * k][3]),
                                     pack_halves(s[0][2 * k + 1][0], s[0][2 * k + 1][1]),
                                     pack_halves(s[0][2 * k + 1][2], s[0][2 * k + 1][3]) } };
        uint32_t b[J][2];
        load_transposed(b, kv[1], 16 * k, 0);
        mma_tile(f.o, p, b);
    }
}

__device__ __forceinline__ void store_fragments(const flash_args &a, const flash_place &at,
                                                flash_state &f, outputs<16, HEAD> &out, int query0)
{
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const float scale[2] = { a.v.scale * reciprocal_fast(f.sum[0]),
                             a.v.scale * reciprocal_fast(f.sum[1]) };
#pragma unroll
    for (int j = 0; j < J; j++)
#pragma unroll
        for (int e = 0; e < 4; e++)
            f.o[0][j][e] *= scale[e / 2];
    put_fragments(out, f.o[0]);
    __syncwarp();
#pragma unroll
    for (int i = lane; i < 16 * HEAD_VECTORS; i += 32) {
        float x[8];
#pragma unroll
        for (int e = 0; e < 8; e++)
            x[e] = out.at[i / HEAD_VECTORS][i % HEAD_VECTORS * VECTOR + e];
        flash_store(a, at, query0 + i / HEAD_VECTORS, i % HEAD_VECTORS, x);
    }
}

template <bool HALVES> __global__ void FLASH_BOUNDS flash_kernel(const flash_args a)
{
    flash_shared *shared = shared_memory<flash_shared>();
    const flash_place at = flash_here(a, QUERIES);
    const int thread = static_cast<int>(threadIdx.x), warp = thread / 32;
    const int query0 = at.query0 + 16 * warp, keys = flash_keys(a, at.query0, QUERIES);
    pair_copy<HALVES> next;

    next.k.fetch(a, a.q, a.tq, at, at.query0, shared->begin.q);
    next.k.keep(shared->begin.q);
    next.fetch(a, at, 0, shared->kv[0]);
    next.keep(shared->kv[0]);
    copies_wait();
    __syncthreads();

    uint32_t q[HEAD / 16][1][4];
#pragma unroll
    for (int k = 0; k < HEAD / 16; k++)
        load_rows(q[k][0], shared->begin.q, 16 * warp, 2 * k);
    __syncthreads();
    flash_state f = { {}, { -INFINITY, -INFINITY }, { 0, 0 } };
    for (int key0 = 0, which = 0; key0 < keys; key0 += KEYS, which ^= 1) {
        const bool more = key0 + KEYS < keys;
        if (more)
            next.fetch(a, at, key0 + KEYS, shared->kv[which ^ 1]);
        attend_key_tile(a, f, q, shared->kv[which], query0 + thread % 32 / 4, key0,
                        key0 + KEYS <= (a.causal ? at.query0 + 1 : a.tk));
        if (more)
            next.keep(shared->kv[which ^ 1]);
        copies_wait();
        __syncthreads();
    }
    store_fragments(a, at, f, shared->out[warp], query0);
}

/* ---- launching ---- */

static bool head_vectors(const view &v, int hd)
{
    return v.type == DT_F16 && v.vectors && hd % VECTOR == 0;
}

extern "C" size_t cuda_attention_workspace(const dev *, const attention_args *) { return 0; }

extern "C" void cuda_attention(dev *d, const attention_args *a)
{
    flash_args f = {};
    f.y = view_of(a->y);
    f.q = view_of(a->q);
    f.k = view_of(a->k);
    f.v = view_of(a->v);
    f.heads = a->heads;
    f.hd = a->q.c / a->heads;
    f.tq = static_cast<int>(tensor_pixels(a->q));
    f.tk = static_cast<int>(tensor_pixels(a->k));
    f.causal = a->causal;
    f.scale = a->scale * LOG2E * f.q.scale * f.k.scale;
    f.vectors = head_vectors(f.q, f.hd) && head_vectors(f.k, f.hd) && head_vectors(f.v, f.hd);
    if (cuda_of(d)->math != CUDA_TENSOR_CORES)
        flash_simt(d, f, a->q.n);
    else if (f.hd > HEAD)
        flash_wide(d, f, a->q.n);
    else
        flash_launch(d, f.vectors ? flash_kernel<true> : flash_kernel<false>, f, a->q.n, QUERIES,
                     THREADS, sizeof(flash_shared));
}

extern "C" void cuda_load_attention(dev *d)
{
    if (cuda_of(d)->compute == DT_F16) {
        load_kernel<sizeof(flash_shared)>(d, flash_kernel<true>);
        load_kernel<sizeof(flash_shared)>(d, flash_kernel<false>);
        flash_wide_load(d);
    }
    flash_simt_load(d);
}
