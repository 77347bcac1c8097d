/* engine/base/trace.h -- a log of events in memory of fixed size.
 *
 * Any thread adds, without locks; what finds no room is counted and lost.  Read it only when
 * nobody adds.
 */
#ifndef REFINE_TRACE_H
#define REFINE_TRACE_H

#include <refine/event.h>

#include <stddef.h>

typedef struct trace trace;

trace *trace_open(size_t events); /* NULL: out of memory.  Time begins now */
void trace_close(trace *t);       /* NULL is fine */
size_t trace_memory(size_t events);

/* begin, end: of clock_seconds().  t may be NULL: nobody listens. */
void trace_add(trace *t, refine_lane lane, int chunk, double begin, double end, uint64_t bytes);
void trace_clear(trace *t); /* NULL is fine */
const refine_event *trace_events(const trace *t, size_t *n, size_t *lost);

#endif
