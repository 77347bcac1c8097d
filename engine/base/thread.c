/* engine/base/thread.c -- starting a thread, in a way that a test can make fail. */
#define _GNU_SOURCE /* pthread_setname_np */
#include "engine/base/thread.h"

#include "engine/base/mem.h"

#include <signal.h>

struct thread_record {
    void (*body)(void *);
    void *context;
};
typedef struct thread_record thread_record;

static void *run_thread_body(void *record)
{
    const thread_record *s = record;
    (void)mem_allow(false);
    s->body(s->context);
    return NULL;
}

/* Signals are the business of the program's own threads. */
static bool create_thread(pthread_t *id, thread_record *s)
{
    sigset_t all, before;
    (void)sigfillset(&all);
    if (pthread_sigmask(SIG_SETMASK, &all, &before) != 0)
        return false;
    const bool ok = pthread_create(id, NULL, run_thread_body, s) == 0;
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return ok;
}

bool thread_start(thread *t, const char *name, void (*body)(void *), void *context)
{
    t->running = false;
    thread_record *s = mem_alloc(sizeof *s);
    if (!s)
        return false;
    *s = (thread_record){ body, context };
    if (!create_thread(&t->id, s)) {
        mem_free(s);
        return false;
    }
    (void)pthread_setname_np(t->id, name);
    t->running = true;
    t->record = s; /* kept: memory in use then does not depend on who runs first */
    return true;
}

void thread_join(thread *t)
{
    if (!t->running)
        return;
    (void)pthread_join(t->id, NULL);
    mem_free(t->record);
    t->running = false;
}
