/* kernels/cuda/attention_wide.cu -- attention on tensor cores, one head of up to 512 channels.
 *
 * A block has 32 queries; its eight warps hold 64 channels of O each.  Keys come 16 at a time:
 *
 *     S is 32 x 16 over up to 512 channels: four mma tiles, the channels of each in two halves,
 *     one tile and half to a warp; the halves are added when the scores are softened
 *     O += P V: a warp multiplies all of P with its own 64 channels of V
 *
 * Keys and values take turns in one buffer, each on its way in registers while the other is
 * multiplied.
 */
#include "kernels/cuda/attention.cuh"

enum {
    QUERIES = 32,
    KEYS = 16,
    WARPS = 8,
    THREADS = 32 * WARPS,
    HEAD = 512,
    HEAD_VECTORS = HEAD / VECTOR,
    EACH = KEYS * HEAD_VECTORS / THREADS,
    CHANNELS = HEAD / WARPS, /* of O, of a warp */
    J = CHANNELS / 8,
    PER_QUERY = THREADS / QUERIES /* threads that soften the scores of one query */
};

typedef operand<__half, KEYS, HEAD_VECTORS> wide_key_tile;

struct wide_tiles {
    operand<__half, QUERIES, HEAD_VECTORS> q;
    wide_key_tile kv;
};

struct wide_shared {
    union {
        wide_tiles in;
        outputs<16, CHANNELS> out[WARPS];
    };
    float s[2][QUERIES][KEYS + 1]; /* by half of the channels */
    operand<__half, QUERIES, 8> p; /* two vectors of eight used */
    float shrink[QUERIES], sum[QUERIES];
};

/* 16 tokens on their way. */
struct tokens {
    half8 x[EACH];

    __device__ __forceinline__ void fetch(const flash_args &a, const view &t, const flash_place &at,
                                          int key0)
    {
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            const int n = static_cast<int>(threadIdx.x) + i * THREADS;
            x[i] = flash_fetch(a, t, a.tk, at, key0 + n / HEAD_VECTORS, n % HEAD_VECTORS);
        }
    }

    __device__ __forceinline__ void keep(wide_key_tile &to) const
    {
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            const int n = static_cast<int>(threadIdx.x) + i * THREADS;
            to.vector(n / HEAD_VECTORS, n % HEAD_VECTORS) = x[i];
        }
    }
};

/* A warp's quarter of S, over its half of the channels. */
__device__ __forceinline__ void multiply_wide_keys(wide_shared *shared, int warp)
{
    const int lane = static_cast<int>(threadIdx.x) % 32, g = lane / 4, t = lane % 4;
    const int half = warp / 4, row = warp % 4 / 2 * 16, column = warp % 2 * 8;
    float d[1][1][4] = {};

    for (int v = half * (HEAD_VECTORS / 2); v < (half + 1) * (HEAD_VECTORS / 2); v += 4) {
        uint32_t q[2][1][4], k[4];
        load_rows(q[0][0], shared->in.q, row, v);
        load_rows(q[1][0], shared->in.q, row, v + 2);
        load_matrices(k, &shared->in.kv.vector(column + lane % 8, v + lane / 8));
        const uint32_t k0[1][2] = { { k[0], k[1] } }, k1[1][2] = { { k[2], k[3] } };
        mma_tile(d, q[0], k0);
        mma_tile(d, q[1], k1);
    }
#pragma unroll
    for (int e = 0; e < 4; e++)
        shared->s[half][row + g + e / 2 * 8][column + 2 * t + e % 2] = d[0][0][e];
}

/* The maximum and sum of the threads of one query, which are neighbours. */
__device__ __forceinline__ float query_max(float x)
{
#pragma unroll
    for (int step = PER_QUERY / 2; step; step /= 2)
        x = fmaxf(x, __shfl_xor_sync(~0u, x, step));
    return x;
}

__device__ __forceinline__ float query_sum(float x)
{
#pragma unroll
    for (int step = PER_QUERY / 2; step; step /= 2)
        x += __shfl_xor_sync(~0u, x, step);
    return x;
}

/* P from S; a thread has two keys of one query, and that query's maximum and sum so far. */
__device__ __forceinline__ void softmax_wide_scores(const flash_args &a, wide_shared *shared,
                                                    int key0, int query0, float &max, float &sum)
{
    const int query = static_cast<int>(threadIdx.x) / PER_QUERY;
    const int part = static_cast<int>(threadIdx.x) % PER_QUERY;
    float s[2];
#pragma unroll
    for (int e = 0; e < 2; e++) {
        const int column = 2 * part + e, key = key0 + column;
        const bool seen = key < a.tk && (!a.causal || key <= query0 + query);
        s[e] = seen ? (shared->s[0][query][column] + shared->s[1][query][column]) * a.scale
                    : -INFINITY;
    }
    const float m = query_max(fmaxf(max, fmaxf(s[0], s[1])));
    const float shrink = exp2_fast(max - m);
    const float p0 = exp2_fast(s[0] - m), p1 = exp2_fast(s[1] - m);
    shared->p.vector(query, part / 4).pair[part % 4] = __floats2half2_rn(p0, p1);
    max = m;
    sum = sum * shrink + query_sum(p0 + p1);
    if (part == 0)
        shared->shrink[query] = shrink;
}

/* O += P V for the warp's channels. */
__device__ __forceinline__ void multiply_wide_values(wide_shared *shared, float (&o)[2][J][4],
                                                     int warp)
{
    const int g = static_cast<int>(threadIdx.x) % 32 / 4;
    uint32_t p[2][4], b[J][2];
#pragma unroll
    for (int i = 0; i < 2; i++) {
        load_rows(p[i], shared->p, 16 * i, 0);
#pragma unroll
        for (int e = 0; e < 4; e++) {
            const float shrink = shared->shrink[16 * i + g + e / 2 * 8];
#pragma unroll
            for (int j = 0; j < J; j++)
                o[i][j][e] *= shrink;
        }
    }
    load_transposed(b, shared->in.kv, 0, warp * (CHANNELS / VECTOR));
    mma_tile(o, p, b);
}

__device__ __forceinline__ void store_wide_output(const flash_args &a, const flash_place &at,
                                                  wide_shared *shared, float (&o)[2][J][4],
                                                  int warp)
{
    const int lane = static_cast<int>(threadIdx.x) % 32, vectors = CHANNELS / VECTOR;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        put_fragments(shared->out[warp], o[i]);
        __syncwarp();
        for (int n = lane; n < 16 * vectors; n += 32) {
            const int row = 16 * i + n / vectors;
            const float scale = a.v.scale * reciprocal_fast(shared->sum[row]);
            float x[8];
#pragma unroll
            for (int e = 0; e < 8; e++)
                x[e] = shared->out[warp].at[n / vectors][n % vectors * VECTOR + e] * scale;
            flash_store(a, at, at.query0 + row, warp * vectors + n % vectors, x);
        }
        __syncwarp();
    }
}

__global__ void __launch_bounds__(THREADS, 1) flash_wide_kernel(const flash_args a)
{
    wide_shared *shared = shared_memory<wide_shared>();
    const flash_place at = flash_here(a, QUERIES);
    const int thread = static_cast<int>(threadIdx.x), warp = thread / 32;
    const int keys = flash_keys(a, at.query0, QUERIES);
    float o[2][J][4] = {}, max = -INFINITY, sum = 0;
    tokens next;

    for (int i = thread; i < QUERIES * HEAD_VECTORS; i += THREADS)
        shared->in.q.vector(i / HEAD_VECTORS, i % HEAD_VECTORS) = flash_fetch(
            a, a.q, a.tq, at, at.query0 + i / HEAD_VECTORS, i % HEAD_VECTORS);
    next.fetch(a, a.k, at, 0);
    for (int key0 = 0; key0 < keys; key0 += KEYS) {
        next.keep(shared->in.kv);
        __syncthreads();
        next.fetch(a, a.v, at, key0);
        multiply_wide_keys(shared, warp);
        __syncthreads();
        next.keep(shared->in.kv);
        softmax_wide_scores(a, shared, key0, at.query0, max, sum);
        __syncthreads();
        if (key0 + KEYS < keys)
            next.fetch(a, a.k, at, key0 + KEYS);
        multiply_wide_values(shared, o, warp);
        __syncthreads();
    }
    if (thread % PER_QUERY == 0)
        shared->sum[thread / PER_QUERY] = sum;
    __syncthreads();
    store_wide_output(a, at, shared, o, warp);
}

/* ---- launching ---- */

void flash_wide(dev *d, const flash_args &a, int images)
{
    if (a.hd > HEAD) {
        dev_fail(d, REFINE_EINVAL, "cuda: attention heads of more than 512 channels");
        return;
    }
    flash_launch(d, flash_wide_kernel, a, images, QUERIES, THREADS, sizeof(wide_shared));
}

void flash_wide_load(dev *d) { load_kernel<sizeof(wide_shared)>(d, flash_wide_kernel); }
