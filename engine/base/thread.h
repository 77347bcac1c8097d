/* engine/base/thread.h -- starting a thread, in a way that a test can make fail.
 *
 * A start takes a few bytes from engine/base/mem.h.  Where memory fails the start
 * fails, so a test that fails the k-th allocation (mem_fail_after) fails every
 * thread's start in its turn as well.
 */
#ifndef REFINE_THREAD_H
#define REFINE_THREAD_H

#include <pthread.h>
#include <stdbool.h>

typedef struct thread {
    pthread_t id;
    bool running; /* started and not yet joined; false in a zeroed struct */
    struct thread_record *record;
} thread;

/* Runs body(context) in a new thread that blocks every signal, may allocate nothing (mem_allow)
 * and is known to the system as `name` (at most 15 letters).  False: no memory, or no thread to be
 * had. */
bool thread_start(thread *t, const char *name, void (*body)(void *), void *context);

/* Waits for its end.  A thread that never started is fine. */
void thread_join(thread *t);

#endif
