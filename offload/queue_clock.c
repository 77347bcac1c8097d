/* offload/queue_clock.c -- a ring of marks, told in the order in which they were made. */
#include "offload/queue_clock.h"

#include "engine/base/clock.h"

#include <string.h>

static queue_mark *mark_number(queue_clock *q, uint64_t i)
{
    return &q->marks[i % QUEUE_CLOCK_MARKS];
}

bool queue_clock_open(queue_clock *q, dev *d, queue_told *tell, void *context)
{
    memset(q, 0, sizeof *q);
    q->d = d;
    q->tell = tell;
    q->context = context;
    for (int i = 0; i < QUEUE_CLOCK_MARKS && dev_is_async(d); i++) {
        q->marks[i].event = dev_event_open(d);
        if (!q->marks[i].event)
            return false;
    }
    return true;
}

void queue_clock_close(queue_clock *q)
{
    for (int i = 0; i < QUEUE_CLOCK_MARKS; i++)
        dev_event_close(q->d, q->marks[i].event);
}

/* Seconds from the mark before number i to it.  Both have passed. */
static double seconds_before(queue_clock *q, uint64_t i)
{
    const queue_mark *from = mark_number(q, i - 1), *to = mark_number(q, i);
    return to->event ? dev_elapsed(q->d, from->event, to->event) : to->made - q->at;
}

static void pass_one(queue_clock *q)
{
    const queue_mark *m = mark_number(q, q->passed);
    const double begin = q->passed > 0 ? q->at : m->made;
    dev_sync(q->d, m->event);
    q->at = q->passed > 0 ? begin + seconds_before(q, q->passed) : m->made;
    q->passed++;
    if (m->stretch.chunk >= 0)
        q->tell(q->context, m->stretch, begin, q->at);
}

void queue_clock_settle(queue_clock *q)
{
    while (q->passed < q->made)
        pass_one(q);
}

/* The mark that passed last keeps its event until the next has passed. */
void queue_clock_mark(queue_clock *q, queue_stretch s)
{
    if (q->made - q->passed == QUEUE_CLOCK_MARKS - 1)
        pass_one(q);
    queue_mark *m = mark_number(q, q->made++);
    m->stretch = s;
    m->made = clock_seconds();
    if (m->event)
        dev_record(q->d, m->event, DEV_COMPUTE);
    else
        queue_clock_settle(q);
}
