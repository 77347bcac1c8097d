/* kernels/cpu/pool.h -- threads that share out numbered tasks.
 *
 * A run hands out 0, 1, 2, ... to whichever thread is free and returns when all are done.
 * Which thread gets which task is not determined; results must not depend on it.  The
 * caller does not compute.  One run at a time, from one thread.  Nothing is allocated after
 * opening.
 */
#ifndef REFINE_POOL_H
#define REFINE_POOL_H

#include <refine/status.h>

typedef struct pool pool;

/* thread: 0 .. pool_threads - 1, which scratch memory is whose. */
typedef void pool_task(void *context, int task, int thread);

/* threads: 0 = one per core this process may run on. */
pool *pool_open(int threads, refine_error *err);
void pool_close(pool *p); /* NULL is fine */
int pool_threads(const pool *p);
void pool_run(pool *p, int tasks, pool_task *f, void *context);

#endif
