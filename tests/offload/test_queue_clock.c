/* tests/offload/test_queue_clock.c -- stretches of a queue, by a clock that the test sets. */
#include "offload/queue_clock.h"

#include "engine/base/clock.h"
#include "engine/base/mem.h"
#include "kernels/backend.h"

#include <criterion/criterion.h>

/* The queue's own clock: `now` is when what has been enqueued so far will have run. */
struct dev_event {
    double at;
    bool synced;
};

typedef struct clocked_device {
    dev base;
    double now;
    int open, left; /* events; left < 0: as many as are wanted */
} clocked_device;

static clocked_device *clocked_device_of(dev *d) { return (clocked_device *)d; }

static dev_event *fake_event_open(dev *d)
{
    clocked_device *m = clocked_device_of(d);
    if (m->left == 0)
        return NULL;
    m->left--;
    m->open++;
    return mem_calloc(1, sizeof(dev_event));
}

static void fake_event_close(dev *d, dev_event *e)
{
    clocked_device_of(d)->open--;
    mem_free(e);
}

static void fake_event_record(dev *d, dev_event *e, dev_queue q)
{
    cr_assert_eq(q, DEV_COMPUTE);
    *e = (dev_event){ .at = clocked_device_of(d)->now };
}

static void fake_event_sync(dev *d, dev_event *e)
{
    (void)d;
    e->synced = true;
}

static double fake_event_elapsed(dev *d, dev_event *from, dev_event *to)
{
    (void)d;
    cr_assert(from->synced && to->synced, "asked before both had passed");
    return to->at - from->at;
}

static const struct dev_ops BEHIND = { .name = "behind",
                                       .event_open = fake_event_open,
                                       .event_close = fake_event_close,
                                       .record = fake_event_record,
                                       .sync = fake_event_sync,
                                       .elapsed = fake_event_elapsed };
static const struct dev_ops AT_ONCE = { .name = "at once" };

/* What was told. */
typedef struct clock_ear {
    struct {
        refine_lane lane;
        int chunk;
        double begin, end;
    } told[4 * QUEUE_CLOCK_MARKS];
    int n;
} clock_ear;

static void record_stretch(void *context, queue_stretch s, double begin, double end)
{
    clock_ear *e = context;
    e->told[e->n].lane = s.lane;
    e->told[e->n].chunk = s.chunk;
    e->told[e->n].begin = begin;
    e->told[e->n++].end = end;
}

static void mark_lane(queue_clock *q, refine_lane lane, int chunk)
{
    queue_clock_mark(q, (queue_stretch){ .lane = lane, .chunk = chunk });
}

static clocked_device make_fake_device(const struct dev_ops *ops)
{
    return (clocked_device){ .base = { .ops = ops }, .left = -1 };
}

static void expect_stretch(const clock_ear *e, int i, refine_lane lane, int chunk, double seconds)
{
    cr_assert_lt(i, e->n);
    cr_expect_eq(e->told[i].lane, lane);
    cr_expect_eq(e->told[i].chunk, chunk);
    cr_expect_float_eq(e->told[i].end - e->told[i].begin, seconds, 1e-6, "%d: %g s", i,
                       e->told[i].end - e->told[i].begin);
}

Test(offload_queue_clock, tells_the_queues_own_times_and_not_the_hosts)
{
    static queue_clock q;
    static clock_ear e;
    clocked_device m = make_fake_device(&BEHIND);
    const double begun = clock_seconds();
    cr_assert(queue_clock_open(&q, &m.base, record_stretch, &e));
    mark_lane(&q, REFINE_LANE_COMPUTE, -1);
    const double first = clock_seconds();
    m.now += 0.5;
    mark_lane(&q, REFINE_LANE_STALL_DISK, 7);
    m.now += 2.0;
    mark_lane(&q, REFINE_LANE_COMPUTE, 7);
    m.now += 10.0;
    mark_lane(&q, REFINE_LANE_COMPUTE, -1); /* idle */
    m.now += 0.25;
    mark_lane(&q, REFINE_LANE_COMPUTE, 8);
    cr_expect_eq(e.n, 0, "nothing has passed yet");
    queue_clock_settle(&q);
    cr_assert_eq(e.n, 3);
    expect_stretch(&e, 0, REFINE_LANE_STALL_DISK, 7, 0.5);
    expect_stretch(&e, 1, REFINE_LANE_COMPUTE, 7, 2.0);
    expect_stretch(&e, 2, REFINE_LANE_COMPUTE, 8, 0.25);
    cr_expect(e.told[0].begin >= begun && e.told[0].begin <= first, "from the first mark on");
    cr_expect_eq(e.told[1].begin, e.told[0].end);
    cr_expect_float_eq(e.told[2].begin, e.told[1].end + 10.0, 1e-6);
    queue_clock_close(&q);
    cr_expect_eq(m.open, 0);
}

static void keep_last(void *context, queue_stretch s, double begin, double end)
{
    (void)begin, (void)end;
    *(queue_stretch *)context = s;
}

Test(offload_queue_clock, tells_all_that_is_known_of_a_stretch)
{
    static queue_clock q;
    queue_stretch last = { 0 };
    clocked_device m = make_fake_device(&BEHIND);
    cr_assert(queue_clock_open(&q, &m.base, keep_last, &last));
    for (int i = 0; i < 2; i++) {
        const queue_stretch s = { REFINE_LANE_COMPUTE, 4, i ? DEV_CONV : DEV_ATTENTION, i == 1 };
        queue_clock_mark(&q, s);
        queue_clock_settle(&q);
        cr_expect(last.kind == s.kind && last.ends == s.ends && last.chunk == 4);
    }
    queue_clock_close(&q);
}

Test(offload_queue_clock, loses_nothing_when_the_queue_is_far_behind)
{
    enum { ALL = 3 * QUEUE_CLOCK_MARKS };
    static queue_clock q;
    static clock_ear e;
    clocked_device m = make_fake_device(&BEHIND);
    cr_assert(queue_clock_open(&q, &m.base, record_stretch, &e));
    for (int i = 0; i <= ALL; i++) {
        mark_lane(&q, REFINE_LANE_COMPUTE, i - 1);
        cr_expect_geq(e.n, i - QUEUE_CLOCK_MARKS);
        m.now += 1.0 + i;
    }
    queue_clock_settle(&q);
    cr_assert_eq(e.n, ALL);
    for (int i = 0; i < ALL; i++)
        expect_stretch(&e, i, REFINE_LANE_COMPUTE, i, 1.0 + i);
    queue_clock_close(&q);
}

Test(offload_queue_clock, tells_at_once_on_a_device_that_does)
{
    static queue_clock q;
    static clock_ear e;
    clocked_device m = make_fake_device(&AT_ONCE);
    cr_assert(queue_clock_open(&q, &m.base, record_stretch, &e));
    mark_lane(&q, REFINE_LANE_COMPUTE, -1);
    const double before = clock_seconds();
    clock_sleep_until(before + 0.01);
    mark_lane(&q, REFINE_LANE_COMPUTE, 3);
    cr_assert_eq(e.n, 1);
    cr_expect_geq(e.told[0].end - e.told[0].begin, 0.01);
    cr_expect_leq(e.told[0].end, clock_seconds());
    queue_clock_close(&q);
}

Test(offload_queue_clock, of_a_device_that_failed_comes_to_an_end)
{
    static queue_clock q;
    static clock_ear e;
    clocked_device m = make_fake_device(&BEHIND);
    cr_assert(queue_clock_open(&q, &m.base, record_stretch, &e));
    mark_lane(&q, REFINE_LANE_COMPUTE, 1);
    m.now += 1.0;
    mark_lane(&q, REFINE_LANE_COMPUTE, 2);
    dev_fail(&m.base, REFINE_EDEVICE, "lost");
    queue_clock_settle(&q);
    cr_expect_eq(e.n, 2);
    expect_stretch(&e, 1, REFINE_LANE_COMPUTE, 2, 0.0);
    queue_clock_close(&q);
    cr_expect_eq(m.open, 0);
}

Test(offload_queue_clock, gives_back_what_it_had_when_there_is_not_enough)
{
    static queue_clock q;
    clocked_device m = make_fake_device(&BEHIND);
    m.left = 100;
    cr_expect_not(queue_clock_open(&q, &m.base, record_stretch, NULL));
    queue_clock_close(&q);
    cr_expect_eq(m.open, 0);
}
