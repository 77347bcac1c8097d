/* offload/schedule.h -- the list of visits of a run, walked by several threads.
 *
 * A visit is one chunk, entered once.  A visit is a trip if the chunk has to travel for
 * it; the others are of resident chunks that are there already.  Which is which depends
 * only on what was resident when the run began, so every thread walks with a cursor of
 * its own and all agree, without a word between them.
 */
#ifndef REFINE_SCRIPT_H
#define REFINE_SCRIPT_H

#include "offload/pack.h"

#include <stdbool.h>

/* Chunks [first, end), `passes` times over. */
typedef struct stream_pass {
    int first, end, passes;
} stream_pass;

typedef struct script {
    stream_pass *pass; /* owned */
    int n;
    int n_chunks;
    bool *resident; /* per chunk: has a place of its own; owned */
    bool *held;     /* was in its place when the run began; owned */
    int *travels;   /* the pass in whose first round a resident chunk travels; owned */
} script;

/* The next visit, and how many visits and trips were before it. */
typedef struct cursor {
    int pass, round, chunk;
    uint64_t visit, trip;
} cursor;

/* `resident` has n_chunks entries, or is NULL: none.  False: out of memory. */
bool script_open(script *s, const stream_pass *pass, int n, const bool *resident, int n_chunks);
void script_close(script *s);              /* a zeroed script is fine */
size_t script_memory(int n, int n_chunks); /* bytes it takes */

cursor script_begin(const script *s);
bool script_at_end(const script *s, const cursor *c);
bool script_is_trip(const script *s, const cursor *c); /* not at the end */
void script_next(const script *s, cursor *c);          /* not at the end */

/* The next visit that is a trip; false at the end. */
bool script_to_trip(const script *s, cursor *c);

/* Residents that travelled before `c` are held from now on. */
void script_hold_before(script *s, const cursor *c);

/* Is a resident chunk visited at `c` or later? */
bool script_needs_residents(const script *s, const cursor *c);

#endif
