/* tests/plain_runner/plain_runner.c -- runs tests where criterion cannot; see its header.
 *
 * Each test is a child process: 0 passed, SKIPPED, or anything else failed.  The program ends with
 * SKIPPED too when all were.
 */
#define _POSIX_C_SOURCE 200809L

#include <criterion/criterion.h>

#include <signal.h>
#include <stdarg.h>
#include <sys/wait.h>
#include <unistd.h>

enum { FAILED = 1, SKIPPED = 77, SLOWER = 10 };

/* Filled by constructors, before main(). */
static plain_test *tests;
static plain_suite *suites;
static bool failed; /* in the child */

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

void plain_skip(const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vprintf(fmt, args);
    va_end(args);
    putchar('\n');
    exit(SKIPPED);
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
        exit(FAILED);
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
static void run_here(const plain_test *t)
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
    exit(failed ? FAILED : 0);
}

/* 0, SKIPPED or FAILED. */
static int run(const plain_test *t)
{
    int status;

    if (t->options.disabled || suite_of(t)->disabled)
        return SKIPPED;
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

int main(void)
{
    const char *outputs = getenv("CRITERION_OUTPUTS");
    FILE *tap = outputs && strncmp(outputs, "tap:", 4) == 0 ? fopen(outputs + 4, "w") : NULL;
    int n = 0, n_failed = 0, n_skipped = 0;

    for (const plain_test *t = tests; t; t = t->next, n++) {
        const int result = run(t);

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
