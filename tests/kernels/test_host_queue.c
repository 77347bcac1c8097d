/* tests/kernels/test_host_queue.c -- order between a host device's two queues. */
#include "kernels/host_queue.h"

#include "engine/base/mem.h"
#include "engine/base/thread.h"

#include <criterion/criterion.h>
#include <stdatomic.h>
#include <string.h>

static host_queue *open_queue(void)
{
    refine_error err = { 0 };
    host_queue *q = host_queue_open(&err);
    cr_assert(q, "%s", err.text);
    return q;
}

Test(kernels_host_queue, copies_in_the_order_given)
{
    enum { N = 2000 }; /* more than the ring holds */
    static int source[N], to;
    host_queue *q = open_queue();
    dev_event *done = host_event_open();

    for (int i = 0; i < N; i++) {
        source[i] = i + 1;
        host_queue_copy(q, &to, &source[i], sizeof to);
    }
    host_queue_record(q, done, DEV_COPY);
    host_queue_sync(q, done);
    cr_expect(to == N);
    host_event_close(done);
    host_queue_close(q);
}

Test(kernels_host_queue, a_compute_wait_sees_what_was_copied_before_the_record)
{
    enum { BYTES = 64 << 20 };
    char *from = mem_map(BYTES), *to = mem_map(BYTES);
    host_queue *q = open_queue();
    dev_event *e = host_event_open();

    cr_assert(from && to && e);
    memset(from, 7, BYTES);
    for (int round = 0; round < 3; round++) {
        memset(to, 0, BYTES);
        host_queue_copy(q, to, from, BYTES);
        host_queue_record(q, e, DEV_COPY);
        host_queue_wait(q, DEV_COMPUTE, e);
        cr_assert(to[BYTES - 1] == 7 && to[0] == 7);
    }
    host_event_close(e);
    host_queue_close(q);
    mem_unmap(from, BYTES);
    mem_unmap(to, BYTES);
}

Test(kernels_host_queue, an_event_never_recorded_is_free)
{
    host_queue *q = open_queue();
    dev_event *e = host_event_open();
    host_queue_wait(q, DEV_COMPUTE, e);
    host_queue_wait(q, DEV_COPY, e);
    host_queue_sync(q, e);
    host_event_close(e);
    host_queue_close(q);
}

Test(kernels_host_queue, a_compute_record_passes_at_once)
{
    int from = 3, to = 0;
    host_queue *q = open_queue();
    dev_event *used = host_event_open(), *copied = host_event_open();

    for (int i = 0; i < 1000; i++) { /* a slot: filled, used, filled again */
        from = i;
        host_queue_wait(q, DEV_COPY, used);
        host_queue_copy(q, &to, &from, sizeof to);
        host_queue_record(q, copied, DEV_COPY);
        host_queue_wait(q, DEV_COMPUTE, copied);
        cr_assert(to == i);
        host_queue_record(q, used, DEV_COMPUTE);
    }
    host_event_close(used);
    host_event_close(copied);
    host_queue_close(q);
}

Test(kernels_host_queue, closing_executes_what_was_pushed)
{
    int from[100], to[100] = { 0 };
    host_queue *q = open_queue();
    for (int i = 0; i < 100; i++) {
        from[i] = i;
        host_queue_copy(q, &to[i], &from[i], sizeof to[i]);
    }
    host_queue_close(q);
    cr_expect(memcmp(from, to, sizeof to) == 0);
}

typedef struct pusher {
    host_queue *q;
    dev_event *done;
    int from, to;
    atomic_int pushed;
} pusher;

static void push_many(void *context)
{
    pusher *p = context;
    for (int i = 0; i < 600; i++) {
        host_queue_copy(p->q, &p->to, &p->from, sizeof p->to);
        atomic_fetch_add(&p->pushed, 1);
    }
    host_queue_record(p->q, p->done, DEV_COPY);
}

/* Two threads, as contracted: one feeds the copy queue, the other records on compute. */
Test(kernels_host_queue, serves_a_feeding_and_a_computing_thread)
{
    pusher p = { .q = open_queue(), .done = host_event_open(), .from = 5 };
    dev_event *mine = host_event_open();
    thread t = { .running = false };

    cr_assert(thread_start(&t, "feeder", push_many, &p));
    for (int i = 0; i < 600; i++) {
        host_queue_record(p.q, mine, DEV_COMPUTE);
        host_queue_sync(p.q, mine);
    }
    thread_join(&t);
    host_queue_sync(p.q, p.done);
    cr_expect(atomic_load(&p.pushed) == 600 && p.to == 5);
    host_event_close(mine);
    host_event_close(p.done);
    host_queue_close(p.q);
}

Test(kernels_host_queue, allocates_nothing_after_opening)
{
    int from = 1, to = 0;
    host_queue *q = open_queue();
    dev_event *e = host_event_open();
    const mem_usage before = mem_used();
    for (int i = 0; i < 1000; i++) {
        host_queue_copy(q, &to, &from, sizeof to);
        host_queue_record(q, e, DEV_COPY);
        host_queue_wait(q, DEV_COPY, e);
    }
    host_queue_sync(q, e);
    cr_expect(mem_used().calls == before.calls);
    host_event_close(e);
    host_queue_close(q);
}

Test(kernels_host_queue, survives_every_failure_to_open)
{
    for (int k = 0; k < 2; k++) {
        refine_error err = { 0 };
        const uint64_t before = mem_used().now;
        mem_fail_after(k, MEM_FAIL_ONCE);
        cr_expect(host_queue_open(&err) == NULL);
        mem_fail_after(-1, MEM_FAIL_ONCE);
        cr_expect(err.status == REFINE_ENOMEM && err.text[0]);
        cr_expect(mem_used().now == before);
    }
    mem_fail_after(0, MEM_FAIL_ONCE);
    cr_expect(host_event_open() == NULL);
    mem_fail_after(-1, MEM_FAIL_ONCE);
    host_queue_close(NULL);
    host_event_close(NULL);
}
