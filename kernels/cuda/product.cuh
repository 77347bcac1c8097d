/* kernels/cuda/product.cuh -- linear and convolution as one implicit matrix product.
 *
 *     y[m][n] = sum over taps, channels of  x[pixel of m under the tap][c] * w[n][tap][c]
 *
 * m counts the output pixels of the band, image after image; n the rows of the chunk.  A linear
 * operator is the convolution with one tap.  No column matrix is ever in memory: a block gathers
 * 64 channels of one tap of its pixels at a time, on the way normalises them, and takes 64 of k
 * of its rows of w, decoding int8 (one group: one slab); shared memory holds two such stages, one
 * that is multiplied and one that is filled from registers which were loaded a stage earlier.
 *
 * The sum over k: taps in order, in each its channels in steps of 64, and within a step as the
 * multiplier does it; the same for every element whatever the tile or the block it falls into.
 * Padding is zero in what is multiplied, that is after the norm.
 *
 * Reference: CUTLASS, "implicit GEMM".
 */
#ifndef REFINE_CUDA_PRODUCT_CUH
#define REFINE_CUDA_PRODUCT_CUH

#include "kernels/cuda/operand.cuh"
#include "kernels/cuda/product_args.cuh"

enum { VECTORS = STEP / VECTOR };

template <class E, int M, int N> struct stage {
    operand<E, M, VECTORS> x;
    operand<E, N, VECTORS> w;
};

/* The block's first pixel and row.  Blocks of the same pixels follow each other; in one dimension,
 * of which there can be more than 65535. */
struct block_place {
    int m0, n0;
};

template <class T> __device__ __forceinline__ block_place block_here(const product_args &p)
{
    const unsigned rows = (static_cast<unsigned>(p.n) + T::N - 1) / T::N;
    block_place at;
    at.m0 = static_cast<int>(blockIdx.x / rows) * T::M;
    at.n0 = static_cast<int>(blockIdx.x % rows) * T::N;
    return at;
}

/* Where in k a stage lies. */
struct k_place {
    int tap_row, tap_column, tap, c0;

    __device__ __forceinline__ void advance(const product_args &p)
    {
        c0 += STEP;
        if (c0 < p.in.c)
            return;
        c0 = 0;
        tap++;
        if (++tap_column == p.kw) {
            tap_column = 0;
            tap_row++;
        }
    }
};

/* ---- the pixels: ROWS of them per block, 64 channels a step ---- */

/* The output pixel that a row of the block is: its image, and the input row and column under the
 * first tap.  Rows beyond the last pixel lie far above the image. */
struct pixel_place {
    int image, y, x;

    __device__ __forceinline__ void set(const product_args &p, int m)
    {
        const int band = p.rows * p.y_w;
        image = m < p.pixels ? m / band : 0;
        const int rest = m % band;
        y = m < p.pixels ? (p.row0 + rest / p.y_w) * p.stride - p.pad : -(1 << 20);
        x = rest % p.y_w * p.stride - p.pad;
    }

    /* The source's pixel under a tap; negative: none, the input is zero there. */
    __device__ __forceinline__ long long under(const product_args &p, const k_place &k) const
    {
        int row = y + k.tap_row, column = x + k.tap_column;
        if (row < 0 || row >= p.in_h || column < 0 || column >= p.in_w)
            return -1;
        if (p.in_h != p.source_h)
            row = row * p.source_h / p.in_h;
        if (p.in_w != p.source_w)
            column = column * p.source_w / p.in_w;
        return (static_cast<long long>(image) * p.held_h + (row - p.first)) * p.source_w + column;
    }
};

/* Sources.  fetch loads the next stage's vectors into registers, keep puts them into shared
 * memory; between the two lies the multiplication of a stage. */

/* F16 in whole vectors, as it is or silu of its norm.  What a thread has of a step is of one group
 * of channels, and nearly always of one image. */
template <int ROWS, int THREADS, bool NORM> struct half_pixels {
    enum { EACH = ROWS * VECTORS / THREADS };
    typedef __half element;

    pixel_place at[EACH];
    half8 raw[EACH];
    unsigned there; /* bit i: raw[i] is of a pixel, not of the padding */
    int c;

    __device__ __forceinline__ void begin(const product_args &p, int m0)
    {
#pragma unroll
        for (int i = 0; i < EACH; i++)
            at[i].set(p, m0 + static_cast<int>(threadIdx.x) / VECTORS + i * (THREADS / VECTORS));
    }

    __device__ __forceinline__ void fetch(const product_args &p, const k_place &k)
    {
        c = k.c0 + static_cast<int>(threadIdx.x) % VECTORS * VECTOR;
        const bool second = c >= p.in.a.c;
        const view v = view_either(second, p.in.b, p.in.a);
        const __half *from = static_cast<const __half *>(v.data) + (second ? c - p.in.a.c : c);
        there = 0;
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            const long long pixel = c < p.in.c ? at[i].under(p, k) : -1;
            raw[i] = half8_zero();
            if (pixel < 0)
                continue;
            raw[i] = half8_load(from + static_cast<size_t>(pixel) * v.stride);
            there |= 1u << i;
        }
    }

    /* The affine is read once, and again only where the next image begins. */
    __device__ __forceinline__ void keep(const product_args &p,
                                         operand<__half, ROWS, VECTORS> &to) const
    {
        const float scale = c < p.in.a.c ? p.in.a.scale : p.in.b.scale;
        int image = at[0].image;
        affine8 norm;
        if (NORM)
            norm.load(p.in, image, c < p.in.c ? c : 0);
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            const int row = static_cast<int>(threadIdx.x) / VECTORS + i * (THREADS / VECTORS);
            const bool is_there = there >> i & 1u;
            half8 x = raw[i];
            if (NORM) {
                if (i > 0 && is_there && at[i].image != image) {
                    image = at[i].image;
                    norm.load(p.in, image, c);
                }
                x = half8_if(is_there, norm.silu_of(raw[i], scale));
            }
            to.vector(row, static_cast<int>(threadIdx.x) % VECTORS) = x;
        }
    }
};

/* Whatever it is, converted when it is fetched. */
template <class E, int ROWS, int THREADS> struct any_pixels {
    enum { EACH = ROWS * VECTORS / THREADS };
    typedef E element;

    pixel_place at[EACH];
    vec8<E> have[EACH];

    __device__ __forceinline__ void begin(const product_args &p, int m0)
    {
#pragma unroll
        for (int i = 0; i < EACH; i++)
            at[i].set(p, m0 + static_cast<int>(threadIdx.x) / VECTORS + i * (THREADS / VECTORS));
    }

    __device__ __forceinline__ void fetch(const product_args &p, const k_place &k)
    {
        const int c = k.c0 + static_cast<int>(threadIdx.x) % VECTORS * VECTOR;
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            const long long pixel = c < p.in.c ? at[i].under(p, k) : -1;
            have[i] = zero8<E>();
            if (pixel < 0)
                continue;
            float x[8];
            gather8(x, p.in, static_cast<size_t>(pixel), c);
            normalise8(x, p.in, at[i].image, c);
            if (p.in.act == ACT_SILU)
                silu8(x);
            encode8(have[i], x);
        }
    }

    __device__ __forceinline__ void keep(const product_args &, operand<E, ROWS, VECTORS> &to) const
    {
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            const int row = static_cast<int>(threadIdx.x) / VECTORS + i * (THREADS / VECTORS);
            to.vector(row, static_cast<int>(threadIdx.x) % VECTORS) = have[i];
        }
    }
};

/* Into shared memory a group of each row that a thread has a vector of; that of its first vector
 * brings the row's scale. */
template <int ROWS, int THREADS, int EACH>
__device__ __forceinline__ void keep_int8(int8_operand<ROWS> &to, const uint4 (&raw)[EACH],
                                          const float (&scale)[EACH])
{
    enum { PER_ROW = STEP / 16 };
    const int v = static_cast<int>(threadIdx.x) % PER_ROW;
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        const int row = static_cast<int>(threadIdx.x) / PER_ROW + i * (THREADS / PER_ROW);
        to.vector(row, v) = raw[i];
        if (v == 0)
            to.scale[row] = scale[i];
    }
}

/* As int8, a group a step. */
template <int ROWS, int THREADS> struct int8_pixels {
    enum { PER_ROW = STEP / 16, EACH = ROWS * PER_ROW / THREADS };

    pixel_place at[EACH];
    uint4 raw[EACH];
    float scale[EACH];

    __device__ __forceinline__ void begin(const product_args &p, int m0)
    {
#pragma unroll
        for (int i = 0; i < EACH; i++)
            at[i].set(p, m0 + static_cast<int>(threadIdx.x) / PER_ROW + i * (THREADS / PER_ROW));
    }

    __device__ __forceinline__ void fetch(const product_args &p, const k_place &k)
    {
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            const long long pixel = at[i].under(p, k);
            raw[i] = make_uint4(0, 0, 0, 0);
            scale[i] = 0.0f;
            if (pixel < 0)
                continue;
            const size_t group = static_cast<size_t>(pixel) * p.groups + k.c0 / I8_GROUP;
            raw[i] = *reinterpret_cast<const uint4 *>(p.q + group * I8_GROUP +
                                                      threadIdx.x % PER_ROW * 16);
            scale[i] = p.q_scale[group];
        }
    }

    __device__ __forceinline__ void keep(const product_args &, int8_operand<ROWS> &to) const
    {
        keep_int8<ROWS, THREADS>(to, raw, scale);
    }
};

/* ---- the matrix: ROWS rows per block ---- */

/* The piece that a row is in. */
struct piece_place {
    const void *data;
    int row0;

    __device__ __forceinline__ piece_place(const product_args &p, int row)
    {
        data = p.piece[0];
        row0 = 0;
#pragma unroll
        for (int i = 1; i < MATRIX_PIECES; i++)
            if (i < p.pieces && row >= p.piece_row0[i]) {
                data = p.piece[i];
                row0 = p.piece_row0[i];
            }
    }
};

/* Every piece but the last is of whole tiles, so that so many rows of a block are in one. */
enum { UNIT_ROWS = TILE_ROWS_CONV3 };

/* Which rows a thread fetches: first, first + APART, ... */
template <int ROWS, int THREADS> struct rows_of_thread {
    enum { EACH = ROWS * VECTORS / THREADS, APART = THREADS / VECTORS, UNITS = ROWS / UNIT_ROWS };

    static __device__ __forceinline__ int first()
    {
        return static_cast<int>(threadIdx.x) / VECTORS;
    }
    static __device__ __forceinline__ int unit(int i) { return i * APART / UNIT_ROWS; }
};

/* F16, rows of whole vectors. */
template <int ROWS, int THREADS> struct half_rows {
    typedef rows_of_thread<ROWS, THREADS> of;
    enum { EACH = of::EACH };

    half8 raw[EACH];
    const __half *from[of::UNITS]; /* where `row` would lie, were it in the unit's piece */
    int row;

    __device__ __forceinline__ void begin(const product_args &p, int n0)
    {
        row = n0 + of::first();
#pragma unroll
        for (int u = 0; u < of::UNITS; u++) {
            const piece_place at(p, n0 + u * UNIT_ROWS);
            from[u] = static_cast<const __half *>(at.data) +
                      static_cast<ptrdiff_t>(row - at.row0) * p.k;
        }
    }

    __device__ __forceinline__ void fetch(const product_args &p, const k_place &k)
    {
        const int c = k.c0 + static_cast<int>(threadIdx.x) % VECTORS * VECTOR;
        const size_t at = static_cast<size_t>(k.tap) * p.in.c + c;
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            raw[i] = half8_zero();
            if (c < p.in.c && row + i * of::APART < p.n)
                raw[i] = half8_load(from[of::unit(i)] +
                                    static_cast<size_t>(i * of::APART) * p.k + at);
        }
    }

    __device__ __forceinline__ void keep(const product_args &,
                                         operand<__half, ROWS, VECTORS> &to) const
    {
#pragma unroll
        for (int i = 0; i < EACH; i++)
            to.vector(of::first() + i * of::APART, static_cast<int>(threadIdx.x) % VECTORS) =
                raw[i];
    }
};

/* Sixteen int8 times a scale.  A byte q + 128 below the byte 0x64 is the half 1024 + q + 128. */
__device__ __forceinline__ __half2 as_halves(uint32_t bits)
{
    __half2 h;
    *reinterpret_cast<uint32_t *>(&h) = bits;
    return h;
}

__device__ __forceinline__ void decode16(half8 (&v)[2], uint4 q, __half scale)
{
    const uint32_t word[4] = { q.x ^ 0x80808080u, q.y ^ 0x80808080u, q.z ^ 0x80808080u,
                               q.w ^ 0x80808080u };
    const __half2 bias = __float2half2_rn(-1152.0f), factor = __half2half2(scale);
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const __half2 low = as_halves(__byte_perm(word[i], 0x64646464u, 0x4140));
        const __half2 high = as_halves(__byte_perm(word[i], 0x64646464u, 0x4342));
        v[i / 2].pair[i % 2 * 2] = __hmul2(__hadd2(low, bias), factor);
        v[i / 2].pair[i % 2 * 2 + 1] = __hmul2(__hadd2(high, bias), factor);
    }
}

__device__ __forceinline__ void decode16(float8 (&v)[2], uint4 q, __half scale)
{
    const uint32_t word[4] = { q.x, q.y, q.z, q.w };
    const float factor = __half2float(scale);
#pragma unroll
    for (int i = 0; i < 16; i++)
        v[i / 8].x[i % 8] =
            static_cast<float>(static_cast<int8_t>(word[i / 4] >> (8 * (i % 4)))) * factor;
}

/* DT_I8G64 (quant/int8.h): a step of k is a slab. */
template <class E, int ROWS, int THREADS> struct int8_rows {
    enum { PER_ROW = STEP / 16, EACH = ROWS * PER_ROW / THREADS };

    const int8_t *group[EACH]; /* of the step to come; NULL: no such row */
    const __half *scales[EACH];
    int slab_bytes[EACH];
    uint4 raw[EACH];
    __half scale[EACH];

    __device__ __forceinline__ void begin(const product_args &p, int n0)
    {
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            const int r = n0 + static_cast<int>(threadIdx.x) / PER_ROW + i * (THREADS / PER_ROW);
            const piece_place piece(p, r);
            const int tile = (r - piece.row0) / p.tile, first = piece.row0 + tile * p.tile;
            const int rows = p.n - first < p.tile ? p.n - first : p.tile;
            const int stored = (rows + I8_ROW_ALIGN - 1) / I8_ROW_ALIGN * I8_ROW_ALIGN;
            const int8_t *at = static_cast<const int8_t *>(piece.data) +
                               static_cast<size_t>(tile) * p.tile_bytes;
            slab_bytes[i] = stored * (I8_GROUP + 2);
            group[i] = r < p.n ? at + (r - first) * I8_GROUP +
                                     static_cast<int>(threadIdx.x) % PER_ROW * 16
                               : NULL;
            scales[i] = reinterpret_cast<const __half *>(at + stored * I8_GROUP) + (r - first);
        }
    }

    __device__ __forceinline__ void fetch(const product_args &, const k_place &)
    {
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            raw[i] = make_uint4(0, 0, 0, 0);
            scale[i] = __float2half_rn(0.0f);
            if (!group[i])
                continue;
            raw[i] = *reinterpret_cast<const uint4 *>(group[i]);
            scale[i] = *scales[i];
            group[i] += slab_bytes[i];
            scales[i] += slab_bytes[i] / 2;
        }
    }

    __device__ __forceinline__ void keep(const product_args &, operand<E, ROWS, VECTORS> &to) const
    {
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            const int r = static_cast<int>(threadIdx.x) / PER_ROW + i * (THREADS / PER_ROW);
            const int v = static_cast<int>(threadIdx.x) % PER_ROW * 2;
            vec8<E> out[2];
            decode16(out, raw[i], scale[i]);
            to.vector(r, v) = out[0];
            to.vector(r, v + 1) = out[1];
        }
    }

    /* As it is. */
    __device__ __forceinline__ void keep(const product_args &, int8_operand<ROWS> &to) const
    {
        float factor[EACH];
#pragma unroll
        for (int i = 0; i < EACH; i++)
            factor[i] = __half2float(scale[i]);
        keep_int8<ROWS, THREADS>(to, raw, factor);
    }
};

/* F16, BF16 or F32 of any shape, converted when it is fetched. */
template <class E, int ROWS, int THREADS> struct any_rows {
    typedef rows_of_thread<ROWS, THREADS> of;
    enum { EACH = of::EACH };

    vec8<E> have[EACH];
    const void *piece[of::UNITS];
    int row, row0[of::UNITS];

    __device__ __forceinline__ void begin(const product_args &p, int n0)
    {
        row = n0 + of::first();
#pragma unroll
        for (int u = 0; u < of::UNITS; u++) {
            const piece_place at(p, n0 + u * UNIT_ROWS);
            piece[u] = at.data;
            row0[u] = at.row0;
        }
    }

    __device__ __forceinline__ void fetch(const product_args &p, const k_place &k)
    {
        const int c = k.c0 + static_cast<int>(threadIdx.x) % VECTORS * VECTOR;
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            const int r = row + i * of::APART, u = of::unit(i);
            const size_t at = static_cast<size_t>(r - row0[u]) * p.k +
                              static_cast<size_t>(k.tap) * p.in.c;
            float x[8];
#pragma unroll
            for (int j = 0; j < 8; j++)
                x[j] = r < p.n && c + j < p.in.c
                           ? load_element(piece[u], p.w_type, at + static_cast<size_t>(c + j))
                           : 0.0f;
            encode8(have[i], x);
        }
    }

    __device__ __forceinline__ void keep(const product_args &, operand<E, ROWS, VECTORS> &to) const
    {
#pragma unroll
        for (int i = 0; i < EACH; i++)
            to.vector(of::first() + i * of::APART, static_cast<int>(threadIdx.x) % VECTORS) =
                have[i];
    }
};

/* ---- what becomes of the sums ---- */

__device__ __forceinline__ void store4(const view &v, size_t pixel, int c, const float (&x)[4])
{
    if (v.vectors && v.type == DT_F16) {
        half4 h;
        h.pair[0] = __floats2half2_rn(x[0] * v.inverse, x[1] * v.inverse);
        h.pair[1] = __floats2half2_rn(x[2] * v.inverse, x[3] * v.inverse);
        *reinterpret_cast<half4 *>(static_cast<__half *>(v.data) + pixel * v.stride + c) = h;
        return;
    }
#pragma unroll
    for (int i = 0; i < 4; i++)
        if (c + i < v.c)
            store1(v, pixel, c + i, x[i]);
}

/* Sums of row m for rows [n, n + 8) of w: the epilogue of kernels/ops.h, and into y. */
__device__ __forceinline__ void finish8(const product_args &p, int m, int n, float (&v)[8])
{
    if (m >= p.pixels || n >= p.n)
        return;
    const int band = p.rows * p.y_w, image = m / band;
    const size_t pixel = (static_cast<size_t>(image) * p.y_h + p.row0) * p.y_w + m % band;
    const float *added = p.per_image ? p.per_image + static_cast<size_t>(image) * p.per_image_stride
                                     : NULL;
#pragma unroll
    for (int i = 0; i < 8; i++) {
        v[i] *= p.scale;
        if (n + i >= p.n)
            continue;
        if (p.bias)
            v[i] += __ldg(p.bias + n + i);
        if (added)
            v[i] += __ldg(added + n + i);
    }
    if (p.act == ACT_GEGLU) {
        float half[4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            half[i] = v[2 * i] * gelu(v[2 * i + 1]);
            if (p.residual.data && n / 2 + i < p.y.c)
                half[i] += load1(p.residual, pixel, n / 2 + i);
        }
        store4(p.y, pixel, n / 2, half);
        return;
    }
    activate8(v, p.act);
    if (p.residual.data) {
        float r[8];
        load8(r, p.residual, pixel, n);
#pragma unroll
        for (int i = 0; i < 8; i++)
            v[i] += r[i];
    }
    store8(p.y, pixel, n, v);
}

/* Stores a tile of sums: all `threads` of them together, from one barrier to the next. */
template <int ROWS, int COLUMNS>
__device__ __forceinline__ void finish(const product_args &p, const outputs<ROWS, COLUMNS> &sums,
                                       int m0, int n0, int thread, int threads)
{
    for (int i = thread; i < ROWS * (COLUMNS / 8); i += threads) {
        const int row = i / (COLUMNS / 8), column = i % (COLUMNS / 8) * 8;
        float v[8];
#pragma unroll
        for (int j = 0; j < 8; j++)
            v[j] = sums.at[row][column + j];
        finish8(p, m0 + row, n0 + column, v);
    }
}

/* ---- the loop over k ---- */

/* Multiplies stage after stage.  S, W: who fetches; multiply(stage) adds one to the sums.  Ends
 * with a barrier: shared memory is free. */
template <class Stage, class S, class W, class Multiply>
__device__ __forceinline__ void for_each_stage(const product_args &p, Stage *s, S &x, W &w,
                                               Multiply multiply)
{
    k_place k = { 0, 0, 0, 0 };
    x.fetch(p, k);
    w.fetch(p, k);
    x.keep(p, s[0].x);
    w.keep(p, s[0].w);
    __syncthreads();
    for (int i = 0; i < p.steps; i++) {
        const bool more = i + 1 < p.steps;
        if (more) {
            k.advance(p);
            x.fetch(p, k);
            w.fetch(p, k);
        }
        multiply(s[i % 2]);
        if (more) {
            x.keep(p, s[(i + 1) % 2].x);
            w.keep(p, s[(i + 1) % 2].w);
        }
        __syncthreads();
    }
}

#endif
