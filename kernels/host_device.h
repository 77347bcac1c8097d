/* kernels/host_device.h -- memory, copies and order of a device that is this machine itself.
 *
 * Its memory is the process's own pages, DEV_PINNED as DEV_VRAM, and its two queues are those of
 * kernels/host_queue.h.  A backend embeds host_dev as its first member and adds the operators:
 *
 *     typedef struct cpu_dev { host_dev host; ... } cpu_dev;
 *
 *     static const struct dev_ops CPU_OPS = { .name = "cpu", HOST_DEVICE_OPS, OPERATORS_OF(cpu),
 *                                             .close = host_device_close };
 */
#ifndef REFINE_HOST_DEVICE_H
#define REFINE_HOST_DEVICE_H

#include "kernels/backend.h"
#include "kernels/host_queue.h"

typedef struct host_dev {
    dev base;
    host_queue *queue;
} host_dev;

/* Opens the queue of a zeroed host_dev; false and a text in err when it cannot. */
bool host_device_open(host_dev *h, const struct dev_ops *ops, refine_error *err);
void host_device_close(dev *d); /* half-open ones too; frees what begins with d */

void *host_device_alloc(dev *d, size_t bytes, dev_mem kind);
void host_device_free(dev *d, void *p, size_t bytes, dev_mem kind);
dev_event *host_device_event_open(dev *d);
void host_device_event_close(dev *d, dev_event *e);
void host_device_copy_in(dev *d, void *dst, const void *src, size_t bytes);
void host_device_move(dev *d, void *dst, const void *src, size_t bytes);
void host_device_record(dev *d, dev_event *e, dev_queue q);
void host_device_wait(dev *d, dev_queue q, dev_event *e);
void host_device_sync(dev *d, dev_event *e);

#define HOST_DEVICE_OPS                                                                            \
    .alloc = host_device_alloc, .free = host_device_free, .event_open = host_device_event_open,    \
    .event_close = host_device_event_close, .copy_in = host_device_copy_in,                        \
    .put = host_device_move, .get = host_device_move, .record = host_device_record,                \
    .wait = host_device_wait, .sync = host_device_sync

#endif
