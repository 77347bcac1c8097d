/* kernels/cuda/product.cuh -- linear and convolution as one implicit matrix product.
 *
 *     y[m][n] = sum over taps, channels of  x[pixel of m under the tap][c] * w[n][tap][c]
 *
 * m counts the output pixels of the band, image after image; n the rows of the chunk.  A linear
 * operator is the convolution with one tap.  No column matrix is ever in memory: a block gathers
 * 64 channels of one tap of its pixels at a time, on the way normalises them, and takes 64 of k
 * of its rows of w, decoding int8 (one group: one slab); shared memory holds two such stages, one
 * that is multiplied and one that is filled meanwhile: what is taken as it lies comes by itself
 * where the card can (vector_copies), the rest through registers which were loaded before.
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
    __device__ __forceinline__ int under(const product_args &p, const k_place &k) const
    {
        int row = y + k.tap_row, column = x + k.tap_column;
        if (row < 0 || row >= p.in_h || column < 0 || column >= p.in_w)
            return -1;
        if (p.in_h != p.source_h)
            row = row * p.source_h / p.in_h;
        if (p.in_w != p.source_w)
            column = column * p.source_w / p.in_w;
        return (image * p.held_h + (row - p.first)) * p.source_w + column;
    }
};

/* Sources.  fetch sends for the next stage's vectors, keep puts those that come through registers
 * into shared memory; between the two lies the multiplication of a stage. */

/* Which vectors a thread fetches, of PER_ROW to a pixel and step: vector() of rows first(),
 * first() + APART, ...  Where their pixels lie is worked out once for a tap. */
template <int ROWS, int THREADS, int PER_ROW> struct pixels_of_thread {
    enum { EACH = ROWS * PER_ROW / THREADS, APART = THREADS / PER_ROW };

    pixel_place at[EACH];
    int pixel[EACH]; /* negative: none */

    static __device__ __forceinline__ int first()
    {
        return static_cast<int>(threadIdx.x) / PER_ROW;
    }
    static __device__ __forceinline__ int vector()
    {
        return static_cast<int>(threadIdx.x) % PER_ROW;
    }

    __device__ __forceinline__ void begin(const product_args &p, int m0)
    {
#pragma unroll
        for (int i = 0; i < EACH; i++)
            at[i].set(p, m0 + first() + i * APART);
    }

    __device__ __forceinline__ void move(const product_args &p, const k_place &k)
    {
        if (k.c0 > 0)
            return;
#pragma unroll
        for (int i = 0; i < EACH; i++)
            pixel[i] = at[i].under(p, k);
    }
};

/* Eight channels a vector, `c` on of both sources. */
struct half_source {
    const __half *from; /* of pixel 0 */
    size_t stride;
    int c;

    __device__ __forceinline__ half_source(const product_args &p, const k_place &k, int vector)
    {
        c = k.c0 + vector * VECTOR;
        const bool second = c >= p.in.a.c;
        const view v = view_either(second, p.in.b, p.in.a);
        from = static_cast<const __half *>(v.data) + (second ? c - p.in.a.c : c);
        stride = v.stride;
    }

    __device__ __forceinline__ const __half *of(int pixel) const
    {
        return from + static_cast<size_t>(pixel) * stride;
    }
};

/* F16 in whole vectors, as it is. */
template <int ROWS, int THREADS> struct half_pixels {
    typedef pixels_of_thread<ROWS, THREADS, VECTORS> of;

    of place;
    vector_copies<of::EACH> copies;

    __device__ __forceinline__ void begin(const product_args &p, int m0) { place.begin(p, m0); }

    __device__ __forceinline__ void fetch(const product_args &p, const k_place &k,
                                          operand<__half, ROWS, VECTORS> &to)
    {
        const half_source source(p, k, of::vector());
        place.move(p, k);
#pragma unroll
        for (int i = 0; i < of::EACH; i++) {
            const bool is_there = source.c < p.in.c && place.pixel[i] >= 0;
            copies.fetch(i, &to.vector(of::first() + i * of::APART, of::vector()),
                         source.of(is_there ? place.pixel[i] : 0), is_there);
        }
    }

    __device__ __forceinline__ void keep(const product_args &,
                                         operand<__half, ROWS, VECTORS> &to) const
    {
#pragma unroll
        for (int i = 0; i < of::EACH; i++)
            copies.keep(i, &to.vector(of::first() + i * of::APART, of::vector()));
    }
};

/* Silu of the norm of F16 in whole vectors.  What a thread has of a step is of one group of
 * channels, and nearly always of one image. */
template <int ROWS, int THREADS> struct normed_pixels {
    typedef pixels_of_thread<ROWS, THREADS, VECTORS> of;

    of place;
    half8 raw[of::EACH];
    unsigned there; /* bit i: raw[i] is of a pixel, not of the padding */
    int c;

    __device__ __forceinline__ void begin(const product_args &p, int m0) { place.begin(p, m0); }

    __device__ __forceinline__ void fetch(const product_args &p, const k_place &k,
                                          operand<__half, ROWS, VECTORS> &)
    {
        const half_source source(p, k, of::vector());
        place.move(p, k);
        c = source.c;
        there = 0;
#pragma unroll
        for (int i = 0; i < of::EACH; i++) {
            raw[i] = half8_zero();
            if (c >= p.in.c || place.pixel[i] < 0)
                continue;
            raw[i] = half8_load(source.of(place.pixel[i]));
            there |= 1u << i;
        }
    }

    /* The affine is read once, and again only where the next image begins. */
    __device__ __forceinline__ void keep(const product_args &p,
                                         operand<__half, ROWS, VECTORS> &to) const
    {
        const float scale = c < p.in.a.c ? p.in.a.scale : p.in.b.scale;
        int image = place.at[0].image;
        affine8 norm;
        norm.load(p.in, image, c < p.in.c ? c : 0);
#pragma unroll
        for (int i = 0; i < of::EACH; i++) {
            const bool is_there = there >> i & 1u;
            if (i > 0 && is_there && place.at[i].image != image) {
                image = place.at[i].image;
                norm.load(p.in, image, c);
            }
            to.vector(of::first() + i * of::APART, of::vector()) =
                half8_if(is_there, norm.silu_of(raw[i], scale));
        }
    }
};

/* Whatever it is, converted when it is fetched. */
template <class E, int ROWS, int THREADS> struct any_pixels {
    typedef pixels_of_thread<ROWS, THREADS, VECTORS> of;

    of place;
    vec8<E> have[of::EACH];

    __device__ __forceinline__ void begin(const product_args &p, int m0) { place.begin(p, m0); }

    __device__ __forceinline__ void fetch(const product_args &p, const k_place &k,
                                          operand<E, ROWS, VECTORS> &)
    {
        const int c = k.c0 + of::vector() * VECTOR;
        place.move(p, k);
#pragma unroll
        for (int i = 0; i < of::EACH; i++) {
            have[i] = zero_vector8<E>();
            if (c >= p.in.c || place.pixel[i] < 0)
                continue;
            float x[8];
            gather_channels8(x, p.in, static_cast<size_t>(place.pixel[i]), c);
            apply_affine8(x, p.in, place.at[i].image, c);
            if (p.in.act == ACT_SILU)
                apply_silu8(x);
            encode_vector8(have[i], x);
        }
    }

    __device__ __forceinline__ void keep(const product_args &, operand<E, ROWS, VECTORS> &to) const
    {
#pragma unroll
        for (int i = 0; i < of::EACH; i++)
            to.vector(of::first() + i * of::APART, of::vector()) = have[i];
    }
};

/* Of int8 a vector is 16 of a group, and that of a row's first brings the scale. */
enum { GROUP_VECTORS = STEP / 16 };

/* As int8, a group a step. */
template <int ROWS, int THREADS> struct int8_pixels {
    typedef pixels_of_thread<ROWS, THREADS, GROUP_VECTORS> of;

    of place;
    vector_copies<of::EACH> copies;
    float scale[of::EACH];

    __device__ __forceinline__ void begin(const product_args &p, int m0) { place.begin(p, m0); }

    __device__ __forceinline__ void fetch(const product_args &p, const k_place &k,
                                          int8_operand<ROWS> &to)
    {
        place.move(p, k);
#pragma unroll
        for (int i = 0; i < of::EACH; i++) {
            const bool is_there = place.pixel[i] >= 0;
            const size_t group = static_cast<size_t>(is_there ? place.pixel[i] : 0) * p.groups +
                                 k.c0 / I8_GROUP;
            copies.fetch(i, &to.vector(of::first() + i * of::APART, of::vector()),
                         p.q + group * I8_GROUP + of::vector() * 16, is_there);
            scale[i] = is_there ? p.q_scale[group] : 0.0f;
        }
    }

    __device__ __forceinline__ void keep(const product_args &, int8_operand<ROWS> &to) const
    {
#pragma unroll
        for (int i = 0; i < of::EACH; i++) {
            const int row = of::first() + i * of::APART;
            copies.keep(i, &to.vector(row, of::vector()));
            if (of::vector() == 0)
                to.scale[row] = scale[i];
        }
    }
};

/* ---- the matrix: ROWS rows per block ---- */

/* The piece that a row is in. */
struct block_place_of {
    const void *data;
    int row0;

    __device__ __forceinline__ block_place_of(const product_args &p, int row)
    {
        data = p.block[0];
        row0 = 0;
#pragma unroll
        for (int i = 1; i < MATRIX_BLOCKS_MAX; i++)
            if (i < p.blocks && row >= p.block_row0[i]) {
                data = p.block[i];
                row0 = p.block_row0[i];
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
    static __device__ __forceinline__ int vector()
    {
        return static_cast<int>(threadIdx.x) % VECTORS;
    }
    static __device__ __forceinline__ int unit(int i) { return i * APART / UNIT_ROWS; }
};

/* F16, rows of whole vectors. */
template <int ROWS, int THREADS> struct half_rows {
    typedef rows_of_thread<ROWS, THREADS> of;

    vector_copies<of::EACH> copies;
    const __half *from[of::UNITS]; /* where `row` would lie, were it in the unit's piece */
    int row;

    __device__ __forceinline__ void begin(const product_args &p, int n0)
    {
        row = n0 + of::first();
#pragma unroll
        for (int u = 0; u < of::UNITS; u++) {
            const block_place_of at(p, n0 + u * UNIT_ROWS);
            from[u] = static_cast<const __half *>(at.data) +
                      static_cast<ptrdiff_t>(row - at.row0) * p.k;
        }
    }

    __device__ __forceinline__ void fetch(const product_args &p, const k_place &k,
                                          operand<__half, ROWS, VECTORS> &to)
    {
        const int c = k.c0 + of::vector() * VECTOR;
        const size_t at = static_cast<size_t>(k.tap) * p.in.c + c;
#pragma unroll
        for (int i = 0; i < of::EACH; i++)
            copies.fetch(i, &to.vector(of::first() + i * of::APART, of::vector()),
                         from[of::unit(i)] + static_cast<size_t>(i * of::APART) * p.k + at,
                         c < p.in.c && row + i * of::APART < p.n);
    }

    __device__ __forceinline__ void keep(const product_args &,
                                         operand<__half, ROWS, VECTORS> &to) const
    {
#pragma unroll
        for (int i = 0; i < of::EACH; i++)
            copies.keep(i, &to.vector(of::first() + i * of::APART, of::vector()));
    }
};

/* Sixteen int8 times a scale.  A byte q + 128 below the byte 0x64 is the half 1024 + q + 128. */
__device__ __forceinline__ __half2 as_halves(uint32_t bits)
{
    __half2 h;
    *reinterpret_cast<uint32_t *>(&h) = bits;
    return h;
}

__device__ __forceinline__ void decode_int8x16(half8 (&v)[2], uint4 q, __half scale)
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

__device__ __forceinline__ void decode_int8x16(float8 (&v)[2], uint4 q, __half scale)
{
    const uint32_t word[4] = { q.x, q.y, q.z, q.w };
    const float factor = __half2float(scale);
#pragma unroll
    for (int i = 0; i < 16; i++)
        v[i / 8].x[i % 8] =
            static_cast<float>(static_cast<int8_t>(word[i / 4] >> (8 * (i % 4)))) * factor;
}

/* DT_I8G64 (quant/int8.h): a step of k is a slab.  Where the vectors of a thread lie, GROUP_VECTORS
 * to a row. */
template <int ROWS, int THREADS> struct slab_place {
    enum { EACH = ROWS * GROUP_VECTORS / THREADS, APART = THREADS / GROUP_VECTORS };

    const int8_t *group[EACH]; /* of the step to come */
    const __half *scales[EACH];
    int slab_bytes[EACH]; /* 0: no such row */

    static __device__ __forceinline__ int first()
    {
        return static_cast<int>(threadIdx.x) / GROUP_VECTORS;
    }
    static __device__ __forceinline__ int vector()
    {
        return static_cast<int>(threadIdx.x) % GROUP_VECTORS;
    }

    __device__ __forceinline__ void begin(const product_args &p, int n0)
    {
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            const int r = n0 + this->first() + i * APART;
            const block_place_of block(p, r);
            const int tile = (r - block.row0) / p.tile, first = block.row0 + tile * p.tile;
            const int rows = p.n - first < p.tile ? p.n - first : p.tile;
            const int stored = (rows + I8_ROW_ALIGN - 1) / I8_ROW_ALIGN * I8_ROW_ALIGN;
            const int8_t *at = static_cast<const int8_t *>(block.data) +
                               static_cast<size_t>(tile) * p.tile_bytes;
            slab_bytes[i] = r < p.n ? stored * (I8_GROUP + 2) : 0;
            group[i] = at + (r - first) * I8_GROUP + vector() * 16;
            scales[i] = reinterpret_cast<const __half *>(at + stored * I8_GROUP) + (r - first);
        }
    }

    __device__ __forceinline__ bool has(int i) const { return slab_bytes[i] > 0; }
    __device__ __forceinline__ __half scale(int i) const
    {
        return has(i) ? *scales[i] : __float2half_rn(0.0f);
    }
    __device__ __forceinline__ void advance(int i)
    {
        group[i] += slab_bytes[i];
        scales[i] += slab_bytes[i] / 2;
    }
};

/* Decoded. */
template <class E, int ROWS, int THREADS> struct int8_rows {
    typedef slab_place<ROWS, THREADS> of;

    of place;
    uint4 raw[of::EACH];
    __half scale[of::EACH];

    __device__ __forceinline__ void begin(const product_args &p, int n0) { place.begin(p, n0); }

    __device__ __forceinline__ void fetch(const product_args &, const k_place &,
                                          operand<E, ROWS, VECTORS> &)
    {
#pragma unroll
        for (int i = 0; i < of::EACH; i++) {
            raw[i] = make_uint4(0, 0, 0, 0);
            if (place.has(i))
                raw[i] = *reinterpret_cast<const uint4 *>(place.group[i]);
            scale[i] = place.scale(i);
            place.advance(i);
        }
    }

    __device__ __forceinline__ void keep(const product_args &, operand<E, ROWS, VECTORS> &to) const
    {
#pragma unroll
        for (int i = 0; i < of::EACH; i++) {
            const int row = of::first() + i * of::APART, v = 2 * of::vector();
            vec8<E> out[2];
            decode_int8x16(out, raw[i], scale[i]);
            to.vector(row, v) = out[0];
            to.vector(row, v + 1) = out[1];
        }
    }
};

/* As they are. */
template <int ROWS, int THREADS> struct int8_groups {
    typedef slab_place<ROWS, THREADS> of;

    of place;
    vector_copies<of::EACH> copies;
    __half scale[of::EACH];

    __device__ __forceinline__ void begin(const product_args &p, int n0) { place.begin(p, n0); }

    __device__ __forceinline__ void fetch(const product_args &, const k_place &,
                                          int8_operand<ROWS> &to)
    {
#pragma unroll
        for (int i = 0; i < of::EACH; i++) {
            copies.fetch(i, &to.vector(of::first() + i * of::APART, of::vector()), place.group[i],
                         place.has(i));
            scale[i] = place.scale(i);
            place.advance(i);
        }
    }

    __device__ __forceinline__ void keep(const product_args &, int8_operand<ROWS> &to) const
    {
#pragma unroll
        for (int i = 0; i < of::EACH; i++) {
            const int row = of::first() + i * of::APART;
            copies.keep(i, &to.vector(row, of::vector()));
            if (of::vector() == 0)
                to.scale[row] = __half2float(scale[i]);
        }
    }
};

/* A vector of halves as one of E. */
__device__ __forceinline__ void widen_half8(half8 &to, const half8 &h) { to = h; }

__device__ __forceinline__ void widen_half8(float8 &to, const half8 &h)
{
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const float2 f = __half22float2(h.pair[i]);
        to.x[2 * i] = f.x;
        to.x[2 * i + 1] = f.y;
    }
}

/* F16, BF16 or F32 of any shape, converted when it is fetched. */
template <class E, int ROWS, int THREADS> struct any_rows {
    typedef rows_of_thread<ROWS, THREADS> of;
    enum { EACH = of::EACH };

    vec8<E> have[EACH];
    const void *block[of::UNITS];
    int row, row0[of::UNITS];

    __device__ __forceinline__ void begin(const product_args &p, int n0)
    {
        row = n0 + of::first();
#pragma unroll
        for (int u = 0; u < of::UNITS; u++) {
            const block_place_of at(p, n0 + u * UNIT_ROWS);
            block[u] = at.data;
            row0[u] = at.row0;
        }
    }

    __device__ __forceinline__ void fetch(const product_args &p, const k_place &k,
                                          operand<E, ROWS, VECTORS> &)
    {
        const int c = k.c0 + of::vector() * VECTOR;
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            const int r = row + i * of::APART, u = of::unit(i);
            const size_t at = static_cast<size_t>(r - row0[u]) * p.k +
                              static_cast<size_t>(k.tap) * p.in.c;
            if (p.half_vectors) {
                have[i] = zero_vector8<E>();
                if (r < p.n && c < p.in.c)
                    widen_half8(have[i], half8_load(static_cast<const __half *>(block[u]) + at +
                                                    static_cast<size_t>(c)));
                continue;
            }
            float x[8];
#pragma unroll
            for (int j = 0; j < 8; j++)
                x[j] = r < p.n && c + j < p.in.c
                           ? load_element(block[u], p.w_type, at + static_cast<size_t>(c + j))
                           : 0.0f;
            encode_vector8(have[i], x);
        }
    }

    __device__ __forceinline__ void keep(const product_args &, operand<E, ROWS, VECTORS> &to) const
    {
#pragma unroll
        for (int i = 0; i < EACH; i++)
            to.vector(of::first() + i * of::APART, of::vector()) = have[i];
    }
};

/* ---- what becomes of the sums ---- */

__device__ __forceinline__ void store_channels4(const view &v, size_t pixel, int c,
                                                const float (&x)[4])
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
            store_channel(v, pixel, c + i, x[i]);
}

/* Sums of row m for rows [n, n + 8) of w: the epilogue of kernels/ops.h, and into y. */
__device__ __forceinline__ void apply_epilogue8(const product_args &p, int m, int n, float (&v)[8])
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
            half[i] = v[2 * i] * gelu_float(v[2 * i + 1]);
            if (p.residual.data && n / 2 + i < p.y.c)
                half[i] += load_channel(p.residual, pixel, n / 2 + i);
        }
        store_channels4(p.y, pixel, n / 2, half);
        return;
    }
    apply_act8(v, p.act);
    if (p.residual.data) {
        float r[8];
        load_channels8(r, p.residual, pixel, n);
#pragma unroll
        for (int i = 0; i < 8; i++)
            v[i] += r[i];
    }
    store_channels8(p.y, pixel, n, v);
}

/* Stores a tile of sums: all `threads` of them together, from one barrier to the next. */
template <int ROWS, int COLUMNS>
__device__ __forceinline__ void store_outputs(const product_args &p,
                                              const outputs<ROWS, COLUMNS> &sums, int m0, int n0,
                                              int thread, int threads)
{
    for (int i = thread; i < ROWS * (COLUMNS / 8); i += threads) {
        const int row = i / (COLUMNS / 8), column = i % (COLUMNS / 8) * 8;
        float v[8];
#pragma unroll
        for (int j = 0; j < 8; j++)
            v[j] = sums.at[row][column + j];
        apply_epilogue8(p, m0 + row, n0 + column, v);
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
    x.fetch(p, k, s[0].x);
    w.fetch(p, k, s[0].w);
    x.keep(p, s[0].x);
    w.keep(p, s[0].w);
    copies_wait();
    __syncthreads();
    for (int i = 0; i < p.steps; i++) {
        const bool more = i + 1 < p.steps;
        Stage &next = s[(i + 1) % 2];
        if (more) {
            k.advance(p);
            x.fetch(p, k, next.x);
            w.fetch(p, k, next.w);
        }
        multiply(s[i % 2]);
        if (more) {
            x.keep(p, next.x);
            w.keep(p, next.w);
        }
        copies_wait();
        __syncthreads();
    }
}

#endif
