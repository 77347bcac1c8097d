/* kernels/cpu/blocks.h -- pixels in blocks that one product takes each. */
#ifndef REFINE_BLOCKS_H
#define REFINE_BLOCKS_H

/* n - 1 blocks of `size` and one of `last`; 0 < last <= size. */
typedef struct blocks {
    int n, size, last;
} blocks;

/* `length` > 0 as pieces of about so many, as even as can be. */
static inline blocks split_blocks(int length, int about)
{
    const int nearest = (length + about / 2) / about;
    const int size = nearest > 1 ? (length - 1) / nearest + 1 : length;
    const int n = (length - 1) / size + 1; /* fewer than wished for where size was rounded up */
    return (blocks){ n, size, length - (n - 1) * size };
}

/* Of units there are full ones and perhaps, at the end, a shorter. */
enum { FULL, TAIL };

#endif
