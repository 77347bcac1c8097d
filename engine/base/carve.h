/* engine/base/carve.h -- a region cut into blocks, by the function that says how large it must be.
 *
 * A walk takes the blocks of a plan one after the other, always in one order and of one size:
 *
 *     static void lay_out(carver *c, void *plan)
 *     {
 *         matrix_plan *p = plan;
 *         p->packed = carve_block(c, p->packed_bytes);
 *         p->threads = carve_each(c, p->n_threads, lay_out_worker, &(worker){ .p = p });
 *     }
 *
 * Counted it says the bytes, over a region it hands out the addresses: size and layout cannot
 * disagree.  Workers that share a plan find the blocks of their own part by walking it again:
 *
 *     worker w = { .p = p };
 *     carver c = carve_part(p->threads, thread);
 *     lay_out_worker(&c, &w);
 *
 * Guarded builds (engine/base/guard.h) put a zone before the first block and behind each, which
 * takes in what aligning left over.  Between carve_cut and carve_check nobody may touch a zone.
 */
#ifndef REFINE_CARVE_H
#define REFINE_CARVE_H

#include "engine/base/guard.h"

enum { CARVE_ALIGN = 64 };

/* The first byte beside a block that was written: byte `at` of block number `block`, which has
 * `bytes`; negative: before it.  block is -1 when there is none. */
typedef struct carve_fault {
    int block;
    size_t bytes;
    ptrdiff_t at;
} carve_fault;

typedef enum { CARVE_ADDRESSES, CARVE_CUT, CARVE_CHECK } carve_zones;

typedef struct carver {
    char *base; /* NULL: blocks are only counted */
    size_t at;
    carve_zones zones; /* what becomes of them */
    int blocks;        /* so far */
    carve_fault fault;
} carver;

typedef void carve_walk(carver *c, void *plan);

void *carve_block(carver *c, size_t bytes); /* CARVE_ALIGN-aligned; NULL while counting */

/* n parts of one shape, each walked by `part`. */
typedef struct carve_parts {
    char *first;
    size_t bytes; /* of one */
} carve_parts;

carve_parts carve_each(carver *c, int n, carve_walk *part, void *plan);
carver carve_part(carve_parts p, int i); /* hands out addresses and does nothing else */

size_t carve_bytes(carve_walk *walk, void *plan);
/* region: CARVE_ALIGN-aligned, of carve_bytes. */
void carve_cut(carve_walk *walk, void *plan, void *region);
carve_fault carve_check(carve_walk *walk, void *plan, void *region);

#endif
