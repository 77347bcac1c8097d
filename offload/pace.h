/* offload/pace.h -- a rate limit: bytes follow each other on an imagined line. */
#ifndef REFINE_PACE_H
#define REFINE_PACE_H

#include <stddef.h>

typedef struct pace {
    double rate;    /* bytes a second; 0: no limit */
    double free_at; /* when the line has carried what was sent (engine/base/clock.h) */
} pace;

/* Waits until the line has carried what was sent before, and sends so many bytes more. */
void pace_send(pace *p, size_t bytes);

/* Waits until it has carried everything. */
void pace_drain(const pace *p);

#endif
