/* tools/cli/program.c -- limits that must not kill, and the last look at standard output. */
#define _XOPEN_SOURCE 700
#include "tools/cli/program.h"

#include "tools/cli/exit_code.h"
#include "tools/cli/interrupt.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* Opened the wrong way round: use of a closed stream stays an error. */
static void fill_closed_streams(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 &&
            open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) != fd)
            return;
}

/* Threads have stacks of that size too. */
static bool has_stack(const char *program)
{
    enum { KIB = 1024, LEAST = 256 * KIB };
    struct rlimit s;
    if (getrlimit(RLIMIT_STACK, &s) != 0 || s.rlim_cur >= LEAST)
        return true;
    (void)fprintf(stderr, "%s: stacks may have %llu KiB; %d are needed: ulimit -s\n", program,
                  (unsigned long long)s.rlim_cur / KIB, LEAST / KIB);
    return false;
}

bool program_begin(const char *program)
{
    fill_closed_streams();
    (void)signal(SIGXFSZ, SIG_IGN);
    return has_stack(program);
}

/* What failed earlier has left its mark on the stream, and was reported if `code` says so. */
static bool flush_stdout(int code, const char *program)
{
    errno = 0;
    if (fflush(stdout) == 0 && !ferror(stdout))
        return true;
    if (code == EXIT_DONE)
        (void)fprintf(stderr, "%s: standard output: cannot be written%s%s\n", program,
                      errno ? ": " : "", errno ? strerror(errno) : "");
    return false;
}

int program_end(const char *program, int code)
{
    if (!flush_stdout(code, program) && code == EXIT_DONE)
        code = EXIT_FAILED;
    interrupt_release();
    return code;
}
