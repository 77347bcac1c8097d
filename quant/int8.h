/* quant/int8.h -- symmetric int8 in groups of 64 along K, with fp16 scales.
 *
 *     weight[r][k] ~ scale[r][k / 64] * q[r][k],      q in [-127, 127]
 *
 * K = taps * channels, channels innermost; a group never spans two taps.  A matrix is stored
 * as its tiles (kernels/tensor.h: 128 or 64 rows, the last may have fewer), one behind the
 * other; a tile is its slabs, one per group in the order of k:
 *
 *     slab = int8 q[rows][64] | fp16 scale[rows]
 *
 * where `rows` is rounded up to a multiple of 8, and the channels of every tap to one of 64;
 * what is added is zero, scales too.  So a slab is one dense block of 66 * rows bytes,
 * 16-byte aligned, that a tensor core's k-loop takes in one copy: 64 k of every row of the
 * tile, and the scales that end the loop's inner half.
 *
 * q * scale is exact in float: 7 bits times 11.
 */
#ifndef REFINE_INT8_H
#define REFINE_INT8_H

#include <stddef.h>
#include <stdint.h>

enum { I8_GROUP = 64, I8_ROW_ALIGN = 8, I8_MAX = 127 };

/* Rows as stored. */
static inline int i8_rows(int rows)
{
    return (rows + I8_ROW_ALIGN - 1) / I8_ROW_ALIGN * I8_ROW_ALIGN;
}

/* Slabs of a tap. */
static inline int i8_slabs(int channels) { return (channels + I8_GROUP - 1) / I8_GROUP; }

static inline size_t i8_slab_bytes(int rows)
{
    return (size_t)i8_rows(rows) * (I8_GROUP + sizeof(uint16_t));
}

/* Bytes of a tile of `rows` rows; or of any number of whole tiles that have so many rows. */
static inline size_t i8_bytes(int rows, int taps, int channels)
{
    return (size_t)taps * (size_t)i8_slabs(channels) * i8_slab_bytes(rows);
}

/* Where group `slab` of row `row` lies in a tile of `rows` rows, and the scales of a slab. */
static inline const int8_t *i8_group(const void *tile, int rows, int row, int slab)
{
    return (const int8_t *)tile + (size_t)slab * i8_slab_bytes(rows) + (size_t)row * I8_GROUP;
}

static inline const uint16_t *i8_scales(const void *tile, int rows, int slab)
{
    return (const uint16_t *)(const void *)i8_group(tile, rows, i8_rows(rows), slab);
}

/* 64 weights of one group.  Like all below it uses the CPU's instructions where it has them,
 * and gives the bits of plain C. */
void i8_decode_group(float *dst, const int8_t *q, uint16_t scale);

typedef enum i8_search {
    I8_ABSMAX, /* scale = largest magnitude / 127 */
    I8_MIN   /* the scale that leaves the least squared error of the group */
} i8_search;

/* What coding lost: sums of squares. */
typedef struct i8_error {
    double signal, noise;
} i8_error;

/* Signal over noise in dB; INFINITY where nothing was lost. */
double i8_sqnr(i8_error e);

/* Encodes a tile: `w` is rows x taps x channels, dense; `tile` holds i8_bytes(...).  Adds what
 * was lost to *lost.  The weights are finite and within fp16's range; what of them is far
 * below fp16's smallest may become zero. */
void i8_encode_tile(void *tile, const float *w, int rows, int taps, int channels, i8_search how,
                    i8_error *lost);

/* The same in plain C, to compare with. */
void i8_encode_tile_plain(void *tile, const float *w, int rows, int taps, int channels,
                          i8_search how, i8_error *lost);

#endif
