/* tests/base/test_thread.c -- a thread starts, or says that it did not. */
#include "engine/base/thread.h"

#include "engine/base/mem.h"

#include <criterion/criterion.h>
#include <stdatomic.h>

static void count_thread_run(void *context) { atomic_fetch_add((atomic_int *)context, 1); }

Test(base_thread, it_runs_its_body_once)
{
    atomic_int n = 0;
    thread t[8];
    for (int i = 0; i < 8; i++)
        cr_assert(thread_start(&t[i], "test", count_thread_run, &n));
    for (int i = 0; i < 8; i++)
        thread_join(&t[i]);
    cr_assert_eq(atomic_load(&n), 8);
    cr_assert_eq(mem_used().now, 0);
}

Test(base_thread, a_start_fails_where_memory_does)
{
    atomic_int n = 0;
    thread t;
    mem_fail_after(0, MEM_FAIL_ONCE);
    cr_assert_not(thread_start(&t, "test", count_thread_run, &n));
    thread_join(&t); /* never started: fine */
    cr_assert(thread_start(&t, "test", count_thread_run, &n));
    thread_join(&t);
    thread_join(&t);
    cr_assert_eq(atomic_load(&n), 1);
}

static void get_mem_allowed(void *allowed) { *(bool *)allowed = mem_allow(false); }

Test(base_thread, a_thread_may_take_no_memory)
{
    bool allowed = true;
    thread t;
    cr_assert(thread_start(&t, "test", get_mem_allowed, &allowed));
    thread_join(&t);
    cr_expect_not(allowed);
    cr_expect(mem_allow(true), "of the one that started it");
}
