/* kernels/cpu/onednn.h -- the one thing we want of oneDNN: a product of fixed shape.
 *
 *     D[p][r] (+)= sum over k of A[p][k] W[r][k]        p < pixels, r < rows
 *
 * A and D are dense; A and W are of the multiplied type (F32, or BF16 where the CPU
 * multiplies it), D is F32.  W lies as the library asks: in panels of `panel` rows,
 *
 *     W[r][k] = panels[r / panel][k / group][r % panel][k % group]
 *
 * `rows` and `k` of a product are multiples of PRODUCT_ALIGN; in W they may be padded
 * further, with zeros.  A product is always computed by one thread, in an order that
 * depends on its shape alone.
 *
 * Products are made on first use and kept.  onednn_product and onednn_make_room belong to
 * one thread at a time and must not run beside product_run, which may run in several
 * threads, each prepared by onednn_thread.  Everything that differs between versions 2
 * and 3 of the library is in onednn.c.
 */
#ifndef REFINE_ONEDNN_H
#define REFINE_ONEDNN_H

#include "engine/base/status.h"
#include "kernels/tensor.h"

#include <stdbool.h>
#include <stddef.h>

enum { PRODUCT_ALIGN = 16 };

typedef struct onednn onednn;
typedef struct product product;

typedef struct product_shape {
    int pixels, k, rows;
    bool add; /* D += instead of D = */
} product_shape;

typedef struct product_layout {
    int panel, group;
    int rows, k;  /* of W, as padded */
    size_t bytes; /* of all of W */
} product_layout;

void onednn_thread(void);

/* multiply: the type wanted; what it became is onednn_type. */
onednn *onednn_open(dtype multiply, int threads, refine_error *err);
void onednn_close(onednn *o); /* NULL is fine */
dtype onednn_type(const onednn *o);

/* Makes sure that the next `products` new shapes fit the table, emptying it if need be:
 * what onednn_product returned before may then be gone. */
void onednn_make_room(onednn *o, int products);

/* The product of a shape; NULL when the library refuses or memory is out. */
const product *onednn_product(onednn *o, product_shape s);

product_layout product_weights(const product *p);
size_t product_scratch(const product *p); /* bytes product_run needs, 64-aligned */

/* thread: one of `threads`, each used by one thread at a time.  False: the library failed. */
bool product_run(const product *p, int thread, float *d, const void *a, const void *w,
                 void *scratch);

#endif
