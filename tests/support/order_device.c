/* tests/support/order_device.c -- a device that does everything as early or as late as legal. */
#define _POSIX_C_SOURCE 200809L
#include "tests/support/order_device.h"

#include "engine/base/clock.h"
#include "kernels/backend.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 1 << 16, POISON = 0xdb };

typedef enum ordered_kind { ITEM_COPY, ITEM_WAIT, ITEM_READ } ordered_kind;

typedef struct ordered_command {
    ordered_kind kind;
    void *dst;
    const void *src;
    size_t bytes;
    dev_queue on;  /* ITEM_WAIT: queue `on` must have come */
    uint64_t upto; /* this far */
} ordered_command;

struct dev_event {
    int recorded;
    dev_queue on;
    uint64_t upto;
    double at; /* when it was recorded */
};

typedef struct ordered_fifo {
    ordered_command *item;
    uint64_t head, tail;
    int running;
} ordered_fifo;

typedef struct order_dev {
    dev base;
    pthread_mutex_t lock;
    order order;
    uint32_t random;
    ordered_fifo q[2];
    int live, allocs_left, reads, wrong;
    double delay; /* of a sync */
} order_dev;

static order_dev *order_dev_of(dev *d) { return (order_dev *)(void *)d; }

/* ---- running; with the lock held ---- */

static void run_to(order_dev *o, dev_queue q, uint64_t upto)
{
    ordered_fifo *f = &o->q[q];
    if (f->head >= upto)
        return;
    assert(!f->running && "two queues wait for each other");
    f->running = 1;
    while (f->head < upto) {
        const ordered_command it = f->item[f->head % MOST];
        if (it.kind == ITEM_COPY)
            memcpy(it.dst, it.src, it.bytes);
        else if (it.kind == ITEM_WAIT)
            run_to(o, it.on, it.upto);
        else
            o->wrong += memcmp(it.dst, it.src, it.bytes) != 0;
        f->head++;
    }
    f->running = 0;
}

static int is_queue_eager(order_dev *o, dev_queue q)
{
    switch (o->order) {
    case ORDER_EAGER: return 1;
    case ORDER_COPY_FIRST: return q == DEV_COPY;
    case ORDER_COMPUTE_FIRST: return q == DEV_COMPUTE;
    case ORDER_RANDOM:
        o->random = o->random * 1664525u + 1013904223u;
        return (int)(o->random >> 31);
    default: return 0;
    }
}

static void push_ordered_item(dev *d, dev_queue q, ordered_command it)
{
    order_dev *o = order_dev_of(d);
    pthread_mutex_lock(&o->lock);
    ordered_fifo *f = &o->q[q];
    assert(f->tail - f->head < MOST);
    f->item[f->tail++ % MOST] = it;
    for (int i = 0; i < 2; i++)
        if (is_queue_eager(o, (dev_queue)i))
            run_to(o, (dev_queue)i, o->q[i].tail);
    pthread_mutex_unlock(&o->lock);
}

/* ---- the operations ---- */

static int may_allocate(order_dev *o)
{
    pthread_mutex_lock(&o->lock);
    const int ok = o->allocs_left != 0;
    o->allocs_left -= o->allocs_left > 0 || !ok;
    o->live += ok;
    pthread_mutex_unlock(&o->lock);
    return ok;
}

static void give_back(order_dev *o)
{
    pthread_mutex_lock(&o->lock);
    o->live--;
    pthread_mutex_unlock(&o->lock);
}

static void *o_alloc(dev *d, size_t bytes, dev_mem kind)
{
    (void)kind;
    if (!may_allocate(order_dev_of(d)))
        return NULL;
    void *p = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
    return p ? memset(p, POISON, bytes) : NULL;
}

static int is_inside_block(const void *p, const char *block, size_t bytes)
{
    return (const char *)p >= block && (const char *)p < block + bytes;
}

/* Memory must not go while a copy from or to it is still to come. */
static void o_free(dev *d, void *p, size_t bytes, dev_mem kind)
{
    order_dev *o = order_dev_of(d);
    const ordered_fifo *f = &o->q[DEV_COPY];
    (void)kind;
    for (uint64_t i = f->head; i < f->tail; i++) {
        const ordered_command *it = &f->item[i % MOST];
        assert(it->kind != ITEM_COPY ||
               (!is_inside_block(it->src, p, bytes) && !is_inside_block(it->dst, p, bytes)));
    }
    give_back(o);
    free(p);
}

static dev_event *o_event_open(dev *d)
{
    return may_allocate(order_dev_of(d)) ? calloc(1, sizeof(dev_event)) : NULL;
}

static void o_event_close(dev *d, dev_event *e)
{
    give_back(order_dev_of(d));
    free(e);
}

static void o_copy_in(dev *d, void *dst, const void *src, size_t bytes)
{
    push_ordered_item(
        d, DEV_COPY,
        (ordered_command){ .kind = ITEM_COPY, .dst = dst, .src = src, .bytes = bytes });
}

static void o_record(dev *d, dev_event *e, dev_queue q)
{
    order_dev *o = order_dev_of(d);
    pthread_mutex_lock(&o->lock);
    *e = (dev_event){ 1, q, o->q[q].tail, clock_seconds() };
    pthread_mutex_unlock(&o->lock);
}

static void o_wait(dev *d, dev_queue q, dev_event *e)
{
    order_dev *o = order_dev_of(d);
    pthread_mutex_lock(&o->lock);
    const dev_event at = *e;
    pthread_mutex_unlock(&o->lock);
    if (at.recorded && at.on != q)
        push_ordered_item(d, q,
                          (ordered_command){ .kind = ITEM_WAIT, .on = at.on, .upto = at.upto });
}

static void o_sync(dev *d, dev_event *e)
{
    order_dev *o = order_dev_of(d);
    if (o->delay > 0)
        clock_sleep_until(clock_seconds() + o->delay);
    pthread_mutex_lock(&o->lock);
    if (e->recorded)
        run_to(o, e->on, e->upto);
    pthread_mutex_unlock(&o->lock);
}

/* It runs behind, and is timed as if it did not. */
static double o_elapsed(dev *d, dev_event *from, dev_event *to)
{
    (void)d;
    return to->at - from->at;
}

/* What has not run by now reads freed memory, if it ever runs: it must not. */
static void o_close(dev *d)
{
    order_dev *o = order_dev_of(d);
    pthread_mutex_destroy(&o->lock);
    free(o->q[0].item);
    free(o->q[1].item);
    free(o);
}

static const struct dev_ops ORDER_OPS = {
    .name = "order",
    .alloc = o_alloc,
    .free = o_free,
    .event_open = o_event_open,
    .event_close = o_event_close,
    .copy_in = o_copy_in,
    .record = o_record,
    .wait = o_wait,
    .sync = o_sync,
    .elapsed = o_elapsed,
    .close = o_close,
};

dev *dev_open_order(order when, unsigned seed)
{
    order_dev *o = calloc(1, sizeof *o);
    assert(o);
    o->base.ops = &ORDER_OPS;
    o->order = when;
    o->random = seed;
    o->allocs_left = -1;
    o->q[0].item = calloc(MOST, sizeof(ordered_command));
    o->q[1].item = calloc(MOST, sizeof(ordered_command));
    assert(o->q[0].item && o->q[1].item);
    pthread_mutex_init(&o->lock, NULL);
    return &o->base;
}

void order_device_read(dev *d, const void *at, const void *want, size_t bytes)
{
    if (dev_status(d) != REFINE_OK)
        return;
    order_dev_of(d)->reads++;
    push_ordered_item(
        d, DEV_COMPUTE,
        (ordered_command){
            .kind = ITEM_READ, .dst = (void *)(uintptr_t)at, .src = want, .bytes = bytes });
}

void order_device_finish(dev *d, int *reads, int *wrong)
{
    order_dev *o = order_dev_of(d);
    pthread_mutex_lock(&o->lock);
    run_to(o, DEV_COMPUTE, o->q[DEV_COMPUTE].tail);
    run_to(o, DEV_COPY, o->q[DEV_COPY].tail);
    pthread_mutex_unlock(&o->lock);
    *reads = o->reads;
    *wrong = o->wrong;
}

void order_device_delay_sync(dev *d, double seconds) { order_dev_of(d)->delay = seconds; }

int order_device_live(const dev *d) { return ((const order_dev *)(const void *)d)->live; }

void order_device_fail_after(dev *d, int n) { order_dev_of(d)->allocs_left = n; }
