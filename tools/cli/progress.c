/* tools/cli/progress.c -- the progress line. */
#define _DEFAULT_SOURCE /* struct winsize */
#include "tools/cli/progress.h"

#include "engine/base/clock.h"

#include <math.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static const double REDRAW = 0.1, RELOG = 10.0; /* seconds */
static const double MEMORY = 3.0;               /* seconds a rate looks back; */
static const double GUESS = 0.3;                /* and so many that a guess is worth */

enum {
    WIDTH_DEFAULT = 80,
    BAR_MAX = 30,
    BAR_MIN = 8,
    LINE = 256,
    ETA_TEXT = 64,
    BESIDE = 9 /* columns of a line without a bar: spaces, the percentage, and a last one, empty */
};

void progress_open(progress *p, FILE *out, const char *what, bool quiet)
{
    *p = (progress){ .out = quiet ? NULL : out, .what = what };
    p->terminal = p->out && isatty(fileno(p->out));
    /* A log starts with silence, a terminal with a line. */
    p->shown = clock_seconds() - (p->terminal ? REDRAW : 0.0);
}

bool progress_due(const progress *p)
{
    return p->out && clock_seconds() - p->shown >= (p->terminal ? REDRAW : RELOG);
}

static int terminal_columns(const progress *p)
{
    struct winsize w;
    if (p->terminal && ioctl(fileno(p->out), TIOCGWINSZ, &w) == 0 && w.ws_col > 0)
        return w.ws_col;
    return WIDTH_DEFAULT;
}

static void eta_text(char out[ETA_TEXT], double eta)
{
    const long s = lround(eta);
    if (!(eta >= 0.0) || eta > 1e6)
        out[0] = 0;
    else if (s >= 3600)
        (void)snprintf(out, ETA_TEXT, "  ETA %ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
    else
        (void)snprintf(out, ETA_TEXT, "  ETA %ld:%02ld", s / 60, s % 60);
}

static void bar_text(char out[BAR_MAX + 4], double done, int cells)
{
    const int full = (int)(done * cells + 0.5);
    char *at = out;
    *at++ = '[';
    memset(at, '#', (size_t)full);
    memset(at + full, '.', (size_t)(cells - full));
    at += cells;
    *at++ = ']';
    *at++ = ' ';
    *at = 0;
}

/* Without the last of its parts, as long as it takes more columns: a line that wraps is not drawn
 * over, but below. */
static void shorten_details(char *details, int room)
{
    char *last;
    while ((int)strlen(details) > room && (last = strrchr(details, ',')))
        *last = 0;
}

void progress_show(progress *p, double done, double eta, const char *fmt, ...)
{
    char details[LINE], bar[BAR_MAX + 4] = "", left[ETA_TEXT];
    va_list ap;

    if (!progress_due(p))
        return;
    done = done < 0.0 ? 0.0 : done > 1.0 ? 1.0 : done;
    va_start(ap, fmt);
    (void)vsnprintf(details, sizeof details, fmt, ap);
    va_end(ap);
    eta_text(left, eta);
    if (p->terminal)
        shorten_details(details,
                        terminal_columns(p) - (int)(strlen(p->what) + strlen(left)) - BESIDE);

    const int rest = (int)(strlen(p->what) + strlen(details) + strlen(left)) + 12;
    const int room = terminal_columns(p) - rest;
    if (p->terminal && room >= BAR_MIN)
        bar_text(bar, done, room < BAR_MAX ? room : BAR_MAX);
    (void)fprintf(p->out, "%s%s %s%3.0f %%  %s%s%s", p->terminal ? "\r" : "", p->what, bar,
                  floor(100.0 * done), details, left, p->terminal ? "\033[K" : "\n");
    (void)fflush(p->out);
    p->drawn = p->terminal;
    p->shown = clock_seconds();
}

void progress_clear(progress *p)
{
    if (p->drawn) {
        (void)fputs("\r\033[K", p->out);
        (void)fflush(p->out);
    }
    p->drawn = false;
}

void rate_guess(rate_meter *m, double now, double rate)
{
    *m = (rate_meter){ .at = now, .rate = rate, .began = now };
}

/* Seconds over which the mean is taken. */
static double memory_at(const rate_meter *m, double now)
{
    const double age = now - m->began + GUESS;
    return m->began > 0.0 ? fmin(age, MEMORY) : MEMORY;
}

void rate_sample(rate_meter *m, double now, double value)
{
    const double seconds = now - m->at;
    if (m->at <= 0.0) {
        *m = (rate_meter){ .at = now, .value = value };
        return;
    }
    if (seconds < REDRAW)
        return;
    const double rate = (value - m->value) / seconds,
                 weight = fmin(seconds / memory_at(m, now), 1.0);
    m->rate = m->rate > 0.0 ? m->rate + weight * (rate - m->rate) : rate;
    m->at = now;
    m->value = value;
}
