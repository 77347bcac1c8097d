/* kernels/cpu/vec_body.h -- the body of vec.h for vectors of LANES floats.
 *
 * Included once by each vec_*.c, which defines LANES, MULTIPLY_ADD(a, b, c) and the name
 * of the table VEC_TABLE.  Lanes are GCC's vector types, so that the same text serves
 * every width; helpers are always inlined, because vectors wider than the base CPU's must
 * not cross a call.
 *
 * exp(x) = 2^k e^r, k = round(x / ln 2): e^r = 1 + r + r^2 q(r), q minimax on |r| <= ln2/2
 * (error 8e-9).  erfc(z) = e^(-z^2) t p(t), t = 1 / (1 + 0.4 z), p minimax for z <= 10
 * (error 2e-8).
 */
#include "kernels/cpu/vec.h"

#include <string.h>

typedef float vf __attribute__((vector_size(4 * LANES)));
typedef int32_t vi __attribute__((vector_size(4 * LANES)));
typedef uint32_t vu __attribute__((vector_size(4 * LANES)));
typedef float vh __attribute__((vector_size(2 * LANES)));  /* half as many floats */
typedef double vd __attribute__((vector_size(4 * LANES))); /* as many doubles as vh floats */

#define INLINE static inline __attribute__((always_inline))

INLINE vf load_lanes(const float *p)
{
    vf v;
    memcpy(&v, p, sizeof v);
    return v;
}

INLINE void store_lanes(float *p, vf v) { memcpy(p, &v, sizeof v); }

INLINE vf splat_float(float x) { return x - (vf){ 0 }; }

INLINE vf load_some(const float *p, size_t n)
{
    vf v = { 0 };
    memcpy(&v, p, n * sizeof *p);
    return v;
}

INLINE void store_some(float *p, vf v, size_t n) { memcpy(p, &v, n * sizeof *p); }

/* Adding MAGIC rounds to an integer; below LOWEST, e^x is no normal number and counts as 0. */
static const float MAGIC = 0x1.8p23f, LOWEST = -87.33f;

INLINE vf select_lanes(vi mask, vf yes, vf no) { return (vf)((mask & (vi)yes) | (~mask & (vi)no)); }

/* e^r of x = k ln 2 + r, and k above MAGIC's bits; garbage where k is out of any range. */
INLINE vf exp_split(vf x, vi *k)
{
    const vf magic = splat_float(MAGIC);
    const vf shifted = MULTIPLY_ADD(x, splat_float(1.44269504f), magic);
    const vf whole = shifted - magic;
    vf r = MULTIPLY_ADD(whole, splat_float(-0.693145752f), x);
    r = MULTIPLY_ADD(whole, splat_float(-1.42860677e-6f), r);

    vf q = splat_float(0.001392617612f);
    q = MULTIPLY_ADD(q, r, splat_float(0.008363173075f));
    q = MULTIPLY_ADD(q, r, splat_float(0.04166655466f));
    q = MULTIPLY_ADD(q, r, splat_float(0.1666657703f));
    q = MULTIPLY_ADD(q, r, splat_float(0.5f));
    q = MULTIPLY_ADD(q, r, splat_float(1.0f));
    *k = (vi)shifted;
    return MULTIPLY_ADD(q, r, splat_float(1.0f));
}

INLINE vf zero_where(vi mask, vf v) { return (vf)(~mask & (vi)v); }

/* 2^k in two factors, so that k = 128 does not overflow on the way. */
INLINE vf exp_lanes(vf x)
{
    const vf high = splat_float(88.72f);
    vi k;
    const vf e = exp_split(select_lanes(x > high, high, x), &k);
    k -= (vi)splat_float(MAGIC);
    const vi half = k >> 1;
    const vf a = (vf)((half + 127) << 23), b = (vf)((k - half + 127) << 23);
    return zero_where(x < splat_float(LOWEST), e * a * b);
}

/* x <= 0.  The shift drops MAGIC's bits. */
INLINE vf exp_below(vf x)
{
    vi k;
    const vf e = exp_split(x, &k);
    return zero_where(x < splat_float(LOWEST), e * (vf)((k + 127) << 23));
}

INLINE vf silu_lanes(vf x) { return x / (splat_float(1.0f) + exp_lanes(-x)); }

INLINE vf quick_gelu_lanes(vf x)
{
    return x / (splat_float(1.0f) + exp_lanes(x * splat_float(-1.702f)));
}

INLINE vf gelu_lanes(vf x)
{
    const vf z = select_lanes(x < 0, -x, x) * splat_float(0.707106781f);
    const vf t = splat_float(1.0f) / MULTIPLY_ADD(z, splat_float(0.4f), splat_float(1.0f));

    vf p = splat_float(-0.03350112687f);
    p = MULTIPLY_ADD(p, t, splat_float(0.2187853561f));
    p = MULTIPLY_ADD(p, t, splat_float(-0.5465026178f));
    p = MULTIPLY_ADD(p, t, splat_float(0.6093421803f));
    p = MULTIPLY_ADD(p, t, splat_float(-0.3343118762f));
    p = MULTIPLY_ADD(p, t, splat_float(0.2979731946f));
    p = MULTIPLY_ADD(p, t, splat_float(0.1210599825f));
    p = MULTIPLY_ADD(p, t, splat_float(0.216689386f));
    p = MULTIPLY_ADD(p, t, splat_float(0.2247486653f));
    p = MULTIPLY_ADD(p, t, splat_float(0.2257168574f));
    const vf half_erfc = splat_float(0.5f) * p * t * exp_below(x * x * splat_float(-0.5f));
    return x * select_lanes(x < 0, half_erfc, splat_float(1.0f) - half_erfc);
}

/* Applies `op` to every element of v; `op` sees `x` (the lanes) and `i`, `some`. */
#define EACH(v, n, op)                                                                             \
    do {                                                                                           \
        size_t i = 0;                                                                              \
        for (; i + LANES <= (n); i += LANES) {                                                     \
            const vf x = load_lanes((v) + i);                                                      \
            store_lanes((v) + i, op(load_lanes, i));                                               \
        }                                                                                          \
        if (i < (n)) {                                                                             \
            const size_t left = (n)-i;                                                             \
            const vf x = load_some((v) + i, left);                                                 \
            store_some((v) + i, op(REST, i), left);                                                \
        }                                                                                          \
    } while (0)
#define REST(p) load_some(p, left)

#define OP_SCALE(get, i)  (x * splat_float(by))
#define OP_ADD(get, i)    (x + get(a + (i)))
#define OP_AFFINE(get, i) MULTIPLY_ADD(x, get(slope + (i)), get(offset + (i)))
#define OP_SILU(get, i)   silu_lanes(x)
#define OP_GELU(get, i)   gelu_lanes(x)
#define OP_QUICK(get, i)  quick_gelu_lanes(x)
#define OP_NORMALISE(get, i)                                                                       \
    MULTIPLY_ADD((x - splat_float(mean)) * splat_float(by), get(gain + (i)), get(bias + (i)))

static void row_scale(float *v, float by, size_t n) { EACH(v, n, OP_SCALE); }
static void row_add(float *v, const float *a, size_t n) { EACH(v, n, OP_ADD); }

static void row_affine(float *v, const float *slope, const float *offset, size_t n)
{
    EACH(v, n, OP_AFFINE);
}

static void row_silu(float *v, size_t n) { EACH(v, n, OP_SILU); }
static void row_gelu(float *v, size_t n) { EACH(v, n, OP_GELU); }
static void row_quick_gelu(float *v, size_t n) { EACH(v, n, OP_QUICK); }

static void row_normalise(float *v, float mean, float by, const float *gain, const float *bias,
                          size_t n)
{
    EACH(v, n, OP_NORMALISE);
}

#if LANES == 8
#define EVEN 0, 2, 4, 6, 8, 10, 12, 14
#define ODD  1, 3, 5, 7, 9, 11, 13, 15
#else
#define EVEN 0, 2, 4, 6
#define ODD  1, 3, 5, 7
#endif
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)

INLINE vf geglu_lanes(vf a, vf b) { return SHUFFLE(a, b, EVEN) * gelu_lanes(SHUFFLE(a, b, ODD)); }

/* Reads the pairs of a vector before it writes, so that out may be pair. */
static void row_geglu(float *out, const float *pair, size_t n)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        store_lanes(out + i,
                    geglu_lanes(load_lanes(pair + 2 * i), load_lanes(pair + 2 * i + LANES)));
    if (i < n) {
        const size_t left = 2 * (n - i), first = left < LANES ? left : LANES;
        const vf a = load_some(pair + 2 * i, first);
        const vf b = load_some(pair + 2 * i + first, left - first);
        store_some(out + i, geglu_lanes(a, b), n - i);
    }
}

INLINE void add_moments(double *sum, double *squares, vd v)
{
    vd s, q;
    memcpy(&s, sum, sizeof s);
    memcpy(&q, squares, sizeof q);
    s += v;
    q += v * v;
    memcpy(sum, &s, sizeof s);
    memcpy(squares, &q, sizeof q);
}

INLINE vd widen_to_doubles(const float *v)
{
    vh h;
    memcpy(&h, v, sizeof h);
    return __builtin_convertvector(h, vd);
}

static void row_moments(double *sum, double *squares, const float *v, size_t n)
{
    size_t i = 0;
    for (; i + LANES / 2 <= n; i += LANES / 2)
        add_moments(sum + i, squares + i, widen_to_doubles(v + i));
    for (; i < n; i++) {
        sum[i] += (double)v[i];
        squares[i] += (double)v[i] * (double)v[i];
    }
}

INLINE double sum_double_lanes(vd v)
{
    double sum = 0;
    for (size_t j = 0; j < LANES / 2; j++)
        sum += v[j];
    return sum;
}

static double row_sum(const float *v, size_t n)
{
    vd lanes = { 0 };
    double rest = 0;
    size_t i = 0;
    for (; i + LANES / 2 <= n; i += LANES / 2)
        lanes += widen_to_doubles(v + i);
    for (; i < n; i++)
        rest += (double)v[i];
    return sum_double_lanes(lanes) + rest;
}

static double row_squares_about(const float *v, double mean, size_t n)
{
    vd lanes = { 0 };
    double rest = 0;
    size_t i = 0;
    for (; i + LANES / 2 <= n; i += LANES / 2) {
        const vd x = widen_to_doubles(v + i) - mean;
        lanes += x * x;
    }
    for (; i < n; i++)
        rest += ((double)v[i] - mean) * ((double)v[i] - mean);
    return sum_double_lanes(lanes) + rest;
}

INLINE vf max_lanes(vf a, vf b) { return select_lanes(a > b, a, b); }

/* Four maxima side by side, or each comparison would wait for the one before. */
static float row_max(const float *v, size_t n)
{
    vf lanes[4] = { splat_float(v[0]), splat_float(v[0]), splat_float(v[0]), splat_float(v[0]) };
    float max = v[0];
    size_t i = 0;
    for (; i + 4 * LANES <= n; i += 4 * LANES)
        for (size_t j = 0; j < 4; j++)
            lanes[j] = max_lanes(load_lanes(v + i + j * LANES), lanes[j]);
    for (; i < n; i++)
        max = v[i] > max ? v[i] : max;
    lanes[0] = max_lanes(max_lanes(lanes[0], lanes[1]), max_lanes(lanes[2], lanes[3]));
    for (size_t j = 0; j < LANES; j++)
        max = lanes[0][j] > max ? lanes[0][j] : max;
    return max;
}

static float row_softmax(float *v, float max, size_t n)
{
    vf lanes = { 0 };
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        const vf e = exp_below(load_lanes(v + i) - splat_float(max));
        store_lanes(v + i, e);
        lanes += e;
    }
    if (i < n) {
        const vf e = exp_below(load_some(v + i, n - i) - splat_float(max));
        store_some(v + i, e, n - i);
        lanes += load_some(v + i, n - i);
    }
    float sum = 0;
    for (size_t j = 0; j < LANES; j++)
        sum += lanes[j];
    return sum;
}

INLINE vu load_words(const uint32_t *p)
{
    vu v;
    memcpy(&v, p, sizeof v);
    return v;
}

INLINE void store_words(uint32_t *p, vu v) { memcpy(p, &v, sizeof v); }

#if LANES == 8
/* An 8x8 block: pairs of rows interleaved, then pairs of pairs, then halves exchanged. */
INLINE void transpose_block(uint32_t *to, size_t to_stride, const uint32_t *from, size_t stride)
{
    vu r[8], t[8];
    for (size_t i = 0; i < 8; i++)
        r[i] = load_words(from + i * stride);
    for (size_t i = 0; i < 8; i += 2) {
        t[i] = SHUFFLE(r[i], r[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
        t[i + 1] = SHUFFLE(r[i], r[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
    }
    for (size_t i = 0; i < 8; i += 4) {
        r[i] = SHUFFLE(t[i], t[i + 2], 0, 1, 8, 9, 4, 5, 12, 13);
        r[i + 1] = SHUFFLE(t[i], t[i + 2], 2, 3, 10, 11, 6, 7, 14, 15);
        r[i + 2] = SHUFFLE(t[i + 1], t[i + 3], 0, 1, 8, 9, 4, 5, 12, 13);
        r[i + 3] = SHUFFLE(t[i + 1], t[i + 3], 2, 3, 10, 11, 6, 7, 14, 15);
    }
    for (size_t i = 0; i < 4; i++) {
        store_words(to + i * to_stride, SHUFFLE(r[i], r[i + 4], 0, 1, 2, 3, 8, 9, 10, 11));
        store_words(to + (i + 4) * to_stride, SHUFFLE(r[i], r[i + 4], 4, 5, 6, 7, 12, 13, 14, 15));
    }
}
#else
INLINE void transpose_block(uint32_t *to, size_t to_stride, const uint32_t *from, size_t stride)
{
    for (size_t c = 0; c < LANES; c++)
        for (size_t r = 0; r < LANES; r++)
            to[c * to_stride + r] = from[r * stride + c];
}
#endif

static void block_transpose(uint32_t *to, size_t to_stride, const uint32_t *from, size_t stride,
                            size_t rows, size_t columns)
{
    size_t r = 0;
    for (; r + LANES <= rows; r += LANES) {
        size_t c = 0;
        for (; c + LANES <= columns; c += LANES)
            transpose_block(to + c * to_stride + r, to_stride, from + r * stride + c, stride);
        for (; c < columns; c++)
            for (size_t i = r; i < r + LANES; i++)
                to[c * to_stride + i] = from[i * stride + c];
    }
    for (; r < rows; r++)
        for (size_t c = 0; c < columns; c++)
            to[c * to_stride + r] = from[r * stride + c];
}

const vec VEC_TABLE = {
    .scale = row_scale,
    .add = row_add,
    .affine = row_affine,
    .silu = row_silu,
    .gelu = row_gelu,
    .quick_gelu = row_quick_gelu,
    .geglu = row_geglu,
    .moments = row_moments,
    .sum = row_sum,
    .squares_about = row_squares_about,
    .normalise = row_normalise,
    .max = row_max,
    .softmax = row_softmax,
    .transpose = block_transpose,
};
