/* tests/engine/test_arena.c -- a byte written between the parts of the arena is found. */
#include "engine/arena.h"

#include "engine/base/guard.h"
#include "tests/support/field.h"

#include <criterion/criterion.h>
#include <string.h>

static const arena_layout LAYOUT = {
    .vectors = 256, .workspace = 512, .ring = 1024, .region = 2048, .zone = GUARD_MAX
};
enum { BYTES = 256 + 512 + 1024 + 2048 + 4 * GUARD_MAX };

static char arena[BYTES];

/* What is found when byte `at` is written. */
static const char *arena_fault_at(dev *d, size_t at)
{
    arena_guard(d, &LAYOUT, arena);
    arena_check(d, &LAYOUT, arena);
    cr_assert_eq(dev_status(d), REFINE_OK, "%s", dev_why(d));
    arena[at] ^= 1;
    arena_check(d, &LAYOUT, arena);
    return dev_why(d);
}

static void expect_arena_fault(size_t at, const char *what)
{
    dev *d = field_ref();
    cr_expect_str_eq(arena_fault_at(d, at), what);
    cr_expect_eq(dev_status(d), what[0] ? REFINE_EDEVICE : REFINE_OK);
    dev_close(d);
}

Test(engine_arena, a_byte_behind_any_part_is_found)
{
    expect_arena_fault(256, "the arena: byte 0 behind the vectors was written");
    expect_arena_fault(arena_workspace_at(&LAYOUT) + 512 + 255,
                       "the arena: byte 255 behind the workspace was written");
    expect_arena_fault(arena_ring_at(&LAYOUT) + 1024,
                       "the arena: byte 0 behind the ring was written");
    expect_arena_fault(BYTES - 1, "the arena: byte 255 behind the region was written");
}

Test(engine_arena, the_parts_themselves_are_free)
{
    expect_arena_fault(0, "");
    expect_arena_fault(arena_workspace_at(&LAYOUT), "");
    expect_arena_fault(arena_ring_at(&LAYOUT) + 1023, "");
    expect_arena_fault(arena_region_at(&LAYOUT) + 2047, "");
}
