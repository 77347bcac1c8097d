/* tests/kernels/test_pieces.c -- pixels as pieces, for every length there may be. */
#include "kernels/cpu/blocks.h"

#include <criterion/criterion.h>

static void expect_whole(int length, int about)
{
    const blocks p = split_blocks(length, about);
    cr_assert(p.n > 0 && p.last > 0 && p.last <= p.size, "%d about %d: %d of %d, %d", length, about,
              p.n, p.size, p.last);
    cr_assert((p.n - 1) * p.size + p.last == length, "%d about %d", length, about);
    cr_assert(2 * p.size <= 3 * about || p.n == 1, "%d about %d: %d", length, about, p.size);
}

Test(kernels_blocks, cover_every_length_once)
{
    const int about[] = { 1, 7, 128, 512 };
    for (int i = 0; i < 4; i++)
        for (int length = 1; length <= 300000; length++)
            expect_whole(length, about[i]);
}
