/* tests/base/test_mem.c -- memory is taken only where it may be. */
#include "engine/base/mem.h"

#include <criterion/criterion.h>
#include <signal.h>

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
