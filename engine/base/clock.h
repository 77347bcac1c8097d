/* engine/base/clock.h -- the one clock. */
#ifndef REFINE_CLOCK_H
#define REFINE_CLOCK_H

/* Seconds since some fixed moment; never goes back. */
double clock_seconds(void);
void clock_sleep_until(double seconds); /* on that clock */

#endif
