/* kernels/host_queue.h -- the two queues of a device that is this machine itself.
 *
 * DEV_COPY is a thread that takes copies, waits and records in order.  DEV_COMPUTE is
 * whoever calls: its work is done when an operator returns, so a record passes at once
 * and a wait blocks the caller.
 *
 *     push ->[ ring of items ]-> copy thread -> event passes
 *
 * Invariants.  1. Items are executed in the order they were pushed.  2. A wait is for the
 * record that was the event's last when the wait was pushed; an event never recorded is
 * free.  3. After opening, nothing is allocated: the ring is bounded and a push into a
 * full one blocks.  Threads: kernels/device.h.
 */
#ifndef REFINE_HOST_QUEUE_H
#define REFINE_HOST_QUEUE_H

#include "kernels/device.h"

typedef struct host_queue host_queue;

/* NULL and a text in err when there is no memory or no thread to be had. */
host_queue *host_queue_open(refine_error *err);
void host_queue_close(host_queue *q); /* executes what was pushed; NULL is fine */

void host_queue_copy(host_queue *q, void *dst, const void *src, size_t bytes);
void host_queue_record(host_queue *q, dev_event *e, dev_queue on);
void host_queue_wait(host_queue *q, dev_queue on, dev_event *e);
void host_queue_sync(host_queue *q, dev_event *e);

dev_event *host_event_open(void); /* NULL: out of memory */
void host_event_close(dev_event *e);

#endif
