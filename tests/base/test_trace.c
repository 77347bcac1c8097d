/* tests/base/test_trace.c -- events are kept in order, and what is lost is counted. */
#include "engine/base/trace.h"

#include "engine/base/clock.h"
#include "engine/base/mem.h"
#include "engine/base/thread.h"

#include <criterion/criterion.h>
#include <stdatomic.h>

enum { ROOM = 8, THREADS = 4, EACH = 300000 };

static void add_copy_event(trace *t, int chunk)
{
    const double now = clock_seconds();
    trace_add(t, REFINE_LANE_COPY, chunk, now, now + chunk, (uint64_t)chunk * 10);
}

Test(base_trace, events_stay_in_order_and_keep_what_they_said)
{
    const double before = clock_seconds();
    trace *t = trace_open(ROOM);
    const double after = clock_seconds();
    size_t n, lost;
    for (int i = 0; i < ROOM; i++)
        trace_add(t, (refine_lane)(i % REFINE_LANES), i, after + i, after + 2 * i,
                  (uint64_t)i << 40);
    const refine_event *e = trace_events(t, &n, &lost);
    cr_assert_eq(n, ROOM);
    cr_assert_eq(lost, 0);
    for (int i = 0; i < ROOM; i++) {
        cr_assert_eq(e[i].lane, (refine_lane)(i % REFINE_LANES));
        cr_assert_eq(e[i].chunk, i);
        cr_assert_eq(e[i].bytes, (uint64_t)i << 40);
        /* Time began between `before` and `after`. */
        cr_assert_float_eq(e[i].begin, i, after - before + 1e-6);
        cr_assert_float_eq(e[i].end, 2 * i, after - before + 1e-6);
    }
    trace_close(t);
}

Test(base_trace, an_empty_one_has_no_events)
{
    trace *t = trace_open(ROOM);
    size_t n = 9, lost = 9;
    (void)trace_events(t, &n, &lost);
    cr_assert_eq(n, 0);
    cr_assert_eq(lost, 0);
    trace_close(t);
}

Test(base_trace, what_finds_no_room_is_counted_and_the_first_stay)
{
    trace *t = trace_open(ROOM);
    size_t n, lost;
    for (int i = 0; i < ROOM + 5; i++)
        add_copy_event(t, i);
    const refine_event *e = trace_events(t, &n, &lost);
    cr_assert_eq(n, ROOM);
    cr_assert_eq(lost, 5);
    for (int i = 0; i < ROOM; i++)
        cr_assert_eq(e[i].chunk, i);
    trace_close(t);
}

Test(base_trace, without_room_everything_is_lost)
{
    trace *t = trace_open(0);
    size_t n, lost;
    add_copy_event(t, 1);
    (void)trace_events(t, &n, &lost);
    cr_assert_eq(n, 0);
    cr_assert_eq(lost, 1);
    trace_close(t);
}

Test(base_trace, a_cleared_one_begins_again)
{
    trace *t = trace_open(ROOM);
    size_t n, lost;
    for (int i = 0; i < ROOM + 5; i++)
        add_copy_event(t, i);
    trace_clear(t);
    (void)trace_events(t, &n, &lost);
    cr_assert_eq(n, 0);
    cr_assert_eq(lost, 0);
    add_copy_event(t, 77);
    const refine_event *e = trace_events(t, &n, &lost);
    cr_assert_eq(n, 1);
    cr_assert_eq(e[0].chunk, 77);
    trace_close(t);
}

typedef struct writer {
    trace *t;
    int number;
    atomic_int *started; /* they begin together */
    thread th;
} writer;

static void write_all(void *context)
{
    const writer *w = context;
    atomic_fetch_add(w->started, 1);
    while (atomic_load(w->started) < THREADS)
        continue;
    for (int i = 0; i < EACH; i++)
        trace_add(w->t, REFINE_LANE_DISK, w->number * EACH + i, 0, 0, 0);
}

static trace *write_from_threads(size_t room)
{
    trace *t = trace_open(room);
    writer w[THREADS];
    atomic_int started = 0;
    for (int i = 0; i < THREADS; i++) {
        w[i] = (writer){ .t = t, .number = i, .started = &started };
        cr_assert(thread_start(&w[i].th, "test", write_all, &w[i]));
    }
    for (int i = 0; i < THREADS; i++)
        thread_join(&w[i].th);
    return t;
}

Test(base_trace, threads_lose_nothing_and_each_keeps_its_order)
{
    trace *t = write_from_threads(THREADS * EACH);
    int next[THREADS] = { 0 };
    size_t n, lost;
    const refine_event *e = trace_events(t, &n, &lost);
    cr_assert_eq(n, THREADS * EACH);
    cr_assert_eq(lost, 0);
    for (size_t i = 0; i < n; i++) {
        const int who = e[i].chunk / EACH;
        cr_assert(who >= 0 && who < THREADS);
        cr_assert_eq(e[i].chunk % EACH, next[who]++, "of thread %d", who);
    }
    trace_close(t);
}

Test(base_trace, threads_in_too_little_room_lose_a_number_that_is_known)
{
    trace *t = write_from_threads(THREADS * EACH / 3);
    size_t n, lost;
    (void)trace_events(t, &n, &lost);
    cr_assert_eq(n, THREADS * EACH / 3);
    cr_assert_eq(n + lost, THREADS * EACH);
    trace_close(t);
}

Test(base_trace, it_takes_what_it_said_and_gives_it_back)
{
    const mem_usage before = mem_used();
    trace *t = trace_open(ROOM);
    cr_assert_eq(mem_used().now - before.now, trace_memory(ROOM));
    cr_assert_geq(trace_memory(ROOM), ROOM * sizeof(refine_event));
    const uint64_t calls = mem_used().calls;
    add_copy_event(t, 1);
    cr_assert_eq(mem_used().calls, calls);
    trace_close(t);
    cr_assert_eq(mem_used().now, before.now);

    mem_fail_after(0, MEM_FAIL_ONCE);
    cr_assert_null(trace_open(ROOM));
}

Test(base_trace, none_at_all_is_fine)
{
    size_t n = 9, lost = 9;
    add_copy_event(NULL, 1);
    trace_clear(NULL);
    cr_assert_null(trace_events(NULL, &n, &lost));
    cr_assert_eq(n, 0);
    cr_assert_eq(lost, 0);
    trace_close(NULL);
}
