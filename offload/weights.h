/* offload/weights.h -- where a forward pass gets its weights from.
 *
 * The engine acquires a chunk, computes with it and releases it.  Behind the two calls is either
 * the stream (offload/stream.h) or, in a dry run, a recorder that notes the order and returns
 * NULL.  Chunks are acquired in the order of the pack, segment by segment; several may be held at
 * once (one layer's), and they are released in the order they were acquired.
 */
#ifndef REFINE_WEIGHTS_H
#define REFINE_WEIGHTS_H

#include <stddef.h>

typedef struct weights weights;

struct weights {
    /* Device address of the chunk's decoded bytes, borrowed until it is released; NULL after a
     * failure (which is then in the device) or in a dry run. */
    const void *(*acquire)(weights *w, int chunk);
    void (*release)(weights *w, int chunk);
};

#endif
