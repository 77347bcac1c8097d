/* quant/int8.c -- a group's scale is searched, its weights are rounded, its error is counted.
 *
 * Everything that depends on a scale is computed from the scale as stored, rounded to fp16.
 * What runs over a whole group exists twice: as loops over eight lanes, and in AVX2 where
 * the CPU says it has it.  Both add the lanes up in the same order and neither contracts,
 * so that they give the same bits.
 */
#include "quant/int8.h"

#include "quant/f16.h"

#include <math.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#define WIDE __attribute__((target("avx2")))
#endif

enum { LANES = 8, TRIALS = 16 };

/* 2^-24 as fp16: the scale of groups so small that theirs would round to nothing. */
#define SMALLEST_SCALE ((uint16_t)1)

/* Adding and taking away 1.5 * 2^23 rounds what is far smaller to an integer, ties to even. */
#define ROUNDER 0x1.8p23f

/* The codes that the search gives to a group's largest weight; I8_ABSMAX takes the first.
 * Up to 127.5 the clipping costs no more than rounding does.  Below 127 every step is
 * coarser, but each draws anew where the weights fall between two codes, and the luckiest
 * of some draws beats the finest step. */
static const float LARGEST_CODE[TRIALS] = { 127,    127.45f, 126.5f, 126,    125.5f, 125,
                                            124.4f, 123.8f,  123.2f, 122.5f, 121.8f, 121,
                                            120,    119,     118,    117 };

/* <w, q> and <q, q>: the scale that suits the codes best is their quotient. */
typedef struct fit {
    float wq, qq;
} fit;

/* ---- one lane at a time ---- */

static float sum_lanes(const float v[LANES])
{
    return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
}

/* Of v / scale, given 1 / scale: an integer. */
static float code_plain(float v, float inverse)
{
    const float q = v * inverse;
    const float clipped = q > I8_MAX ? I8_MAX : q < -I8_MAX ? -I8_MAX : q;
    return (clipped + ROUNDER) - ROUNDER;
}

static float largest_plain(const float *w)
{
    float most = 0;
    for (int i = 0; i < I8_GROUP; i++)
        most = fmaxf(most, fabsf(w[i]));
    return most;
}

static float noise_plain(const float *w, float scale)
{
    const float inverse = 1 / scale;
    float sum[LANES] = { 0 };
    for (int i = 0; i < I8_GROUP; i++) {
        const float e = w[i] - code_plain(w[i], inverse) * scale;
        sum[i % LANES] += e * e;
    }
    return sum_lanes(sum);
}

static fit fit_plain(const float *w, float scale)
{
    const float inverse = 1 / scale;
    float wq[LANES] = { 0 }, qq[LANES] = { 0 };
    for (int i = 0; i < I8_GROUP; i++) {
        const float q = code_plain(w[i], inverse);
        wq[i % LANES] += w[i] * q;
        qq[i % LANES] += q * q;
    }
    return (fit){ sum_lanes(wq), sum_lanes(qq) };
}

static float codes_plain(int8_t *q, const float *w, float scale)
{
    const float inverse = 1 / scale;
    float sum[LANES] = { 0 };
    for (int i = 0; i < I8_GROUP; i++) {
        q[i] = (int8_t)code_plain(w[i], inverse);
        sum[i % LANES] += w[i] * w[i];
    }
    return sum_lanes(sum);
}

static void decode_plain(float *dst, const int8_t *q, float scale)
{
    for (int i = 0; i < I8_GROUP; i++)
        dst[i] = (float)q[i] * scale;
}

/* ---- eight ---- */

#if defined(WIDE)

WIDE static float sum_wide(__m256 v)
{
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

WIDE static __m256 code_wide(__m256 v, __m256 inverse)
{
    const __m256 most = _mm256_set1_ps(I8_MAX), least = _mm256_set1_ps(-I8_MAX);
    const __m256 rounder = _mm256_set1_ps(ROUNDER);
    const __m256 q = _mm256_max_ps(_mm256_min_ps(_mm256_mul_ps(v, inverse), most), least);
    return _mm256_sub_ps(_mm256_add_ps(q, rounder), rounder);
}

WIDE static float largest_wide(const float *w)
{
    const __m256 sign = _mm256_set1_ps(-0.0f);
    __m256 most = _mm256_setzero_ps();
    for (int i = 0; i < I8_GROUP; i += LANES)
        most = _mm256_max_ps(most, _mm256_andnot_ps(sign, _mm256_loadu_ps(w + i)));
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(most), _mm256_extractf128_ps(most, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

WIDE static float noise_wide(const float *w, float scale)
{
    const __m256 s = _mm256_set1_ps(scale), inverse = _mm256_set1_ps(1 / scale);
    __m256 sum = _mm256_setzero_ps();
    for (int i = 0; i < I8_GROUP; i += LANES) {
        const __m256 v = _mm256_loadu_ps(w + i);
        const __m256 e = _mm256_sub_ps(v, _mm256_mul_ps(code_wide(v, inverse), s));
        sum = _mm256_add_ps(sum, _mm256_mul_ps(e, e));
    }
    return sum_wide(sum);
}

WIDE static fit fit_wide(const float *w, float scale)
{
    const __m256 inverse = _mm256_set1_ps(1 / scale);
    __m256 wq = _mm256_setzero_ps(), qq = _mm256_setzero_ps();
    for (int i = 0; i < I8_GROUP; i += LANES) {
        const __m256 v = _mm256_loadu_ps(w + i), q = code_wide(v, inverse);
        wq = _mm256_add_ps(wq, _mm256_mul_ps(v, q));
        qq = _mm256_add_ps(qq, _mm256_mul_ps(q, q));
    }
    return (fit){ sum_wide(wq), sum_wide(qq) };
}

WIDE static float codes_wide(int8_t *q, const float *w, float scale)
{
    const __m256 inverse = _mm256_set1_ps(1 / scale);
    const __m128i low_bytes = _mm_setr_epi8(0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
                                            -1);
    __m256 sum = _mm256_setzero_ps();
    for (int i = 0; i < I8_GROUP; i += LANES) {
        const __m256 v = _mm256_loadu_ps(w + i);
        const __m256i c = _mm256_cvtps_epi32(code_wide(v, inverse));
        const __m128i a = _mm_shuffle_epi8(_mm256_castsi256_si128(c), low_bytes);
        const __m128i b = _mm_shuffle_epi8(_mm256_extracti128_si256(c, 1), low_bytes);
        _mm_storel_epi64((__m128i *)(void *)(q + i), _mm_unpacklo_epi32(a, b));
        sum = _mm256_add_ps(sum, _mm256_mul_ps(v, v));
    }
    return sum_wide(sum);
}

WIDE static void decode_wide(float *dst, const int8_t *q, float scale)
{
    const __m256 s = _mm256_set1_ps(scale);
    for (int i = 0; i < I8_GROUP; i += LANES) {
        const __m128i c = _mm_loadl_epi64((const __m128i *)(const void *)(q + i));
        const __m256 v = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(c));
        _mm256_storeu_ps(dst + i, _mm256_mul_ps(v, s));
    }
}

#endif

/* ---- which of the two ---- */

typedef struct group_ops {
    float (*largest)(const float *w); /* magnitude */
    float (*noise)(const float *w, float scale);
    fit (*fit)(const float *w, float scale);
    float (*codes)(int8_t *q, const float *w, float scale); /* returns the signal */
    void (*decode)(float *dst, const int8_t *q, float scale);
} group_ops;

static const group_ops PLAIN = { largest_plain, noise_plain, fit_plain, codes_plain, decode_plain };

#if defined(WIDE)
static const group_ops EIGHT = { largest_wide, noise_wide, fit_wide, codes_wide, decode_wide };
static const group_ops *best_ops(void) { return __builtin_cpu_supports("avx2") ? &EIGHT : &PLAIN; }
#else
static const group_ops *best_ops(void) { return &PLAIN; }
#endif

/* ---- a group ---- */

static uint16_t stored_scale(float exact)
{
    const uint16_t scale = f32_to_f16(exact);
    return scale < SMALLEST_SCALE ? SMALLEST_SCALE : scale;
}

/* The best of the trials and of what fits the best one's codes.  The first is I8_ABSMAX's,
 * and is left only for less noise. */
static uint16_t least_scale(const group_ops *ops, const float *w, float most)
{
    float trial[TRIALS], least = INFINITY;
    uint16_t scale[TRIALS], best = SMALLEST_SCALE;

    for (int i = 0; i < TRIALS; i++)
        trial[i] = most / LARGEST_CODE[i];
    f16_encode(scale, trial, TRIALS);
    for (int i = 0; i < TRIALS; i++)
        scale[i] = scale[i] < SMALLEST_SCALE ? SMALLEST_SCALE : scale[i];
    f16_decode(trial, scale, TRIALS);
    for (int i = 0; i < TRIALS; i++) {
        const float noise = ops->noise(w, trial[i]);
        if (noise < least) {
            least = noise;
            best = scale[i];
        }
    }
    const fit f = ops->fit(w, f16_to_f32(best));
    if (f.qq == 0)
        return best;
    const uint16_t fitting = stored_scale(f.wq / f.qq);
    return ops->noise(w, f16_to_f32(fitting)) < least ? fitting : best;
}

static uint16_t encode_group(const group_ops *ops, int8_t *q, const float *w, i8_search how,
                             i8_error *lost)
{
    const float most = ops->largest(w);
    if (most == 0) {
        memset(q, 0, I8_GROUP);
        return 0;
    }
    const uint16_t stored = how == I8_MIN ? least_scale(ops, w, most)
                                          : stored_scale(most / LARGEST_CODE[0]);
    const float scale = f16_to_f32(stored);
    lost->signal += (double)ops->codes(q, w, scale);
    lost->noise += (double)ops->noise(w, scale);
    return stored;
}

/* ---- a tile ---- */

static char *slab_at(void *tile, int rows, int slab)
{
    return (char *)tile + (size_t)slab * i8_slab_bytes(rows);
}

/* One row's channels of one tap into as many slabs. */
static void encode_tap(const group_ops *ops, char *slab, const float *w, int rows, int row,
                       int channels, i8_search how, i8_error *lost)
{
    float last[I8_GROUP] = { 0 };
    for (int c = 0; c < channels; c += I8_GROUP, slab += i8_slab_bytes(rows)) {
        int8_t *q = (int8_t *)slab + (size_t)row * I8_GROUP;
        uint16_t *scale = (uint16_t *)(void *)(slab + (size_t)i8_rows(rows) * I8_GROUP);
        const float *from = w + c;
        if (channels - c < I8_GROUP)
            from = memcpy(last, from, (size_t)(channels - c) * sizeof *w);
        scale[row] = encode_group(ops, q, from, how, lost);
    }
}

static void encode_tile(const group_ops *ops, void *tile, const float *w, int rows, int taps,
                        int channels, i8_search how, i8_error *lost)
{
    const int slabs = i8_slabs(channels);
    for (int row = 0; row < rows; row++)
        for (int tap = 0; tap < taps; tap++, w += channels)
            encode_tap(ops, slab_at(tile, rows, tap * slabs), w, rows, row, channels, how, lost);

    const size_t added = (size_t)(i8_rows(rows) - rows);
    for (int i = 0; i < taps * slabs; i++) {
        char *slab = slab_at(tile, rows, i);
        memset(slab + (size_t)rows * I8_GROUP, 0, added * I8_GROUP);
        memset(slab + i8_slab_bytes(rows) - added * sizeof(uint16_t), 0, added * sizeof(uint16_t));
    }
}

void i8_encode_tile(void *tile, const float *w, int rows, int taps, int channels, i8_search how,
                    i8_error *lost)
{
    encode_tile(best_ops(), tile, w, rows, taps, channels, how, lost);
}

void i8_encode_tile_plain(void *tile, const float *w, int rows, int taps, int channels,
                          i8_search how, i8_error *lost)
{
    encode_tile(&PLAIN, tile, w, rows, taps, channels, how, lost);
}

void i8_decode_group(float *dst, const int8_t *q, uint16_t scale)
{
    best_ops()->decode(dst, q, f16_to_f32(scale));
}

double i8_sqnr(i8_error e) { return e.noise > 0 ? 10 * log10(e.signal / e.noise) : INFINITY; }
