/* offload/queue_clock.h -- what the compute queue spent its time on.
 *
 * A mark ends a stretch of the queue and says what it was.  On a device that runs behind, marks
 * are events, and their times are known when the queue has passed them: at the latest with
 * queue_clock_settle, or MARKS marks later.  On others they are told at once.
 *
 *     queue   ---compute of a---|--wait--|---compute of b---|
 *     marks                     a      stall                b
 *
 * The times are of clock_seconds(): the first mark of all is taken to pass when it is made, the
 * others follow it by the queue's own clock.  One thread, that of the compute queue.
 */
#ifndef REFINE_QUEUE_CLOCK_H
#define REFINE_QUEUE_CLOCK_H

#include "kernels/device.h"
#include <refine/event.h>

enum { QUEUE_CLOCK_MARKS = 512 };

/* A stretch is over: what it was, and of which chunk.  Of compute also: what kind of operator it
 * was, and whether all of the use has been told with it. */
typedef struct queue_stretch {
    refine_lane lane;
    int chunk;
    dev_kind kind;
    bool ends;
} queue_stretch;

typedef void queue_told(void *context, queue_stretch s, double begin, double end);

typedef struct queue_mark {
    dev_event *event; /* NULL on a device that does not run behind */
    queue_stretch stretch;
    double made;
} queue_mark;

typedef struct queue_clock {
    dev *d;
    queue_told *tell;
    void *context;
    queue_mark marks[QUEUE_CLOCK_MARKS];
    uint64_t made, passed; /* marks so far; passed <= made <= passed + MARKS - 1 */
    double at;             /* when the last of those that passed did */
} queue_clock;

/* False: out of memory; close it all the same. */
bool queue_clock_open(queue_clock *q, dev *d, queue_told *tell, void *context);
void queue_clock_close(queue_clock *q); /* of zeros is fine */

/* From the last mark to here it was this; chunk < 0: nothing that anybody wants to be told. */
void queue_clock_mark(queue_clock *q, queue_stretch s);

/* Waits for all marks, and tells of them. */
void queue_clock_settle(queue_clock *q);

#endif
