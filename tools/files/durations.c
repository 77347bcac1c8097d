/* tools/files/durations.c -- spans of time as text. */
#include "tools/files/durations.h"

#include <stdio.h>

const char *duration_text(char out[DURATION_TEXT], double seconds)
{
    enum { MINUTE = 60, HOUR = 3600 };
    if (seconds >= HOUR)
        (void)snprintf(out, DURATION_TEXT, "%.1f hours", seconds / HOUR);
    else if (seconds >= 2 * MINUTE)
        (void)snprintf(out, DURATION_TEXT, "%.0f minutes", seconds / MINUTE);
    else
        (void)snprintf(out, DURATION_TEXT, "%.3g seconds", seconds);
    return out;
}
