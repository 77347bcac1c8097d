/* tests/support/own_process.c -- fork, and see how it ends. */
#define _POSIX_C_SOURCE 200809L

#include "tests/support/own_process.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

bool own_process_fails(bool (*deed)(const void *context), const void *context, unsigned seconds)
{
    int status = 0;
    const pid_t child = fork();
    cr_assert_geq(child, 0);
    if (child == 0) {
        signal(SIGSEGV, SIG_DFL);
        signal(SIGABRT, SIG_DFL);
        signal(SIGALRM, SIG_DFL);
        (void)alarm(seconds);
        (void)dup2(open("/dev/null", O_WRONLY), STDERR_FILENO);
        _exit(deed(context));
    }
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert_not(WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM, "stands still");
    return !WIFEXITED(status) || WEXITSTATUS(status) != 0;
}
