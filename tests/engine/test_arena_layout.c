/* tests/engine/test_arena_layout.c -- parts follow each other, and phases overlay the region. */
#include "engine/plan/arena_layout.h"

#include <criterion/criterion.h>

enum { ZONE = 256, RING = 4096, VECTORS = 1000 };

static const phase_sizes SIZES = {
    .encode = 512, .text = 1024, .unet = 8192, .decode = 20480, .workspace = 768
};

static arena_layout layout_with(size_t residents, size_t zone)
{
    return arena_layout_make(VECTORS, zone, &SIZES, RING, residents);
}

Test(engine_arena_layout, a_part_begins_where_the_one_before_it_and_its_zone_end)
{
    const arena_layout a = layout_with(0, ZONE);
    cr_expect_eq(arena_ring_at(&a), 1024 + ZONE);
    cr_expect_eq(arena_workspace_at(&a), arena_ring_at(&a) + RING + ZONE);
    cr_expect_eq(arena_region_at(&a), arena_workspace_at(&a) + 768 + ZONE);
    cr_expect_eq(a.bytes, arena_region_at(&a) + a.region + ZONE);
    cr_expect_eq(layout_with(0, 0).bytes, a.bytes - 4 * ZONE);
}

Test(engine_arena_layout, residents_lie_behind_the_phases_and_decoding_over_them)
{
    const size_t room = SIZES.decode - SIZES.unet;
    cr_expect_eq(layout_with(0, 0).residents_at, SIZES.unet);
    cr_expect_eq(layout_with(room, 0).bytes, layout_with(0, 0).bytes);
    cr_expect_eq(layout_with(room + 256, 0).bytes, layout_with(0, 0).bytes + 256);
}

Test(engine_arena_layout, residents_lie_behind_whichever_phase_is_the_largest)
{
    const phase_sizes sizes[] = { { .encode = 512 }, { .text = 512 }, { .unet = 512 } };
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        cr_expect_eq(arena_layout_make(0, 0, &sizes[i], RING, 0).residents_at, 512);
}

Test(engine_arena_layout, what_there_is_room_for_fits_and_no_more)
{
    const arena_layout bare = layout_with(0, ZONE);
    for (uint64_t limit = bare.bytes; limit < bare.bytes + 4096; limit += 256) {
        const size_t room = (size_t)arena_layout_room(&bare, limit);
        cr_expect_leq(layout_with(room, ZONE).bytes, limit);
        cr_expect_gt(layout_with(room + 256, ZONE).bytes, limit);
    }
}
