/* engine/base/trace.c -- an array and a counter. */
#include "engine/base/trace.h"

#include "engine/base/clock.h"
#include "engine/base/mem.h"

#include <stdatomic.h>

struct trace {
    size_t room;
    double origin;
    atomic_size_t n; /* events added, lost ones too */
    refine_event event[];
};

size_t trace_memory(size_t events) { return sizeof(trace) + events * sizeof(refine_event); }

trace *trace_open(size_t events)
{
    trace *t = mem_alloc(trace_memory(events));
    if (!t)
        return NULL;
    t->room = events;
    t->origin = clock_seconds();
    atomic_init(&t->n, 0);
    return t;
}

void trace_close(trace *t) { mem_free(t); }

void trace_add(trace *t, refine_lane lane, int chunk, double begin, double end, uint64_t bytes)
{
    if (!t)
        return;
    const size_t i = atomic_fetch_add_explicit(&t->n, 1, memory_order_relaxed);
    if (i < t->room)
        t->event[i] = (refine_event){ lane, chunk, begin - t->origin, end - t->origin, bytes };
}

void trace_clear(trace *t)
{
    if (t)
        atomic_store(&t->n, 0);
}

const refine_event *trace_events(const trace *t, size_t *n, size_t *lost)
{
    const size_t added = t ? atomic_load(&t->n) : 0;
    *n = t && added > t->room ? t->room : added;
    *lost = added - *n;
    return t ? t->event : NULL;
}
