/* kernels/cpu/int8_body.h -- the body of int8.h for vectors of LANES 32-bit words.
 *
 * Included once by each int8_*.c, which defines LANES, PIXELS (multiplied at a time), NAME,
 * VARIANT, and what an operand is:
 *
 *     ELEMENT, WEIGHT   integer types of an activation and of a weight
 *     ZERO              the element that means 0
 *     DOT(s, a, w)      s + the products of the elements in each word of a and w
 */
#include "kernels/cpu/int8.h"

#include "quant/f16.h"

#include <math.h>
#include <string.h>

typedef float vf __attribute__((vector_size(4 * LANES)));
typedef int32_t vi __attribute__((vector_size(4 * LANES)));

#define INLINE static inline __attribute__((always_inline))

/* VECTORS of words make the rows of a panel.  GROUPS_AT_ONCE groups of one panel stay in the
 * first cache while all pixels pass. */
enum {
    VECTORS = INT8_PANEL / LANES,
    PER_WORD = 4 / (int)sizeof(ELEMENT),
    WORDS = I8_GROUP / PER_WORD,
    BLOCK = (WORDS + 2) * INT8_PANEL * 4,
    GROUPS_AT_ONCE = 6
};

INLINE vi load_int_words(const void *p)
{
    vi v;
    memcpy(&v, p, sizeof v);
    return v;
}

INLINE vf load_floats(const void *p)
{
    vf v;
    memcpy(&v, p, sizeof v);
    return v;
}

INLINE vi splat_word(const char *p)
{
    int32_t word;
    memcpy(&word, p, sizeof word);
    return word - (vi){ 0 };
}

/* ---- activations ---- */

INLINE vi max_words(vi a, vi b)
{
    const vi more = a > b;
    return (more & a) | (~more & b);
}

/* The bits of the largest magnitude.  As integers, infinity and NaN are above all numbers. */
INLINE uint32_t absmax_bits(const float *v)
{
    int32_t lane[LANES], most = 0;
    vi m = { 0 };

    for (int i = 0; i < I8_GROUP; i += LANES)
        m = max_words(load_int_words(v + i) & 0x7fffffff, m);
    memcpy(lane, &m, sizeof lane);
    for (int i = 0; i < LANES; i++)
        most = lane[i] > most ? lane[i] : most;
    return (uint32_t)most;
}

/* A group that is not finite has a scale that is none either, and so has what it is multiplied
 * into. */
static float quantise_group(void *q, const float *v)
{
    const float MAGIC = 0x1.8p23f; /* added, it rounds to an integer */
    const uint32_t bits = absmax_bits(v);
    const bool finite = bits < 0x7f800000;
    const float most = finite ? f32_from_bits(bits) : 0;
    ELEMENT *to = q;

    const float by = most > 0x1p-100f ? I8_MAX / most : 0;
    for (int i = 0; i < I8_GROUP; i += LANES) {
        const vf shifted = (finite ? load_floats(v + i) : (vf){ 0 }) * by + MAGIC;
        const vi n = (vi)shifted - (vi)(MAGIC - (vf){ 0 }) + ZERO;
        for (int j = 0; j < LANES; j++)
            to[i + j] = (ELEMENT)n[j];
    }
    if (!finite)
        return NAN;
    return by > 0 ? most / I8_MAX : 0;
}

/* ---- weights ---- */

static void pack_block(char *block, const void *tile, int rows, int row0, int group)
{
    int32_t *word = (int32_t *)(void *)block;
    float *scale = (float *)(void *)(word + WORDS * INT8_PANEL);
    int32_t *offset = (int32_t *)(void *)(scale + INT8_PANEL);
    WEIGHT wide[INT8_PANEL][I8_GROUP];

    for (int r = 0; r < INT8_PANEL; r++) {
        const bool present = row0 + r < i8_rows(rows);
        const int8_t *q = present ? i8_group(tile, rows, row0 + r, group) : NULL;
        int32_t sum = 0;
        for (int k = 0; k < I8_GROUP; k++) {
            wide[r][k] = present ? q[k] : 0;
            sum += wide[r][k];
        }
        scale[r] = present ? f16_to_f32(i8_scales(tile, rows, group)[row0 + r]) : 0;
        offset[r] = -ZERO * sum;
    }
    for (int k = 0; k < WORDS; k++)
        for (int r = 0; r < INT8_PANEL; r++)
            memcpy(word + k * INT8_PANEL + r, &wide[r][k * PER_WORD], sizeof *word);
}

static void pack_int8_panel(void *panel, const void *tile, int rows, int row0, int first,
                            int groups)
{
    for (int g = 0; g < groups; g++)
        pack_block((char *)panel + (size_t)g * BLOCK, tile, rows, row0, first + g);
}

/* ---- the product ---- */

/* One group of `n` pixels: `d` is added to, or set.  Inlined with constants. */
INLINE void one_group(float *d, size_t d_stride, const char *a, size_t a_bytes, size_t scale_at,
                      const char *w, int n, bool add)
{
    vi s[PIXELS][VECTORS];

    for (int p = 0; p < n; p++)
        for (int v = 0; v < VECTORS; v++)
            s[p][v] = load_int_words(w + (WORDS + 1) * INT8_PANEL * 4 + v * (int)sizeof(vi));
    for (int k = 0; k < WORDS; k++) {
        vi weights[VECTORS];
        for (int v = 0; v < VECTORS; v++)
            weights[v] = load_int_words(w + k * INT8_PANEL * 4 + v * (int)sizeof(vi));
        for (int p = 0; p < n; p++) {
            const vi pixel = splat_word(a + (size_t)p * a_bytes + k * 4);
            for (int v = 0; v < VECTORS; v++)
                s[p][v] = DOT(s[p][v], pixel, weights[v]);
        }
    }
    for (int p = 0; p < n; p++) {
        float scale;
        memcpy(&scale, a + (size_t)p * a_bytes + scale_at, sizeof scale);
        for (int v = 0; v < VECTORS; v++) {
            float *to = d + (size_t)p * d_stride + v * LANES;
            const vf by = load_floats(w + WORDS * INT8_PANEL * 4 + v * (int)sizeof(vf)) * scale;
            vf sum = __builtin_convertvector(s[p][v], vf) * by;
            if (add)
                sum += load_floats(to);
            memcpy(to, &sum, sizeof sum);
        }
    }
}

/* Groups [first, end) of `n` pixels. */
INLINE void some_groups(float *d, size_t d_stride, const char *a, size_t a_bytes, const char *panel,
                        int first, int end, int groups, int n, bool add)
{
    const size_t scales = (size_t)groups * I8_GROUP * sizeof(ELEMENT);
    for (int g = first; g < end; g++)
        one_group(d, d_stride, a + (size_t)g * I8_GROUP * sizeof(ELEMENT), a_bytes,
                  scales - (size_t)g * (I8_GROUP * sizeof(ELEMENT) - sizeof(float)),
                  panel + (size_t)g * BLOCK, n, add || g > 0);
}

static void one_panel(float *d, size_t d_stride, const char *a, size_t a_bytes, int pixels,
                      const char *panel, int groups, bool add)
{
    for (int g = 0; g < groups; g += GROUPS_AT_ONCE) {
        const int end = g + GROUPS_AT_ONCE < groups ? g + GROUPS_AT_ONCE : groups;
        int p = 0;
        for (; p + PIXELS <= pixels; p += PIXELS)
            some_groups(d + (size_t)p * d_stride, d_stride, a + (size_t)p * a_bytes, a_bytes, panel,
                        g, end, groups, PIXELS, add);
        for (; p < pixels; p++)
            some_groups(d + (size_t)p * d_stride, d_stride, a + (size_t)p * a_bytes, a_bytes, panel,
                        g, end, groups, 1, add);
    }
}

static void all_panels(float *d, size_t d_stride, const char *a, size_t a_bytes, int pixels,
                       const char *w, int panels, int groups, bool add)
{
    for (int i = 0; i < panels; i++)
        one_panel(d + (size_t)i * INT8_PANEL, d_stride, a, a_bytes, pixels,
                  w + (size_t)i * (size_t)groups * BLOCK, groups, add);
}

const int8_variant VARIANT = {
    .name = NAME,
    .element = sizeof(ELEMENT),
    .quantise = quantise_group,
    .pack = pack_int8_panel,
    .product = all_panels,
};
