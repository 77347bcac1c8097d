/* tools/cli/interrupt.c -- blocked signals, and sigpending. */
#define _XOPEN_SOURCE 700
#include "tools/cli/interrupt.h"

#include <pthread.h>
#include <signal.h>
#include <stddef.h>

static const int SIGNALS[] = { SIGINT, SIGTERM, SIGHUP };

enum { N_SIGNALS = sizeof SIGNALS / sizeof SIGNALS[0] };

/* Those that would end the process.  A blocked signal becomes pending even where it is
 * ignored (nohup, a shell's background job), and must then not count. */
static sigset_t fatal_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    for (int i = 0; i < N_SIGNALS; i++) {
        struct sigaction now;
        if (sigaction(SIGNALS[i], NULL, &now) == 0 && now.sa_handler != SIG_IGN)
            sigaddset(&set, SIGNALS[i]);
    }
    return set;
}

void interrupt_hold(void)
{
    const sigset_t set = fatal_signals();
    (void)pthread_sigmask(SIG_BLOCK, &set, NULL);
}

void interrupt_release(void)
{
    const sigset_t set = fatal_signals();
    (void)pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

bool interrupt_let_through(void)
{
    const sigset_t set = fatal_signals();
    sigset_t before;
    bool held = false;
    if (pthread_sigmask(SIG_UNBLOCK, &set, &before) != 0)
        return false;
    for (int i = 0; i < N_SIGNALS; i++)
        held = held || sigismember(&before, SIGNALS[i]) == 1;
    return held;
}

bool interrupt_pending(void)
{
    const sigset_t set = fatal_signals();
    sigset_t waiting;
    if (sigpending(&waiting) != 0)
        return false;
    for (int i = 0; i < N_SIGNALS; i++)
        if (sigismember(&set, SIGNALS[i]) == 1 && sigismember(&waiting, SIGNALS[i]) == 1)
            return true;
    return false;
}
