/* tests/tools/test_program.c -- what happens to a program at its beginning and end. */
#define _XOPEN_SOURCE 700
#include "tools/cli/program.h"

#include "tests/support/temp_file.h"
#include "tools/cli/exit_code.h"
#include "tools/cli/interrupt.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* How a process ends whose standard output is `out` and that does `deed`, which gives its exit
 * code; what it says on stderr goes to `said`. */
static int end_of_program(const char *out, int (*deed)(void), char said[256])
{
    char name[TEMP_NAME];
    int status;
    temp_file(name, ".err");
    const pid_t child = fork();
    cr_assert_geq(child, 0);
    if (child == 0) {
        if (!freopen(name, "w", stderr) || (out && !freopen(out, "w", stdout)))
            _exit(99);
        if (!out)
            (void)close(STDOUT_FILENO);
        const int code = program_begin("prog") ? program_end("prog", deed()) : 96;
        (void)fflush(stderr);
        _exit(code);
    }
    cr_assert_eq(waitpid(child, &status, 0), child);
    size_t n;
    char *text = (char *)temp_read(name, &n);
    (void)snprintf(said, 256, "%.*s", (int)n, text);
    free(text);
    (void)unlink(name);
    return status;
}

static void expect_program_end(const char *out, int (*deed)(void), int code, const char *line)
{
    char said[256];
    const int status = end_of_program(out, deed, said);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == code, "%d instead of %d: %s", status,
              code, said);
    cr_assert_str_eq(said, line);
}

static int print_little(void)
{
    (void)printf("a line\n");
    return EXIT_DONE;
}

static int print_much(void)
{
    for (int i = 0; i < 10000; i++)
        (void)printf("line %d\n", i);
    return EXIT_DONE;
}

static int print_and_refuse(void)
{
    (void)print_little();
    return EXIT_INPUT;
}

Test(tools_program, full_standard_output_fails_with_one_line)
{
    static const char FULL[] =
        "prog: standard output: cannot be written: No space left on device\n";
    expect_program_end("/dev/null", print_little, EXIT_DONE, "");
    expect_program_end("/dev/full", print_little, EXIT_FAILED, FULL);
    expect_program_end("/dev/full", print_and_refuse, EXIT_INPUT, "");
    char said[256];
    const int status = end_of_program("/dev/full", print_much, said);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == EXIT_FAILED);
    cr_assert_eq(strncmp(said, FULL, strlen("prog: standard output: cannot be written")), 0);
}

/* A file opened now would take the number of standard output, and the line with it. */
static int open_and_print(void)
{
    const int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
    (void)printf("a line\n");
    return fd > STDERR_FILENO ? EXIT_DONE : 77;
}

Test(tools_program, closed_standard_output_is_taken_by_no_file)
{
    char said[256];
    const int status = end_of_program(NULL, open_and_print, said);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == EXIT_FAILED, "%d", status);
    cr_assert_not_null(strstr(said, "standard output: cannot be written"), "%s", said);
}

static int grow_beyond_limit(void)
{
    char block[8192] = { 0 };
    const struct rlimit limit = { 4096, 4096 };
    FILE *f = tmpfile();
    if (!f || setrlimit(RLIMIT_FSIZE, &limit) != 0)
        return 98;
    (void)!write(fileno(f), block, sizeof block);
    return write(fileno(f), block, sizeof block) < 0 && errno == EFBIG ? EXIT_DONE : 97;
}

Test(tools_program, limit_on_file_sizes_is_an_error_of_write)
{
    expect_program_end("/dev/null", grow_beyond_limit, EXIT_DONE, "");
}

Test(tools_program, stacks_that_are_too_small_are_told)
{
    struct rlimit was;
    cr_assert_eq(getrlimit(RLIMIT_STACK, &was), 0);
    const struct rlimit least = { 256 << 10, was.rlim_max }, less = { 255 << 10, was.rlim_max };
    cr_assert_eq(setrlimit(RLIMIT_STACK, &least), 0);
    expect_program_end("/dev/null", print_little, EXIT_DONE, "");
    cr_assert_eq(setrlimit(RLIMIT_STACK, &less), 0);
    expect_program_end("/dev/null", print_little, 96,
                       "prog: stacks may have 255 KiB; 256 are needed: ulimit -s\n");
    cr_assert_eq(setrlimit(RLIMIT_STACK, &was), 0);
}

static int interrupt_while_held(void)
{
    interrupt_hold();
    (void)kill(getpid(), SIGINT);
    return EXIT_FAILED;
}

Test(tools_program, held_signal_ends_it)
{
    char said[256];
    const int status = end_of_program("/dev/null", interrupt_while_held, said);
    cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGINT, "%d", status);
}
