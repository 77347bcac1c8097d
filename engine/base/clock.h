/* engine/base/clock.h -- the one clock. */
#ifndef REFINE_CLOCK_H
#define REFINE_CLOCK_H

/* Seconds since some fixed moment; never goes back. */
double clock_seconds(void);

#endif
