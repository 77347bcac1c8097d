/* kernels/device.c -- the sticky front door to memory and order.
 *
 * The first failure is kept.  `lock` is not a mutex but the claim to be first: whoever
 * turns it from NULL writes `why`, then publishes it by storing `status`; a reader that
 * sees a failed status therefore sees the whole text.  Nothing needs initialising beyond
 * a zeroed struct dev.
 */
#include "kernels/backend.h"

#include <assert.h>
#include <sched.h>
#include <stdio.h>

refine_status dev_status(const dev *d) { return __atomic_load_n(&d->status, __ATOMIC_ACQUIRE); }

static bool is_alive(const dev *d) { return dev_status(d) == REFINE_OK; }

const char *dev_note(const dev *d) { return d->note; }
const char *dev_why(const dev *d) { return is_alive(d) ? "" : d->why; }

refine_status dev_result(const dev *d, refine_error *err)
{
    const refine_status st = dev_status(d);
    return st == REFINE_OK ? st : refine_fail(err, st, "%s", dev_why(d));
}

void dev_fail(dev *d, refine_status st, const char *why)
{
    assert(st != REFINE_OK);
    if (__atomic_exchange_n(&d->lock, (void *)d, __ATOMIC_ACQ_REL) == NULL) {
        (void)snprintf(d->why, sizeof d->why, "%s", why);
        __atomic_store_n(&d->status, st, __ATOMIC_RELEASE);
        return;
    }
    while (is_alive(d)) /* someone was first and is writing */
        sched_yield();
}

const char *dev_name(const dev *d) { return d->ops->name; }
const char *dev_model(const dev *d) { return d->model; }
const char *dev_rounding(const dev *d) { return d->rounding; }
int dev_threads(const dev *d) { return d->threads > 0 ? d->threads : 1; }

bool dev_is_discrete(const dev *d) { return d->ops->memory_free != NULL; }
size_t dev_overhead(const dev *d) { return d->overhead; }
size_t dev_memory_free(dev *d) { return d->ops->memory_free ? d->ops->memory_free(d) : 0; }
bool dev_is_async(const dev *d) { return d->ops->elapsed != NULL; }

double dev_elapsed(dev *d, dev_event *from, dev_event *to)
{
    assert(from && to && dev_is_async(d));
    return is_alive(d) ? d->ops->elapsed(d, from, to) : 0.0;
}

/* Getting and giving back works on a failed device, or nothing could be freed; so does
 * waiting for what was under way when it failed. */
void *dev_alloc(dev *d, size_t bytes, dev_mem kind)
{
    assert(bytes > 0);
    return d->ops->alloc(d, bytes, kind);
}

void dev_free(dev *d, void *p, size_t bytes, dev_mem kind)
{
    if (p)
        d->ops->free(d, p, bytes, kind);
}

dev_event *dev_event_open(dev *d) { return d->ops->event_open(d); }

void dev_event_close(dev *d, dev_event *e)
{
    if (e)
        d->ops->event_close(d, e);
}

void dev_sync(dev *d, dev_event *e)
{
    if (e)
        d->ops->sync(d, e);
}

void dev_close(dev *d)
{
    if (d)
        d->ops->close(d);
}

void dev_copy_in(dev *d, void *dst, const void *src, size_t bytes)
{
    assert(dst && src && bytes > 0);
    if (is_alive(d))
        d->ops->copy_in(d, dst, src, bytes);
}

void dev_put(dev *d, void *dst, const void *src, size_t bytes)
{
    if (is_alive(d))
        d->ops->put(d, dst, src, bytes);
}

void dev_get(dev *d, void *dst, const void *src, size_t bytes)
{
    if (is_alive(d))
        d->ops->get(d, dst, src, bytes);
}

/* Works on a failed device too: a copy enqueued just before may still be under way, and
 * whoever owns its memory must be able to wait for it. */
void dev_record(dev *d, dev_event *e, dev_queue q)
{
    assert(e);
    d->ops->record(d, e, q);
}

void dev_wait(dev *d, dev_queue q, dev_event *e)
{
    assert(e);
    if (is_alive(d))
        d->ops->wait(d, q, e);
}

void dev_listen(dev *d, dev_told *told, void *context)
{
    d->told = told;
    d->told_context = context;
    if (told)
        told(context, d->kind);
}

void dev_workspace_set(dev *d, void *p, size_t bytes)
{
    d->workspace = p;
    d->workspace_bytes = p ? bytes : 0;
}
