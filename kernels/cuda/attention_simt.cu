/* kernels/cuda/attention_simt.cu -- attention without tensor cores, in F32.
 *
 * Heads of up to 64 channels: a block of 16 x 16 threads has 64 queries and takes 64 keys at a
 * time.  A thread computes 4 x 4 of S, then 4 queries x 4 channels of O; its queries are those of
 * the 16 lanes beside it, who so have all their keys.  P lies where the keys were, while the next
 * keys and values are on their way to registers.  Wider heads, of which there is one to an image:
 * a block has 8 queries, a warp to each; the lanes share its channels.
 */
#include "kernels/cuda/attention.cuh"

enum {
    SIDE = 16,
    THREADS = SIDE * SIDE,
    TILE = 64,
    HEAD = 64,
    T = TILE / SIDE,
    FLOATS = 4,             /* of a vector */
    VECTORS = TILE / FLOATS /* of a row, be it of channels or of keys */
};

/* A channel of the head of a token, in the units it is stored in; 0 beyond both. */
__device__ __forceinline__ float fetch_channel(const flash_args &a, const view &t, int tokens,
                                               const flash_place &at, int token, int c)
{
    if (token >= tokens || c >= a.hd)
        return 0.0f;
    const size_t pixel = static_cast<size_t>(at.image) * tokens + token;
    return load_element(t.data, t.type, pixel * t.stride + static_cast<size_t>(at.head * a.hd + c));
}

/* Channels [4 v, 4 v + 4), likewise.  HALVES: see flash_args. */
template <bool HALVES>
__device__ __forceinline__ float4 fetch_channels4(const flash_args &a, const view &t, int tokens,
                                                  const flash_place &at, int token, int v)
{
    const int c = FLOATS * v;
    if (!HALVES)
        return make_float4(fetch_channel(a, t, tokens, at, token, c),
                           fetch_channel(a, t, tokens, at, token, c + 1),
                           fetch_channel(a, t, tokens, at, token, c + 2),
                           fetch_channel(a, t, tokens, at, token, c + 3));
    if (token >= tokens || c >= a.hd)
        return make_float4(0, 0, 0, 0);
    const size_t pixel = static_cast<size_t>(at.image) * tokens + token;
    return half4_floats(static_cast<const __half *>(t.data) + pixel * t.stride +
                        static_cast<size_t>(at.head * a.hd + c));
}

/* 64 x 64 floats.  Vector v of row r lies at v ^ (r % 8), so that eight threads at one vector of
 * eight neighbouring rows, or at eight of one row, meet no bank twice. */
struct float_tile {
    float4 at[TILE][VECTORS];

    __device__ __forceinline__ float4 &vector(int row, int v) { return at[row][v ^ (row % 8)]; }
    __device__ __forceinline__ const float4 &vector(int row, int v) const
    {
        return at[row][v ^ (row % 8)];
    }
    __device__ __forceinline__ float &element(int row, int i)
    {
        return reinterpret_cast<float *>(&vector(row, i / FLOATS))[i % FLOATS];
    }
};

struct simt_shared {
    float_tile q, v;
    float_tile k_or_p;
};

/* What a thread fetches of a tile: vector thread % 16 of rows thread / 16, 16 apart. */
template <bool HALVES> struct tile_part {
    float4 row[T];

    __device__ __forceinline__ void fetch(const flash_args &a, const view &t, int tokens,
                                          const flash_place &at, int token0)
    {
        const int thread = static_cast<int>(threadIdx.x);
#pragma unroll
        for (int i = 0; i < T; i++)
            row[i] =
                fetch_channels4<HALVES>(a, t, tokens, at, token0 + thread / SIDE + SIDE * i,
                                        thread % SIDE);
    }

    __device__ __forceinline__ void keep(float_tile &to) const
    {
        const int thread = static_cast<int>(threadIdx.x);
#pragma unroll
        for (int i = 0; i < T; i++)
            to.vector(thread / SIDE + SIDE * i, thread % SIDE) = row[i];
    }
};

/* d[j] += a b[j] */
__device__ REGISTERS_ONLY void add_dots(float (&d)[T], float4 a, const float4 (&b)[T])
{
#pragma unroll
    for (int j = 0; j < T; j++)
        d[j] = fmaf(a.w, b[j].w, fmaf(a.z, b[j].z, fmaf(a.y, b[j].y, fmaf(a.x, b[j].x, d[j]))));
}

/* d += a B, where b are rows of B. */
__device__ REGISTERS_ONLY void add_rows(float (&d)[FLOATS], float4 a, const float4 (&b)[FLOATS])
{
    d[0] = fmaf(a.w, b[3].x, fmaf(a.z, b[2].x, fmaf(a.y, b[1].x, fmaf(a.x, b[0].x, d[0]))));
    d[1] = fmaf(a.w, b[3].y, fmaf(a.z, b[2].y, fmaf(a.y, b[1].y, fmaf(a.x, b[0].y, d[1]))));
    d[2] = fmaf(a.w, b[3].z, fmaf(a.z, b[2].z, fmaf(a.y, b[1].z, fmaf(a.x, b[0].z, d[2]))));
    d[3] = fmaf(a.w, b[3].w, fmaf(a.z, b[2].w, fmaf(a.y, b[1].w, fmaf(a.x, b[0].w, d[3]))));
}

/* s[i][j] is of query ty + 16 i and key tx + 16 j. */
__device__ __forceinline__ void multiply_keys(float (&s)[T][T], const simt_shared *shared, int tx,
                                              int ty)
{
#pragma unroll 4
    for (int v = 0; v < VECTORS; v++) {
        float4 k[T];
#pragma unroll
        for (int j = 0; j < T; j++)
            k[j] = shared->k_or_p.vector(tx + SIDE * j, v);
#pragma unroll
        for (int i = 0; i < T; i++)
            add_dots(s[i], shared->q.vector(ty + SIDE * i, v), k);
    }
}

/* Scales the scores, and makes those of keys that a query does not see -infinity. */
__device__ __forceinline__ void mask_simt_scores(const flash_args &a, float (&s)[T][T], int query,
                                                 int key)
{
#pragma unroll
    for (int i = 0; i < T; i++)
#pragma unroll
        for (int j = 0; j < T; j++) {
            const bool seen = key + SIDE * j < a.tk &&
                              (!a.causal || key + SIDE * j <= query + SIDE * i);
            s[i][j] = seen ? s[i][j] * a.scale : -INFINITY;
        }
}

/* What a thread carries from tile to tile: queries ty + 16 i, channels 4 tx + j. */
struct simt_state {
    float o[T][FLOATS], max[T], sum[T];
};

/* S becomes P; the state goes on to the new maximum. */
__device__ __forceinline__ void softmax_simt_scores(simt_state &f, float (&s)[T][T])
{
#pragma unroll
    for (int i = 0; i < T; i++) {
        float m = f.max[i], sum = 0;
#pragma unroll
        for (int j = 0; j < T; j++)
            m = fmaxf(m, s[i][j]);
#pragma unroll
        for (int step = SIDE / 2; step; step /= 2)
            m = fmaxf(m, __shfl_xor_sync(~0u, m, step));
#pragma unroll
        for (int j = 0; j < T; j++) {
            s[i][j] = exp2_fast(s[i][j] - m);
            sum += s[i][j];
        }
#pragma unroll
        for (int step = SIDE / 2; step; step /= 2)
            sum += __shfl_xor_sync(~0u, sum, step);
        const float shrink = exp2_fast(f.max[i] - m);
        f.sum[i] = f.sum[i] * shrink + sum;
        f.max[i] = m;
#pragma unroll
        for (int j = 0; j < FLOATS; j++)
            f.o[i][j] *= shrink;
    }
}

__device__ __forceinline__ void multiply_values(simt_state &f, const simt_shared *shared, int tx,
                                                int ty)
{
#pragma unroll 4
    for (int v = 0; v < VECTORS; v++) {
        float4 values[FLOATS];
#pragma unroll
        for (int e = 0; e < FLOATS; e++)
            values[e] = shared->v.vector(FLOATS * v + e, tx);
#pragma unroll
        for (int i = 0; i < T; i++)
            add_rows(f.o[i], shared->k_or_p.vector(ty + SIDE * i, v), values);
    }
}

__device__ __forceinline__ void store_simt_output(const flash_args &a, const flash_place &at,
                                                  const simt_state &f, int query0, int c)
{
#pragma unroll
    for (int i = 0; i < T; i++) {
        const int query = query0 + SIDE * i;
        const size_t pixel = static_cast<size_t>(at.image) * a.tq + query;
        const float scale = a.v.scale * reciprocal_fast(f.sum[i]);
#pragma unroll
        for (int j = 0; j < FLOATS; j++)
            if (query < a.tq && c + j < a.hd)
                store_channel(a.y, pixel, at.head * a.hd + c + j, f.o[i][j] * scale);
    }
}

template <bool HALVES>
__global__ void __launch_bounds__(THREADS, 1) flash_simt_kernel(const flash_args a)
{
    simt_shared *shared = shared_memory<simt_shared>();
    const flash_place at = flash_here(a, TILE);
    const int thread = static_cast<int>(threadIdx.x), tx = thread % SIDE, ty = thread / SIDE;
    const int keys = flash_keys(a, at.query0, TILE);
    simt_state f = {};
    tile_part<HALVES> k, v;

#pragma unroll
    for (int i = 0; i < T; i++)
        f.max[i] = -INFINITY;
    k.fetch(a, a.q, a.tq, at, at.query0);
    k.keep(shared->q);
    k.fetch(a, a.k, a.tk, at, 0);
    v.fetch(a, a.v, a.tk, at, 0);
    for (int key0 = 0; key0 < keys; key0 += TILE) {
        k.keep(shared->k_or_p);
        v.keep(shared->v);
        __syncthreads();
        if (key0 + TILE < keys) {
            k.fetch(a, a.k, a.tk, at, key0 + TILE);
            v.fetch(a, a.v, a.tk, at, key0 + TILE);
        }
        float s[T][T] = {};
        multiply_keys(s, shared, tx, ty);
        mask_simt_scores(a, s, at.query0 + ty, key0 + tx);
        softmax_simt_scores(f, s);
        __syncthreads();
#pragma unroll
        for (int i = 0; i < T; i++)
#pragma unroll
            for (int j = 0; j < T; j++)
                shared->k_or_p.element(ty + SIDE * i, tx + SIDE * j) = s[i][j];
        __syncwarp();
        multiply_values(f, shared, tx, ty);
        __syncthreads();
    }
    store_simt_output(a, at, f, at.query0 + ty, FLOATS * tx);
}

/* ---- wide heads ---- */

enum { WIDE = 512, WIDE_QUERIES = THREADS / 32, WIDE_KEYS = 16, LANE = WIDE / 32 };

struct simt_wide_shared {
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
    simt_wide_shared *shared = shared_memory<simt_wide_shared>();
    const flash_place at = flash_here(a, WIDE_QUERIES);
    const int thread = static_cast<int>(threadIdx.x), lane = thread % 32;
    const int query = at.query0 + thread / 32, keys = flash_keys(a, at.query0, WIDE_QUERIES);
    float q[LANE], o[LANE] = {}, max = -INFINITY, sum = 0;

#pragma unroll
    for (int i = 0; i < LANE; i++)
        q[i] = fetch_channel(a, a.q, a.tq, at, query, lane + 32 * i);
    for (int key0 = 0; key0 < keys; key0 += WIDE_KEYS) {
        for (int i = thread; i < WIDE_KEYS * WIDE; i += THREADS)
            shared->k[i / WIDE][i % WIDE] =
                fetch_channel(a, a.k, a.tk, at, key0 + i / WIDE, i % WIDE);
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
                    fetch_channel(a, a.v, a.tk, at, key0 + i / (WIDE / 2),
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
            store_channel(a.y, static_cast<size_t>(at.image) * a.tq + query,
                          at.head * a.hd + lane + 32 * i, o[i] * scale);
}

/* ---- launching ---- */

void flash_simt(dev *d, const flash_args &a, int images)
{
    if (a.hd <= HEAD)
        flash_launch(d, a.vectors ? flash_simt_kernel<true> : flash_simt_kernel<false>, a, images,
                     TILE, THREADS, sizeof(simt_shared));
    else if (a.hd <= WIDE)
        flash_launch(d, flash_simt_wide_kernel, a, images, WIDE_QUERIES, THREADS,
                     sizeof(simt_wide_shared));
    else
        dev_fail(d, REFINE_EINVAL, "cuda: attention heads of more than 512 channels");
}

void flash_simt_load(dev *d)
{
    load_kernel<sizeof(simt_shared)>(d, flash_simt_kernel<true>);
    load_kernel<sizeof(simt_shared)>(d, flash_simt_kernel<false>);
    load_kernel<sizeof(simt_wide_shared)>(d, flash_simt_wide_kernel);
}
