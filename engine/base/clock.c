/* engine/base/clock.c -- CLOCK_MONOTONIC as a double. */
#define _POSIX_C_SOURCE 200809L
#include "engine/base/clock.h"

#include <errno.h>
#include <math.h>
#include <time.h>

double clock_seconds(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void clock_sleep_until(double seconds)
{
    const double whole = floor(seconds);
    const struct timespec t = { (time_t)whole, (long)((seconds - whole) * 1e9) };
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
        continue;
}
