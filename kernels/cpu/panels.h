/* kernels/cpu/panels.h -- weights (and keys and values) as a product wants them.
 *
 * The layout is kernels/cpu/onednn.h's: panels of rows, k outermost inside.  Rows and k
 * beyond the source's are filled with zeros.
 */
#ifndef REFINE_PANELS_H
#define REFINE_PANELS_H

#include "kernels/cpu/onednn.h"
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

/* Tap `tap` of a tile of a matrix, as the pack holds it. */
pack_source pack_source_tap(const void *tile, dtype type, int rows, int taps, int channels,
                            int tap);

/* Panel number `panel` of W = source, into the whole W at `w`. */
void pack_panel(const vec *v, product_layout l, dtype multiply, void *w, int panel, pack_source s);

/* All of W = transposed source: W[r][k] = source[k][r].  `row` holds l.rows floats per k of a
 * group, that is l.group * l.rows. */
void pack_transposed(product_layout l, dtype multiply, void *w, pack_source s, float *row);

static inline int pack_panels(product_layout l) { return l.rows / l.panel; }

#endif
