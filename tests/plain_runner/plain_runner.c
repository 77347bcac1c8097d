/* tests/plain_runner/plain_runner.c -- runs tests where criterion cannot; see its header.
 *
 * Each test is a child process: 0 passed, SKIPPED, or anything else failed.  The program ends with
 * SKIPPED too when all were.
 *
 * PLAIN_RUNNER=in-process runs them in this process, one after the other, each named before it
 * begins: for tools that look into one process, as compute-sanitizer does, and where starting a
 * process costs more than its test.  A test that dies then takes the others with it, one that is
 * to die is skipped, and what a failed one has taken is not given back.
 *
 * --filter SUITE/NAME, as criterion has it, runs those tests alone; the two are patterns.
 */
#define _POSIX_C_SOURCE 200809L

#include <criterion/criterion.h>

#include <fnmatch.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/wait.h>
#include <unistd.h>

enum { FAILED = 1, SKIPPED = 77, SLOWER = 10 };

/* Filled by constructors, before main(). */
static plain_test *tests;
static plain_suite *suites;
static bool failed; /* in the child */
static bool in_process;
static jmp_buf after; /* in-process: the end of the test, */
static int ended;     /* and how it ended */

void plain_add_test(plain_test *t)
{
    t->next = tests;
    tests = t;
}

void plain_add_suite(plain_suite *s)
{
    s->next = suites;
    suites = s;
}

/* Ends the test with 0, SKIPPED or FAILED. */
_Noreturn static void end_test(int result)
{
    if (!in_process)
        exit(result);
    ended = result;
    longjmp(after, 1);
}

void plain_skip(const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vprintf(fmt, args);
    va_end(args);
    putchar('\n');
    end_test(SKIPPED);
}

void plain_check(bool held, bool fatal, const char *file, int line, const char *what,
                 const char *fmt, ...)
{
    if (held)
        return;
    failed = true;
    printf("%s:%d: %s: ", file, line, what);

    va_list args;
    va_start(args, fmt);
    vprintf(fmt, args);
    va_end(args);
    putchar('\n');
    if (fatal)
        end_test(FAILED);
}

static const plain_options *suite_of(const plain_test *t)
{
    static const plain_options none;

    for (const plain_suite *s = suites; s; s = s->next)
        if (strcmp(s->name, t->suite) == 0)
            return &s->options;
    return &none;
}

/* The child's whole life.  Sanitizers slow a test down, so its time is stretched. */
_Noreturn static void run_here(const plain_test *t)
{
    const plain_options *suite = suite_of(t);
    const double seconds = t->options.timeout > 0 ? t->options.timeout : suite->timeout;

    alarm((unsigned)(seconds * SLOWER));
    if (suite->init)
        suite->init();
    if (t->options.init)
        t->options.init();
    t->body();
    if (t->options.fini)
        t->options.fini();
    if (suite->fini)
        suite->fini();
    end_test(failed ? FAILED : 0);
}

static int run_in_process(const plain_test *t)
{
    if (t->options.signal || t->options.exit_code)
        return SKIPPED;
    if (setjmp(after) == 0) {
        printf("[RUN] %s::%s\n", t->suite, t->name);
        fflush(NULL);
        failed = false;
        run_here(t);
    }
    alarm(0);
    return ended;
}

static int run_apart(const plain_test *t)
{
    int status;

    fflush(NULL);
    const pid_t child = fork();
    if (child == 0)
        run_here(t);
    if (child < 0 || waitpid(child, &status, 0) != child)
        return FAILED;
    if (WIFSIGNALED(status))
        return WTERMSIG(status) == t->options.signal ? 0 : FAILED;
    if (WEXITSTATUS(status) == SKIPPED)
        return SKIPPED;
    return WEXITSTATUS(status) == t->options.exit_code ? 0 : FAILED;
}

/* 0, SKIPPED or FAILED. */
static int run_plain_test(const plain_test *t)
{
    if (t->options.disabled || suite_of(t)->disabled)
        return SKIPPED;
    return in_process ? run_in_process(t) : run_apart(t);
}

static bool is_test_selected(const plain_test *t, const char *filter)
{
    char name[256];
    (void)snprintf(name, sizeof name, "%s/%s", t->suite, t->name);
    return !filter || fnmatch(filter, name, 0) == 0;
}

int main(int argc, char **argv)
{
    const char *filter = argc == 3 && strcmp(argv[1], "--filter") == 0 ? argv[2] : NULL;
    const char *outputs = getenv("CRITERION_OUTPUTS"), *way = getenv("PLAIN_RUNNER");
    FILE *tap = outputs && strncmp(outputs, "tap:", 4) == 0 ? fopen(outputs + 4, "w") : NULL;
    int n = 0, n_failed = 0, n_skipped = 0;

    in_process = way && strcmp(way, "in-process") == 0;
    if (argc > 1 && !filter) {
        fprintf(stderr, "usage: %s [--filter SUITE/NAME]\n", argv[0]);
        return 2;
    }
    for (const plain_test *t = tests; t; t = t->next) {
        if (!is_test_selected(t, filter))
            continue;
        const int result = run_plain_test(t);

        n++;
        n_failed += result == FAILED;
        n_skipped += result == SKIPPED;
        if (tap)
            fprintf(tap, "%s - %s::%s%s\n", result == FAILED ? "not ok" : "ok", t->suite, t->name,
                    result == SKIPPED ? "  # SKIP" : "");
        if (result == FAILED)
            printf("[FAIL] %s::%s\n", t->suite, t->name);
    }
    if (tap)
        fclose(tap);
    printf("%d tests, %d failed, %d skipped\n", n, n_failed, n_skipped);
    return n_failed > 0 ? FAILED : n > 0 && n_skipped == n ? SKIPPED : 0;
}
