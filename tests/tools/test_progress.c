/* tests/tools/test_progress.c -- little in a log, one line on a terminal, nothing when quiet. */
#define _DEFAULT_SOURCE /* struct winsize */
#define _XOPEN_SOURCE   700
#include "tools/cli/progress.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* The last draw was so long ago that the next is due. */
static void wait_enough(progress *p) { p->shown -= 100.0; }

static const char *read_progress_text(FILE *f, char *text, size_t size)
{
    (void)fflush(f);
    rewind(f);
    text[fread(text, 1, size - 1, f)] = 0;
    return text;
}

Test(tools_progress, a_log_gets_a_line_now_and_then)
{
    char text[512];
    FILE *f = tmpfile();
    progress p;
    progress_open(&p, f, "packing", false);
    for (int i = 0; i < 1000; i++)
        progress_show(&p, 0.001 * i, -1, "%d", i);
    wait_enough(&p);
    progress_show(&p, 0.437, 3725.0, "%s", "2.61 of 6.08 GB");
    progress_show(&p, 0.438, 3724.0, "%s", "2.62 of 6.08 GB");
    wait_enough(&p);
    progress_show(&p, 2.0, -1.0, "%s", "all");
    progress_clear(&p);
    cr_assert_str_eq(read_progress_text(f, text, sizeof text),
                     "packing  43 %  2.61 of 6.08 GB  ETA 1:02:05\npacking 100 %  all\n");
    (void)fclose(f);
}

Test(tools_progress, quiet_is_silent)
{
    char text[64];
    FILE *f = tmpfile();
    progress p;
    progress_open(&p, f, "packing", true);
    wait_enough(&p);
    cr_assert_not(progress_due(&p));
    progress_show(&p, 0.5, 1.0, "half");
    progress_clear(&p);
    cr_assert_str_eq(read_progress_text(f, text, sizeof text), "");
    (void)fclose(f);
}

/* All that is written there; it arrives in pieces, and only when the system gets to it. */
static void read_terminal(int master, char *text, size_t size)
{
    enum { PATIENCE_MS = 300 };
    struct pollfd p = { .fd = master, .events = POLLIN };
    size_t n = 0;
    while (n + 1 < size && poll(&p, 1, PATIENCE_MS) == 1) {
        const ssize_t got = read(master, text + n, size - 1 - n);
        cr_assert_gt(got, 0);
        n += (size_t)got;
    }
    text[n] = 0;
}

/* NULL: there are no pseudo-terminals. */
static FILE *open_terminal(int *master)
{
    *master = posix_openpt(O_RDWR | O_NOCTTY);
    if (*master < 0 || grantpt(*master) != 0 || unlockpt(*master) != 0)
        return NULL;
    return fopen(ptsname(*master), "w");
}

Test(tools_progress, a_terminal_gets_one_line_redrawn_and_removed)
{
    int master;
    FILE *f = open_terminal(&master);
    if (!f)
        cr_skip_test("no pseudo-terminals");
    char text[1024];
    progress p;
    progress_open(&p, f, "packing", false);
    progress_show(&p, 0.5, 65.0, "3 of 6");
    for (int i = 0; i < 50; i++)
        progress_show(&p, 0.5, 65.0, "too soon");
    progress_clear(&p);
    read_terminal(master, text, sizeof text);
    cr_assert_not_null(strstr(text, "\rpacking ["), "%s", text);
    cr_assert_not_null(strstr(text, "]  50 %  3 of 6  ETA 1:05\033[K"), "%s", text);
    cr_assert_not_null(strstr(text, "\r\033[K"), "%s", text);
    cr_assert_null(strchr(text, '\n'));
    cr_assert_null(strstr(text, "too soon"));
    (void)fclose(f);
    (void)close(master);
}

/* In the last column of a terminal it would wrap, or lose its last character. */
Test(tools_progress, a_line_that_is_too_long_loses_its_last_parts)
{
    static const char WHOLE[] = "base: denoising   1 %  step 1000 of 1000, disk 1.00 GB/s";
    struct winsize size = { .ws_row = 24, .ws_col = 80 };
    int master;
    FILE *f = open_terminal(&master);
    if (!f)
        cr_skip_test("no pseudo-terminals");
    cr_assert_eq(ioctl(master, TIOCSWINSZ, &size), 0);
    char text[1024];
    progress p;
    progress_open(&p, f, "base: denoising", false);
    progress_show(&p, 0.01, 3720.0, "step 1000 of 1000, disk 1.00 GB/s, stalled 12.3 %%");
    read_terminal(master, text, sizeof text);
    cr_assert(strncmp(text + 1, WHOLE, strlen(WHOLE)) == 0, "%s", text);
    cr_assert_not_null(strstr(text, "GB/s  ETA 1:02:00\033[K"), "%s", text);
    (void)fclose(f);
    (void)close(master);
}

Test(tools_progress, a_rate_follows_what_happens_now)
{
    rate_meter m = { 0 };
    double at = 1.0, value = 0.0;
    rate_sample(&m, at, value);
    cr_assert_eq(m.rate, 0.0);
    for (int i = 0; i < 20; i++)
        rate_sample(&m, at += 0.5, value += 50.0);
    cr_assert_float_eq(m.rate, 100.0, 1e-6);
    for (int i = 0; i < 40; i++)
        rate_sample(&m, at += 0.5, value += 10.0);
    cr_assert_float_eq(m.rate, 20.0, 1.0);
    rate_sample(&m, at + 0.001, value + 1e9);
    cr_assert_float_eq(m.rate, 20.0, 1.0);
}

/* A run of a fifth of a second whose first bytes come slowly. */
Test(tools_progress, a_guess_holds_until_there_is_something_to_go_by)
{
    rate_meter m;
    rate_guess(&m, 1.0, 100.0);
    cr_assert_eq(m.rate, 100.0);
    rate_sample(&m, 1.05, 0.01);
    cr_assert_eq(m.rate, 100.0, "too soon");
    rate_sample(&m, 1.1, 0.02);
    cr_assert(m.rate > 70.0 && m.rate < 80.0, "%g", m.rate);
    rate_sample(&m, 1.25, 20.0);
    cr_assert(m.rate > 90.0 && m.rate < 120.0, "%g", m.rate);
}

Test(tools_progress, a_wrong_guess_is_forgotten_soon)
{
    const double guesses[] = { 1.0, 10000.0 }; /* of 100 */
    for (int i = 0; i < 2; i++) {
        rate_meter m;
        double at = 1.0, value = 0.0;
        rate_guess(&m, at, guesses[i]);
        for (int k = 0; k < 20; k++)
            rate_sample(&m, at += 0.5, value += 50.0);
        cr_assert(m.rate > 90.0 && m.rate < 180.0, "%g", m.rate);
    }
}
