/* kernels/host_queue.c -- one thread, one lock, one condition for everything that moves.
 *
 * A record is a ticket: events count how often they were recorded and which ticket has
 * passed last.  Tickets pass in order on one queue; recorded on both queues in turn, a
 * later ticket may pass first, and the event has then passed for the earlier one too,
 * which is why `passed` only grows.
 *
 * There are a few thousand items a second at most, so waking every waiter at every move
 * costs nothing that can be measured.
 */
#include "kernels/host_queue.h"

#include "engine/base/mem.h"
#include "engine/base/thread.h"

#include <string.h>

enum { RING = 256 }; /* a power of two */

typedef enum { ITEM_COPY, ITEM_RECORD, ITEM_WAIT } host_command_kind;

typedef struct host_command {
    host_command_kind kind;
    void *dst;
    const void *src;
    size_t bytes;
    dev_event *event;
    uint64_t ticket;
} host_command;

struct dev_event {
    uint64_t recorded, passed; /* under the lock of the queue */
};

struct host_queue {
    thread copier;
    pthread_mutex_t lock;
    pthread_cond_t moved; /* an event passed, an item came or went, or we stop */
    uint64_t head, tail;  /* only grow; items [head, tail) are pending */
    bool stop;
    host_command ring[RING];
};

static void await_ticket(host_queue *q, const dev_event *e, uint64_t ticket)
{
    while (e->passed < ticket)
        pthread_cond_wait(&q->moved, &q->lock);
}

static void pass_ticket(host_queue *q, dev_event *e, uint64_t ticket)
{
    if (e->passed < ticket)
        e->passed = ticket;
    pthread_cond_broadcast(&q->moved);
}

/* Called and returns with the lock held; a copy runs without it. */
static void execute_item(host_queue *q, host_command it)
{
    switch (it.kind) {
    case ITEM_COPY:
        pthread_mutex_unlock(&q->lock);
        memcpy(it.dst, it.src, it.bytes);
        pthread_mutex_lock(&q->lock);
        break;
    case ITEM_RECORD: pass_ticket(q, it.event, it.ticket); break;
    case ITEM_WAIT: await_ticket(q, it.event, it.ticket); break;
    }
}

static void copy_thread(void *context)
{
    host_queue *q = context;

    pthread_mutex_lock(&q->lock);
    for (;;) {
        while (q->head == q->tail && !q->stop)
            pthread_cond_wait(&q->moved, &q->lock);
        if (q->head == q->tail)
            break;
        execute_item(q, q->ring[q->head % RING]);
        q->head++;
        pthread_cond_broadcast(&q->moved);
    }
    pthread_mutex_unlock(&q->lock);
}

static void push_item(host_queue *q, host_command it)
{
    while (q->tail - q->head == RING)
        pthread_cond_wait(&q->moved, &q->lock);
    q->ring[q->tail++ % RING] = it;
    pthread_cond_broadcast(&q->moved);
}

host_queue *host_queue_open(refine_error *err)
{
    host_queue *q = mem_calloc(1, sizeof *q);
    if (!q) {
        refine_fail(err, REFINE_ENOMEM, "copy queue: out of memory (%zu bytes)", sizeof *q);
        return NULL;
    }
    if (pthread_mutex_init(&q->lock, NULL) != 0)
        goto no_lock;
    if (pthread_cond_init(&q->moved, NULL) != 0)
        goto no_cond;
    if (!thread_start(&q->copier, "refine-dma", copy_thread, q))
        goto no_thread;
    return q;

no_thread:
    pthread_cond_destroy(&q->moved);
no_cond:
    pthread_mutex_destroy(&q->lock);
no_lock:
    mem_free(q);
    refine_fail(
        err, REFINE_ENOMEM,
        "copy queue: cannot start a thread; is the limit on processes reached (ulimit -u)?");
    return NULL;
}

void host_queue_close(host_queue *q)
{
    if (!q)
        return;
    pthread_mutex_lock(&q->lock);
    q->stop = true;
    pthread_cond_broadcast(&q->moved);
    pthread_mutex_unlock(&q->lock);
    thread_join(&q->copier);
    pthread_cond_destroy(&q->moved);
    pthread_mutex_destroy(&q->lock);
    mem_free(q);
}

void host_queue_copy(host_queue *q, void *dst, const void *src, size_t bytes)
{
    pthread_mutex_lock(&q->lock);
    push_item(q, (host_command){ .kind = ITEM_COPY, .dst = dst, .src = src, .bytes = bytes });
    pthread_mutex_unlock(&q->lock);
}

void host_queue_record(host_queue *q, dev_event *e, dev_queue on)
{
    pthread_mutex_lock(&q->lock);
    const uint64_t ticket = ++e->recorded;
    if (on == DEV_COMPUTE)
        pass_ticket(q, e, ticket);
    else
        push_item(q, (host_command){ .kind = ITEM_RECORD, .event = e, .ticket = ticket });
    pthread_mutex_unlock(&q->lock);
}

void host_queue_wait(host_queue *q, dev_queue on, dev_event *e)
{
    pthread_mutex_lock(&q->lock);
    if (on == DEV_COMPUTE)
        await_ticket(q, e, e->recorded);
    else if (e->passed < e->recorded)
        push_item(q, (host_command){ .kind = ITEM_WAIT, .event = e, .ticket = e->recorded });
    pthread_mutex_unlock(&q->lock);
}

void host_queue_sync(host_queue *q, dev_event *e)
{
    pthread_mutex_lock(&q->lock);
    await_ticket(q, e, e->recorded);
    pthread_mutex_unlock(&q->lock);
}

dev_event *host_event_open(void) { return mem_calloc(1, sizeof(dev_event)); }
void host_event_close(dev_event *e) { mem_free(e); }
