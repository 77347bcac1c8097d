/* tools/cli/progress.h -- one line on stderr that says how far a long job is.
 *
 * On a terminal the line is redrawn in place, at most ten times a second; elsewhere it is
 * printed anew every ten seconds, so that a log stays short.
 */
#ifndef REFINE_PROGRESS_H
#define REFINE_PROGRESS_H

#include <stdbool.h>
#include <stdio.h>

typedef struct progress {
    FILE *out; /* NULL: quiet */
    const char *what;
    bool terminal, drawn;
    double shown; /* when the line was last drawn */
} progress;

/* `what` is kept: "packing".  A quiet one never prints. */
void progress_open(progress *p, FILE *out, const char *what, bool quiet);

/* done: 0..1; eta: seconds, negative when not known; then details, printf-style.
 * Calls that come too soon cost next to nothing: look at progress_due before preparing
 * details that are expensive. */
bool progress_due(const progress *p);
#if defined(__GNUC__)
__attribute__((format(printf, 4, 5)))
#endif
void progress_show(progress *p, double done, double eta, const char *fmt, ...);

/* Removes the line from a terminal, so that a result or an error can be printed. */
void progress_clear(progress *p);

/* How fast a counter grows: a mean over the last seconds, weighted towards now; at first over all
 * there were, a guess among them if there was one. */
typedef struct rate_meter {
    double at, value; /* of the last sample */
    double rate;      /* per second; 0: not yet known */
    double began;     /* 0: nothing was guessed */
} rate_meter;

/* From 0, now. */
void rate_guess(rate_meter *m, double now, double rate);
void rate_sample(rate_meter *m, double now, double value);

#endif
