/* offload/pace.c -- sleeps that add up to a rate. */
#include "offload/pace.h"

#include "engine/base/clock.h"

void pace_send(pace *p, size_t bytes)
{
    if (p->rate <= 0)
        return;
    const double now = clock_seconds();
    if (p->free_at > now)
        clock_sleep_until(p->free_at);
    else
        p->free_at = now;
    p->free_at += (double)bytes / p->rate; /* waking up late is made up for */
}

void pace_drain(const pace *p)
{
    if (p->rate > 0)
        clock_sleep_until(p->free_at);
}
