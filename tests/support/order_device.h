/* tests/support/order_device.h -- a device that does everything as early or as late as the
 * contract of kernels/device.h allows, and never in between.
 *
 * Both queues are lists of work.  Nothing runs by itself: work runs when an event is synced
 * with, when the schedule is eager about its queue, or when other work that runs waits for
 * it.  A wait that is missing is then a wrong byte, every time.
 *
 * It has one operator: order_device_read, which looks at weights on DEV_COMPUTE.
 */
#ifndef ORDER_DEVICE_H
#define ORDER_DEVICE_H

#include "kernels/device.h"

typedef enum order {
    ORDER_EAGER,            /* both queues as early as possible */
    ORDER_COPY_FIRST,       /* copies early, compute late: catches overwritten weights */
    ORDER_COMPUTE_FIRST,    /* compute early, copies late: catches weights that have not come */
    ORDER_LATE,             /* both late: catches overwritten staging */
    ORDER_RANDOM,
    N_ORDERS
} order;

dev *dev_open_order(order o, unsigned seed);

/* Compares, when its turn on DEV_COMPUTE comes, `bytes` at `at` with `want` (which must stay). */
void order_device_read(dev *d, const void *at, const void *want, size_t bytes);
/* Runs all that is left.  Reads so far, and how many of them saw something else. */
void order_device_finish(dev *d, int *reads, int *wrong);

/* A host thread that syncs sleeps so long before: what others may do meanwhile, they do. */
void order_device_delay_sync(dev *d, double seconds);

/* Memory, events and pinned bytes not given back. */
int order_device_live(const dev *d);
/* Lets `n` allocations (memory or events) succeed, then fails one; n < 0: none. */
void order_device_fail_after(dev *d, int n);

#endif
