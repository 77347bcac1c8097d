/* tests/base/test_guard.c -- what touches memory that is shut ends there, if somebody watches. */
#include "engine/base/guard.h"
#include "tests/support/own_process.h"

#include <criterion/criterion.h>
#include <stdlib.h>

enum { BYTES = 640, SECONDS = 20 };

typedef struct region {
    const char *at;
    size_t bytes;
} region;

static bool touch_region(const void *context)
{
    const region *r = context;
    guard_touch(r->at, r->bytes);
    return false;
}

static bool is_touch_fatal(const char *at, size_t bytes)
{
    const region r = { at, bytes };
    return own_process_fails(touch_region, &r, SECONDS);
}

Test(base_guard, touching_is_reading_all_of_it)
{
    char *p = malloc(BYTES);
    cr_assert(p);
    cr_expect_not(is_touch_fatal(p, BYTES));
    cr_expect_not(is_touch_fatal(p + BYTES, 0));
    cr_expect_eq(is_touch_fatal(p, BYTES + 1), guard_watches());
    cr_expect_eq(is_touch_fatal(p - 1, 2), guard_watches());

    const bool shuts = GUARDED && guard_watches();
    guard_shut(p + 64, GUARD_ZONE);
    cr_expect_not(is_touch_fatal(p, 64));
    cr_expect_eq(is_touch_fatal(p, 65), shuts);
    cr_expect_eq(is_touch_fatal(p, BYTES), shuts, "what is shut lies in the middle");
    guard_open(p + 64, GUARD_ZONE);
    cr_expect_not(is_touch_fatal(p, BYTES));
    free(p);
}
