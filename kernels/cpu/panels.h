/* kernels/cpu/panels.h -- weights (and keys and values) as a product wants them.
 *
 * The layout is kernels/cpu/gemm.h's: panels of rows, k outermost inside.  Rows and k beyond
 * the source's are filled with zeros.
 */
#ifndef REFINE_PANELS_H
#define REFINE_PANELS_H

#include "kernels/cpu/gemm.h"
#include "kernels/cpu/vec.h"

/* A matrix of any type: element (r, k) lies r * stride + k elements behind `data`.  Of
 * DT_I8G64 it is the groups from `slab` on of the rows of a tile (quant/int8.h). */
typedef struct pack_source {
    const void *data;
    dtype type;
    size_t stride;
    int slab;
    int rows, k;
} pack_source;

/* A tile of a matrix, as the pack holds it. */
typedef struct pack_tile {
    const void *data;
    dtype type;
    int rows, taps, channels;
} pack_tile;

/* Channels [c0, c0 + n) of one of its taps; c0 is a multiple of I8_GROUP. */
pack_source pack_source_of(pack_tile t, int tap, int c0, int n);

/* One panel: rows [row, row + GEMM_PANEL) of the source, k elements of each. */
void pack_panel(const gemm *g, const vec *v, void *panel, int row, int k, pack_source s);

/* All `rows` rows, k elements of each, of the transposed source: W[r][k] = source[k][r].  Both are
 * multiples of GEMM_ALIGN. */
void pack_transposed(const gemm *g, void *w, int rows, int k, pack_source s);

#endif
