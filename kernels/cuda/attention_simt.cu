/* kernels/cuda/attention_simt.cu -- attention without tensor cores, in F32.
 *
 * Heads of up to 64 channels: a block of 16 x 16 threads has 64 queries and takes 64 keys at a
 * time; a thread computes 4 x 4 of S, then 4 x 4 of O, 16 apart.  Wider heads, of which there is
 * one to a picture: a block has 8 queries, a warp to each; the lanes share its channels.
 */
#include "kernels/cuda/attention.cuh"

enum { SIDE = 16, THREADS = SIDE * SIDE, TILE = 64, HEAD = 64, T = TILE / SIDE };

/* A channel of the head of a token, in the units it is stored in; 0 beyond both. */
__device__ __forceinline__ float fetch1(const flash_args &a, const view &t, int tokens,
                                        const flash_place &at, int token, int c)
{
    if (token >= tokens || c >= a.hd)
        return 0.0f;
    const size_t pixel = static_cast<size_t>(at.image) * tokens + token;
    return load_element(t.data, t.type, pixel * t.stride + static_cast<size_t>(at.head * a.hd + c));
}

/* 64 x 64 floats; a row begins a bank later than the last. */
struct float_tile {
    float at[TILE][TILE + 1];
};

struct simt_shared {
    float_tile q, kv, s; /* keys and values take turns */
    float shrink[TILE], sum[TILE];
};

__device__ __forceinline__ void load_tile(const flash_args &a, const view &t, int tokens,
                                          const flash_place &at, int token0, float_tile &to)
{
    for (int i = static_cast<int>(threadIdx.x); i < TILE * HEAD; i += THREADS)
        to.at[i / HEAD][i % HEAD] = fetch1(a, t, tokens, at, token0 + i / HEAD, i % HEAD);
}

/* Four threads have 16 keys each of a query. */
__device__ __forceinline__ void soften(simt_shared *shared, float &max, float &sum)
{
    const int query = static_cast<int>(threadIdx.x) / 4, part = static_cast<int>(threadIdx.x) % 4;
    float m = max, total = 0;
    for (int i = part; i < TILE; i += 4)
        m = fmaxf(m, shared->s.at[query][i]);
    m = fmaxf(m, __shfl_xor_sync(~0u, m, 1));
    m = fmaxf(m, __shfl_xor_sync(~0u, m, 2));
    for (int i = part; i < TILE; i += 4) {
        const float p = exp2f(shared->s.at[query][i] - m);
        shared->s.at[query][i] = p;
        total += p;
    }
    total += __shfl_xor_sync(~0u, total, 1);
    total += __shfl_xor_sync(~0u, total, 2);
    const float shrink = exp2f(max - m);
    sum = sum * shrink + total;
    max = m;
    if (part == 0)
        shared->shrink[query] = shrink;
}

__global__ void __launch_bounds__(THREADS, 1) flash_simt_kernel(const flash_args a)
{
    simt_shared *shared = shared_memory<simt_shared>();
    const flash_place at = flash_here(a, TILE);
    const int thread = static_cast<int>(threadIdx.x), tx = thread % SIDE, ty = thread / SIDE;
    const int keys = flash_keys(a, at.query0, TILE);
    float o[T][T] = {}, max = -INFINITY, sum = 0;

    load_tile(a, a.q, a.tq, at, at.query0, shared->q);
    for (int key0 = 0; key0 < keys; key0 += TILE) {
        load_tile(a, a.k, a.tk, at, key0, shared->kv);
        __syncthreads();
        float s[T][T] = {};
        for (int c = 0; c < HEAD; c++)
#pragma unroll
            for (int i = 0; i < T; i++)
#pragma unroll
                for (int j = 0; j < T; j++)
                    s[i][j] = fmaf(shared->q.at[ty + SIDE * i][c], shared->kv.at[tx + SIDE * j][c],
                                   s[i][j]);
#pragma unroll
        for (int i = 0; i < T; i++)
#pragma unroll
            for (int j = 0; j < T; j++) {
                const int query = ty + SIDE * i, key = tx + SIDE * j;
                const bool seen = key0 + key < a.tk &&
                                  (!a.causal || key0 + key <= at.query0 + query);
                shared->s.at[query][key] = seen ? s[i][j] * a.scale : -INFINITY;
            }
        __syncthreads();
        soften(shared, max, sum);
        load_tile(a, a.v, a.tk, at, key0, shared->kv);
        __syncthreads();
#pragma unroll
        for (int i = 0; i < T; i++)
#pragma unroll
            for (int j = 0; j < T; j++)
                o[i][j] *= shared->shrink[ty + SIDE * i];
        for (int k = 0; k < TILE; k++)
#pragma unroll
            for (int i = 0; i < T; i++)
#pragma unroll
                for (int j = 0; j < T; j++)
                    o[i][j] = fmaf(shared->s.at[ty + SIDE * i][k], shared->kv.at[k][tx + SIDE * j],
                                   o[i][j]);
        __syncthreads();
    }
    if (thread % 4 == 0)
        shared->sum[thread / 4] = sum;
    __syncthreads();
    for (int i = 0; i < T; i++) {
        const int query = ty + SIDE * i;
        const float scale = a.v.scale * reciprocal_fast(shared->sum[query]);
        for (int j = 0; j < T; j++) {
            const int c = tx + SIDE * j;
            if (at.query0 + query < a.tq && c < a.hd)
                store1(a.y, static_cast<size_t>(at.image) * a.tq + at.query0 + query,
                       at.head * a.hd + c, o[i][j] * scale);
        }
    }
}

/* ---- wide heads ---- */

enum { WIDE = 512, WIDE_QUERIES = THREADS / 32, WIDE_KEYS = 16, LANE = WIDE / 32 };

struct wide_shared {
    float k[WIDE_KEYS][WIDE], v[WIDE_KEYS][WIDE / 2]; /* values come in two halves */
};

/* The sum over the lanes, in every lane. */
__device__ __forceinline__ float lanes_sum(float x)
{
#pragma unroll
    for (int step = 16; step; step /= 2)
        x += __shfl_xor_sync(~0u, x, step);
    return x;
}

__global__ void __launch_bounds__(THREADS, 1) flash_simt_wide_kernel(const flash_args a)
{
    wide_shared *shared = shared_memory<wide_shared>();
    const flash_place at = flash_here(a, WIDE_QUERIES);
    const int thread = static_cast<int>(threadIdx.x), lane = thread % 32;
    const int query = at.query0 + thread / 32, keys = flash_keys(a, at.query0, WIDE_QUERIES);
    float q[LANE], o[LANE] = {}, max = -INFINITY, sum = 0;

#pragma unroll
    for (int i = 0; i < LANE; i++)
        q[i] = fetch1(a, a.q, a.tq, at, query, lane + 32 * i);
    for (int key0 = 0; key0 < keys; key0 += WIDE_KEYS) {
        for (int i = thread; i < WIDE_KEYS * WIDE; i += THREADS)
            shared->k[i / WIDE][i % WIDE] = fetch1(a, a.k, a.tk, at, key0 + i / WIDE, i % WIDE);
        __syncthreads();
        float s[WIDE_KEYS], m = max;
#pragma unroll
        for (int k = 0; k < WIDE_KEYS; k++) {
            float dot = 0;
#pragma unroll
            for (int i = 0; i < LANE; i++)
                dot = fmaf(q[i], shared->k[k][lane + 32 * i], dot);
            const bool seen = key0 + k < a.tk && (!a.causal || key0 + k <= query);
            s[k] = lanes_sum(dot);
            s[k] = seen ? s[k] * a.scale : -INFINITY;
            m = fmaxf(m, s[k]);
        }
        const float shrink = exp2f(max - m);
        float total = 0;
#pragma unroll
        for (int k = 0; k < WIDE_KEYS; k++) {
            s[k] = exp2f(s[k] - m);
            total += s[k];
        }
        sum = sum * shrink + total;
        max = m;
#pragma unroll
        for (int half = 0; half < 2; half++) {
            for (int i = thread; i < WIDE_KEYS * (WIDE / 2); i += THREADS)
                shared->v[i / (WIDE / 2)][i % (WIDE / 2)] =
                    fetch1(a, a.v, a.tk, at, key0 + i / (WIDE / 2),
                           half * (WIDE / 2) + i % (WIDE / 2));
            __syncthreads();
#pragma unroll
            for (int i = 0; i < LANE / 2; i++) {
                float &to = o[half * (LANE / 2) + i];
                to *= shrink;
#pragma unroll
                for (int k = 0; k < WIDE_KEYS; k++)
                    to = fmaf(s[k], shared->v[k][lane + 32 * i], to);
            }
            __syncthreads();
        }
    }
    const float scale = a.v.scale * reciprocal_fast(sum);
#pragma unroll
    for (int i = 0; i < LANE; i++)
        if (query < a.tq && lane + 32 * i < a.hd)
            store1(a.y, static_cast<size_t>(at.image) * a.tq + query,
                   at.head * a.hd + lane + 32 * i, o[i] * scale);
}

/* ---- launching ---- */

void flash_simt(dev *d, const flash_args &a, int images)
{
    if (a.hd <= HEAD)
        flash_launch(d, flash_simt_kernel, a, images, TILE, THREADS, sizeof(simt_shared));
    else if (a.hd <= WIDE)
        flash_launch(d, flash_simt_wide_kernel, a, images, WIDE_QUERIES, THREADS,
                     sizeof(wide_shared));
    else
        dev_fail(d, REFINE_EINVAL, "cuda: attention heads of more than 512 channels");
}

void flash_simt_load(dev *d)
{
    load_kernel<sizeof(simt_shared)>(d, flash_simt_kernel);
    load_kernel<sizeof(wide_shared)>(d, flash_simt_wide_kernel);
}
