/* kernels/cpu/int8.h -- products of int8 groups: integers inside a group, floats outside.
 *
 *     D[p][r] (+)= sum over groups g of
 *                      (sw[g][r] * sa[p][g]) * (sum over k < 64 of qa[p][g][k] * qw[g][r][k])
 *
 * Weights come quantised (quant/int8.h); activations are quantised here, each pixel in groups
 * of 64 channels by its largest magnitude.  So an outlier costs only its own group precision,
 * and every tap of a convolution may read another pixel's scales: they all meet the sum at
 * the end of a group.  The inner sum is exact on every CPU (below 2^20), the outer one is
 * done in the order of g with one rounding per operation: all variants give the same bits.
 *
 * One body (int8_body.h) serves them all.  What an operand element is, is the variant's own:
 * s16 where the CPU multiplies pairs of 16 bits, u8 = q + 128 against s8 where it multiplies
 * quadruples of bytes (the 128s are taken back by `offset`).
 *
 *     pixel  = element q[groups][64] | float sa[groups]
 *     panel  = groups x { word qw[64 / per_word][16 rows] | float sw[16] | int32 offset[16] }
 *     word   = the per_word elements of one row that one instruction multiplies, 4 bytes
 */
#ifndef REFINE_CPU_INT8_H
#define REFINE_CPU_INT8_H

#include "quant/int8.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { INT8_PANEL = 16 }; /* rows */

typedef struct int8_variant {
    const char *name;
    int element; /* bytes */

    /* One group of 64 channels; returns its scale. */
    float (*quantise)(void *q, const float *v);

    /* Rows [row0, row0 + INT8_PANEL) of `groups` groups of a tile that has `rows` rows, from
     * group `first` on, as a panel; rows beyond the tile's are zero. */
    void (*pack)(void *panel, const void *tile, int rows, int row0, int first, int groups);

    /* `panels` consecutive panels times `pixels` pixels that lie a_bytes apart; D's pixels lie
     * d_stride floats apart. */
    void (*product)(float *d, size_t d_stride, const char *a, size_t a_bytes, int pixels,
                    const char *w, int panels, int groups, bool add);
} int8_variant;

/* The fastest this CPU can run. */
const int8_variant *int8_pick(void);

/* Variant number i, or NULL behind the last; *runs says whether this CPU can. */
const int8_variant *int8_nth(int i, bool *runs);

static inline size_t int8_panel_bytes(const int8_variant *v, int groups)
{
    const size_t words = (size_t)(I8_GROUP * v->element) / 4;
    return (size_t)groups * INT8_PANEL * (words + 2) * 4;
}

static inline size_t int8_pixel_bytes(const int8_variant *v, int groups)
{
    return (size_t)groups * (size_t)(I8_GROUP * v->element + 4);
}

#endif
