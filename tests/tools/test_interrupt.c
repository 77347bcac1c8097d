/* tests/tools/test_interrupt.c -- a signal waits until there is nothing to clean up. */
#define _XOPEN_SOURCE 700
#include "tools/cli/interrupt.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

/* How a child ends that calls `body`. */
static int status_of(void (*body)(void))
{
    int status;
    const pid_t child = fork();
    cr_assert_geq(child, 0);
    if (child == 0) {
        body();
        _exit(0);
    }
    cr_assert_eq(waitpid(child, &status, 0), child);
    return status;
}

static void raise_while_held(int number)
{
    interrupt_hold();
    if (interrupt_pending())
        _exit(1);
    (void)kill(getpid(), number);
    if (!interrupt_pending())
        _exit(2);
    interrupt_release();
    _exit(3); /* not reached: the signal ends the process */
}

static void held_int(void) { raise_while_held(SIGINT); }
static void held_term(void) { raise_while_held(SIGTERM); }
static void held_hup(void) { raise_while_held(SIGHUP); }

Test(tools_interrupt, ends_the_process_at_release_and_not_before)
{
    static const struct {
        void (*body)(void);
        int number;
    } CASES[] = { { held_int, SIGINT }, { held_term, SIGTERM }, { held_hup, SIGHUP } };
    for (size_t i = 0; i < 3; i++) {
        const int status = status_of(CASES[i].body);
        cr_assert(WIFSIGNALED(status), "exit %d", WEXITSTATUS(status));
        cr_assert_eq(WTERMSIG(status), CASES[i].number);
    }
}

static void raise_while_ignored(void)
{
    (void)signal(SIGINT, SIG_IGN);
    interrupt_hold();
    (void)kill(getpid(), SIGINT);
    if (interrupt_pending())
        _exit(1);
    interrupt_release();
}

Test(tools_interrupt, what_the_parent_ignores_is_ignored)
{
    const int status = status_of(raise_while_ignored);
    cr_assert(WIFEXITED(status));
    cr_assert_eq(WEXITSTATUS(status), 0);
}

static void *get_pending_flag(void *out)
{
    *(bool *)out = interrupt_pending();
    return NULL;
}

static void from_a_thread(void)
{
    bool pending = false;
    pthread_t t;
    interrupt_hold();
    (void)kill(getpid(), SIGINT);
    if (pthread_create(&t, NULL, get_pending_flag, &pending) != 0 || pthread_join(t, NULL) != 0)
        _exit(1);
    _exit(pending ? 0 : 2);
}

Test(tools_interrupt, every_thread_sees_it)
{
    const int status = status_of(from_a_thread);
    cr_assert(WIFEXITED(status));
    cr_assert_eq(WEXITSTATUS(status), 0);
}
