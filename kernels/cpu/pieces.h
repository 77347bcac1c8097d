/* kernels/cpu/pieces.h -- pixels (or queries) as pieces that one product takes each. */
#ifndef REFINE_PIECES_H
#define REFINE_PIECES_H

/* n - 1 pieces of `size` and one of `last`. */
typedef struct pieces {
    int n, size, last;
} pieces;

/* `length` as pieces of about so many, as even as can be. */
static inline pieces pieces_of(int length, int about)
{
    const int nearest = (length + about / 2) / about, n = nearest > 1 ? nearest : 1;
    const int size = (length + n - 1) / n;
    return (pieces){ n, size, length - (n - 1) * size };
}

/* Of units, super-blocks and tiles there are full ones and perhaps, at the end, a shorter. */
enum { FULL, TAIL };

#endif
