/* offload/weights.h -- where a forward pass gets its weights from.
 *
 * The engine enters a chunk, computes with it, leaves it.  Behind the two calls is
 * either the stream (offload/stream.h) or, while planning, a recorder that notes
 * the order and returns NULL.  Chunks are entered and left in the order of the
 * pack, segment by segment; several may be inside at once (one layer's), and they
 * are left in the order they were entered.
 */
#ifndef REFINE_WEIGHTS_H
#define REFINE_WEIGHTS_H

#include <stddef.h>

typedef struct weights weights;

struct weights {
    /* Device address of the chunk's decoded bytes, borrowed until leave; NULL after a
     * failure (which is then in the device) or while planning. */
    const void *(*acquire)(weights *w, int chunk);
    void (*release)(weights *w, int chunk);
};

#endif
