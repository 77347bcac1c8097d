/* tests/base/test_mem.c -- memory is taken only where it may be. */
#include "engine/base/mem.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <string.h>

Test(base_mem, a_thread_that_may_not_allocate_may_again)
{
    cr_expect(mem_allow(false));
    cr_expect_not(mem_allow(true));
    void *p = mem_alloc(1);
    cr_expect_not_null(p);
    cr_expect(mem_allow(false));
    mem_free(p);
    cr_expect_not(mem_allow(true));
}

Test(base_mem, taking_memory_where_it_is_not_allowed_is_our_bug, .signal = SIGABRT)
{
    (void)mem_allow(false);
    (void)mem_calloc(1, 1);
}

Test(base_mem, so_is_mapping_it, .signal = SIGABRT)
{
    (void)mem_allow(false);
    (void)mem_map(1);
}

Test(base_mem, says_whether_a_fault_was_still_to_come)
{
    cr_expect_not(mem_fail_after(1, MEM_FAIL_ONCE), "there was none");
    void *p = mem_alloc(1);
    cr_expect_not_null(p);
    cr_expect(mem_fail_after(0, MEM_FAIL_ONCE), "it was the next");
    cr_expect_null(mem_alloc(1));
    cr_expect_not(mem_fail_after(-1, MEM_FAIL_ONCE), "it struck");
    mem_free(p);
}

Test(base_mem, an_array_grows_when_it_is_full_and_keeps_what_it_holds)
{
    size_t room = 0;
    int *list = NULL;
    for (size_t n = 0; n < 1000; n++) {
        const size_t before = room;
        const uint64_t calls = mem_used().calls;
        list = mem_grow(list, n, &room, sizeof *list);
        cr_assert_not_null(list);
        cr_expect_gt(room, n);
        cr_expect(n < before ? room == before && mem_used().calls == calls
                             : room >= 2 * before && mem_used().calls == calls + 1);
        list[n] = (int)n;
    }
    for (int i = 0; i < 1000; i++)
        cr_expect_eq(list[i], i);
    cr_expect_eq(mem_used().now, room * sizeof *list);
    mem_free(list);
    cr_expect_eq(mem_used().now, 0u);
}

Test(base_mem, an_array_that_cannot_grow_stays_as_it_was)
{
    size_t room = 0;
    char *list = mem_grow(NULL, 0, &room, 3);
    const size_t had = room;
    memset(list, 7, 3 * room);
    mem_fail_after(0, MEM_FAIL_ONCE);
    cr_expect_null(mem_grow(list, room, &room, 3));
    cr_expect_eq(room, had);
    for (size_t i = 0; i < 3 * room; i++)
        cr_expect_eq(list[i], 7);
    room = SIZE_MAX / 2 + 1;
    cr_expect_null(mem_grow(list, room, &room, 1), "twice the room is no number");
    room = SIZE_MAX / 8;
    cr_expect_null(mem_grow(list, room, &room, 8), "nor are its bytes");
    cr_expect_eq(room, SIZE_MAX / 8);
    mem_free(list);
}
