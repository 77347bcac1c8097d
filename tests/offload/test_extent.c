/* tests/offload/test_extent.c -- a read is whole, or has failed. */
#include "offload/extent.h"

#include "offload/pack_format.h"

#include <criterion/criterion.h>
#include <errno.h>

static extent make_fresh_extent(void) { return (extent){ .ticket = 9, .bytes = 8 * PACK_ALIGN }; }

Test(offload_extent, all_bytes_at_once_are_done)
{
    extent e = make_fresh_extent();
    read_done d;
    cr_assert(extent_advance(&e, 8 * PACK_ALIGN, &d));
    cr_assert_eq(d.ticket, 9);
    cr_assert_eq(d.status, REFINE_OK);
}

Test(offload_extent, a_short_read_goes_on_at_a_whole_block)
{
    extent e = make_fresh_extent();
    read_done d;
    cr_assert_not(extent_advance(&e, 3 * PACK_ALIGN + 100, &d));
    cr_assert_eq(e.done, 3 * PACK_ALIGN);
    cr_assert_not(extent_advance(&e, 2 * PACK_ALIGN, &d));
    cr_assert_eq(e.done, 5 * PACK_ALIGN);
    cr_assert(extent_advance(&e, 3 * PACK_ALIGN, &d));
    cr_assert_eq(d.status, REFINE_OK);
}

Test(offload_extent, less_than_a_block_is_the_end_of_the_file)
{
    for (ssize_t n = 0; n < PACK_ALIGN; n += 1000) {
        extent e = make_fresh_extent();
        read_done d;
        cr_assert_not(extent_advance(&e, PACK_ALIGN, &d));
        cr_assert(extent_advance(&e, n, &d));
        cr_assert_eq(d.status, REFINE_EIO);
        cr_assert_eq(d.error, 0);
    }
}

Test(offload_extent, an_error_is_final_and_keeps_its_number)
{
    extent e = make_fresh_extent();
    read_done d;
    cr_assert(extent_advance(&e, -ENOSPC, &d));
    cr_assert_eq(d.status, REFINE_EIO);
    cr_assert_eq(d.error, ENOSPC);
}

Test(offload_extent, interruptions_are_tried_again_but_not_for_ever)
{
    extent e = make_fresh_extent();
    read_done d;
    for (int i = 0; i < 500; i++)
        cr_assert_not(extent_advance(&e, i % 2 ? -EINTR : -EAGAIN, &d));
    cr_assert_not(extent_advance(&e, PACK_ALIGN, &d));
    int tries = 1;
    while (!extent_advance(&e, -EINTR, &d))
        cr_assert_lt(++tries, 100000);
    cr_assert_eq(d.status, REFINE_EIO);
    cr_assert_eq(d.error, EINTR);
}
