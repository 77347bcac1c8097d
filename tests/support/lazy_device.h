/* tests/support/lazy_device.h -- a device that runs work as early or as late as is legal.
 *
 * It wraps a real one (the referee, say), whose operators and memory it uses.  What is
 * enqueued waits in two queues until somebody waits for it, or until the schedule says so;
 * a missing wait then turns into a wrong number, every time.  Freshly allocated memory is
 * filled with NaN.  Everything must be enqueued by one thread.
 *
 * EAGER runs all at once and hides every missing wait; LAZY nothing before it must; the
 * others run one queue at once and the other late; RANDOM decides by its seed.
 */
#ifndef TEST_LAZY_DEVICE_H
#define TEST_LAZY_DEVICE_H

#include "kernels/device.h"

typedef enum lazy_schedule {
    LAZY_EAGER,
    LAZY_LAZY,
    LAZY_COPY_FIRST,
    LAZY_COMPUTE_FIRST,
    LAZY_RANDOM,
    LAZY_SCHEDULES
} lazy_schedule;

/* `real` must outlive it and is not closed by it.  NULL: out of memory. */
dev *lazy_open(dev *real, lazy_schedule s, uint32_t seed);

void lazy_drain(dev *d);     /* runs all that was enqueued */
int lazy_live(const dev *d); /* allocations and events still open */

#endif
