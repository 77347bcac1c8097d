/* tests/tools/test_memprof_child.c -- a child's arguments, its exit status, and its signals. */
#define _XOPEN_SOURCE 700
#include "tools/memprof/memprof_child.h"

#include "tools/cli/interrupt.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

Test(tools_memprof_child, finds_the_trace_that_is_asked_for)
{
    char *none[] = { "x", "-p", "a", NULL }, *last[] = { "x", "--trace", NULL };
    char *apart[] = { "x", "--trace", "t.json", NULL }, *joined[] = { "x", "--trace=u", NULL };
    cr_assert_null(child_trace(none));
    cr_assert_null(child_trace(last));
    cr_assert_str_eq(child_trace(apart), "t.json");
    cr_assert_str_eq(child_trace(joined), "u");
}

Test(tools_memprof_child, knows_who_writes_to_standard_output)
{
    char *file[] = { "x", "-o", "a.png", NULL }, *dash[] = { "x", "-o", "-", NULL };
    char *json[] = { "x", "--json", NULL };
    cr_assert_not(child_wants_stdout(file));
    cr_assert(child_wants_stdout(dash));
    cr_assert(child_wants_stdout(json));
}

/* The script sees the option that is put before its own arguments. */
static int run_child_script(char *script)
{
    int code = -1;
    refine_error err = { 0 };
    char *argv[] = { "tests/tools/child.sh", script, NULL };
    cr_assert_eq(child_run(&code, argv, "t.json", &err), REFINE_OK, "%s", err.text);
    return code;
}

Test(tools_memprof_child, hands_on_the_exit_status)
{
    cr_assert_eq(run_child_script("exit 0"), 0);
    cr_assert_eq(run_child_script("exit 3"), 3);
    cr_assert_eq(run_child_script("kill -TERM $$"), 128 + SIGTERM);
    cr_assert_eq(run_child_script("[ \"$1 $2\" = '--trace t.json' ] || exit 9"), 0);
}

static void *interrupt_soon(void *unused)
{
    (void)unused;
    (void)nanosleep(&(struct timespec){ .tv_nsec = 300000000 }, NULL);
    (void)kill(getpid(), SIGINT);
    return NULL;
}

/* What the child makes of it is its exit status; the one that came is then ours to die of. */
Test(tools_memprof_child, passes_an_interrupt_on)
{
    pthread_t thread;
    interrupt_hold();
    cr_assert_eq(pthread_create(&thread, NULL, interrupt_soon, NULL), 0);
    cr_assert_eq(
        run_child_script("trap 'exit 7' INT; for i in 1 2 3 4 5 6 7 8 9; do sleep 0.3; done"), 7);
    cr_assert(interrupt_pending());
    (void)pthread_join(thread, NULL);
    (void)signal(SIGINT, SIG_IGN);
    interrupt_release();
}

Test(tools_memprof_child, says_that_there_is_no_such_program)
{
    int code;
    refine_error err = { 0 };
    char *argv[] = { "no-such-program-anywhere", NULL };
    cr_assert_eq(child_run(&code, argv, "t.json", &err), REFINE_EINVAL);
    cr_assert_not_null(strstr(err.text, "no-such-program-anywhere"));
}
