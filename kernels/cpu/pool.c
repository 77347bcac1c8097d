/* kernels/cpu/pool.c -- a lock, two conditions and a counter.
 *
 *     idle --run--> working: tasks [next, tasks) not yet taken, `busy` threads still at it
 *     working --last thread finds no task left--> idle
 *
 * Tasks are taken without the lock; the lock orders everything written before pool_run
 * before the tasks, and everything the tasks wrote before its return.
 */
#include "kernels/cpu/pool.h"

#include "engine/base/mem.h"
#include "engine/base/process_limits.h"
#include "engine/base/thread.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum { COMPUTE_THREADS_MAX = 256 };

typedef struct pool_worker {
    pool *p;
    thread thread;
    int index;
} pool_worker;

struct pool {
    pthread_mutex_t lock;
    pthread_cond_t started, finished;
    uint64_t run; /* only grows */
    bool stop;
    int busy;
    int tasks;
    atomic_int next;
    pool_task *f;
    void *context;
    int threads; /* that were started */
    pool_worker worker[];
};

static void take_tasks(pool *p, int index)
{
    for (;;) {
        const int task = atomic_fetch_add_explicit(&p->next, 1, memory_order_relaxed);
        if (task >= p->tasks)
            return;
        p->f(p->context, task, index);
    }
}

static void run_worker(void *context)
{
    pool_worker *w = context;
    pool *p = w->p;
    uint64_t seen = 0;

    pthread_mutex_lock(&p->lock);
    for (;;) {
        while (p->run == seen && !p->stop)
            pthread_cond_wait(&p->started, &p->lock);
        if (p->stop)
            break;
        seen = p->run;
        pthread_mutex_unlock(&p->lock);
        take_tasks(p, w->index);
        pthread_mutex_lock(&p->lock);
        if (--p->busy == 0)
            pthread_cond_broadcast(&p->finished);
    }
    pthread_mutex_unlock(&p->lock);
}

static bool make_locks(pool *p)
{
    if (pthread_mutex_init(&p->lock, NULL) != 0)
        return false;
    if (pthread_cond_init(&p->started, NULL) != 0)
        goto no_started;
    if (pthread_cond_init(&p->finished, NULL) != 0)
        goto no_finished;
    return true;

no_finished:
    pthread_cond_destroy(&p->started);
no_started:
    pthread_mutex_destroy(&p->lock);
    return false;
}

pool *pool_open(int threads, refine_error *err)
{
    const int wanted = threads > 0 ? threads : process_cores("");
    const int n = wanted < COMPUTE_THREADS_MAX ? wanted : COMPUTE_THREADS_MAX;
    pool *p = mem_calloc(1, sizeof *p + (size_t)n * sizeof p->worker[0]);

    if (!p || !make_locks(p)) {
        mem_free(p);
        refine_fail(err, REFINE_ENOMEM, "compute threads: out of memory");
        return NULL;
    }
    for (; p->threads < n; p->threads++) {
        pool_worker *w = &p->worker[p->threads];
        *w = (pool_worker){ .p = p, .index = p->threads };
        if (!thread_start(&w->thread, "refine-compute", run_worker, w)) {
            refine_fail(err, REFINE_ENOMEM,
                        "compute threads: only %d of %d could be started; is the limit on "
                        "processes reached (ulimit -u)?",
                        p->threads, n);
            pool_close(p);
            return NULL;
        }
    }
    return p;
}

void pool_close(pool *p)
{
    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    p->stop = true;
    pthread_cond_broadcast(&p->started);
    pthread_mutex_unlock(&p->lock);
    for (int i = 0; i < p->threads; i++)
        thread_join(&p->worker[i].thread);
    pthread_cond_destroy(&p->finished);
    pthread_cond_destroy(&p->started);
    pthread_mutex_destroy(&p->lock);
    mem_free(p);
}

int pool_threads(const pool *p) { return p->threads; }

void pool_run(pool *p, int tasks, pool_task *f, void *context)
{
    pthread_mutex_lock(&p->lock);
    p->f = f;
    p->context = context;
    p->tasks = tasks;
    p->busy = p->threads;
    atomic_store_explicit(&p->next, 0, memory_order_relaxed);
    p->run++;
    pthread_cond_broadcast(&p->started);
    while (p->busy > 0)
        pthread_cond_wait(&p->finished, &p->lock);
    pthread_mutex_unlock(&p->lock);
}
