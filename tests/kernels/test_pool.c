/* tests/kernels/test_pool.c -- every task once, by a thread that is alone with its number. */
#include "kernels/cpu/pool.h"

#include "engine/base/mem.h"

#include <criterion/criterion.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum { TASKS = 5000, THREADS = 4 };

typedef struct share_tally {
    int done[TASKS];
    atomic_int inside[THREADS];
    atomic_int clashes;
} share_tally;

static void count_pool_task(void *context, int task, int thread)
{
    share_tally *t = context;
    if (atomic_fetch_add(&t->inside[thread], 1) != 0)
        atomic_fetch_add(&t->clashes, 1);
    t->done[task]++;
    atomic_fetch_sub(&t->inside[thread], 1);
}

static pool *open_pool(int threads)
{
    refine_error err = { 0 };
    pool *p = pool_open(threads, &err);
    cr_assert(p, "%s", err.text);
    return p;
}

Test(kernels_pool, does_every_task_once)
{
    for (int threads = 1; threads <= THREADS; threads++) {
        static share_tally t;
        t = (share_tally){ .clashes = 0 };
        pool *p = open_pool(threads);
        cr_assert(pool_threads(p) == threads);
        pool_run(p, TASKS, count_pool_task, &t);
        for (int i = 0; i < TASKS; i++)
            cr_assert(t.done[i] == 1, "task %d", i);
        cr_expect(atomic_load(&t.clashes) == 0);
        pool_close(p);
    }
}

Test(kernels_pool, sees_what_was_written_before_a_run_and_shows_what_tasks_wrote)
{
    static share_tally t;
    pool *p = open_pool(THREADS);
    for (int round = 1; round <= 300; round++) {
        pool_run(p, round, count_pool_task, &t);
        cr_assert(t.done[0] == round && t.done[round - 1] == 1);
    }
    pool_run(p, 0, count_pool_task, &t);
    cr_expect(t.done[0] == 300);
    pool_close(p);
}

Test(kernels_pool, takes_as_many_threads_as_there_are_cores_by_default)
{
    pool *p = open_pool(0);
    cr_expect(pool_threads(p) >= 1);
    pool_close(p);
}

Test(kernels_pool, allocates_nothing_while_it_runs)
{
    static share_tally t;
    pool *p = open_pool(2);
    pool_run(p, 10, count_pool_task, &t);
    const uint64_t calls = mem_used().calls;
    for (int i = 0; i < 100; i++)
        pool_run(p, 10, count_pool_task, &t);
    cr_expect(mem_used().calls == calls);
    pool_close(p);
}

Test(kernels_pool, survives_every_failure_to_open)
{
    for (int k = 0; k < 1 + THREADS; k++) {
        refine_error err = { 0 };
        const uint64_t before = mem_used().now;
        mem_fail_after(k, MEM_FAIL_ONCE);
        cr_expect(pool_open(THREADS, &err) == NULL);
        mem_fail_after(-1, MEM_FAIL_ONCE);
        cr_expect(err.status == REFINE_ENOMEM && err.text[0]);
        cr_expect(mem_used().now == before, "allocation %d", k);
    }
    pool_close(NULL);
}
