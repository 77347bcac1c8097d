/* offload/schedule.h -- the list of uses of a run, walked by several threads.
 *
 * A use is one chunk, acquired once.  A use is a transfer if the chunk has to travel for
 * it; the others are of resident chunks that are there already.  Which is which depends
 * only on what was resident when the run began, so every thread walks with a cursor of
 * its own and all agree, without a word between them.
 */
#ifndef REFINE_CHUNK_SCHEDULE_H
#define REFINE_CHUNK_SCHEDULE_H

#include "offload/pack.h"

#include <stdbool.h>

/* Chunks [first, end), `passes` times over. */
typedef struct stream_pass {
    int first, end, passes;
} stream_pass;

typedef struct schedule {
    stream_pass *pass; /* owned */
    int n;
    int n_chunks;
    bool *resident; /* per chunk: has a place of its own; owned */
    bool *held;     /* was in its place when the run began; owned */
    int *travels;   /* the pass in whose first round a resident chunk travels; owned */
} schedule;

/* The next use, and how many uses and transfers were before it. */
typedef struct cursor {
    int pass, round, chunk;
    uint64_t use, transfer;
} cursor;

/* `resident` has n_chunks entries, or is NULL: none.  False: out of memory. */
bool schedule_open(schedule *s, const stream_pass *pass, int n, const bool *resident, int n_chunks);
void schedule_close(schedule *s);            /* a zeroed schedule is fine */
size_t schedule_memory(int n, int n_chunks); /* bytes it takes */

cursor schedule_begin(const schedule *s);
bool schedule_at_end(const schedule *s, const cursor *c);
bool schedule_is_transfer(const schedule *s, const cursor *c); /* not at the end */
void schedule_next(const schedule *s, cursor *c);              /* not at the end */

/* The next use that is a transfer; false at the end. */
bool schedule_to_transfer(const schedule *s, cursor *c);

/* Residents that travelled before `c` are held from now on. */
void schedule_hold_before(schedule *s, const cursor *c);

/* Is a resident chunk with a number below `below` used at `c` or later? */
bool schedule_needs_residents(const schedule *s, const cursor *c, int below);

#endif
