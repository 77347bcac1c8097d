/* kernels/host_device.c -- ordinary pages, and a thread that copies. */
#include "kernels/host_device.h"

#include "engine/base/mem.h"

#include <string.h>

static host_queue *queue_of(dev *d) { return ((host_dev *)(void *)d)->queue; }

bool host_device_open(host_dev *h, const struct dev_ops *ops, refine_error *err)
{
    h->base.ops = ops;
    h->queue = host_queue_open(err);
    return h->queue != NULL;
}

void host_device_close(dev *d)
{
    host_queue_close(queue_of(d));
    mem_free(d);
}

/* ---- memory ---- */

void *host_device_alloc(dev *d, size_t bytes, dev_mem kind)
{
    (void)d, (void)kind;
    return mem_map(bytes);
}

void host_device_free(dev *d, void *p, size_t bytes, dev_mem kind)
{
    (void)d, (void)kind;
    mem_unmap(p, bytes);
}

void host_device_copy_in(dev *d, void *dst, const void *src, size_t bytes)
{
    host_queue_copy(queue_of(d), dst, src, bytes);
}

/* Put and get: compute is done when an operator returns. */
void host_device_move(dev *d, void *dst, const void *src, size_t bytes)
{
    (void)d;
    memcpy(dst, src, bytes);
}

/* ---- order ---- */

dev_event *host_device_event_open(dev *d)
{
    (void)d;
    return host_event_open();
}

void host_device_event_close(dev *d, dev_event *e)
{
    (void)d;
    host_event_close(e);
}

void host_device_record(dev *d, dev_event *e, dev_queue q) { host_queue_record(queue_of(d), e, q); }
void host_device_wait(dev *d, dev_queue q, dev_event *e) { host_queue_wait(queue_of(d), q, e); }
void host_device_sync(dev *d, dev_event *e) { host_queue_sync(queue_of(d), e); }
