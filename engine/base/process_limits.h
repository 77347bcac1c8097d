/* engine/base/process_limits.h -- what this process may have of the machine.
 *
 *     memory      the least of: what is free, what control groups leave, and what the limits on
 *                 address space and data leave of what is not mapped yet
 *     processors  those it may run on, and as many as control groups give it the time of
 */
#ifndef REFINE_PROCESS_LIMITS_H
#define REFINE_PROCESS_LIMITS_H

#include <refine/status.h>

#include <stdint.h>

typedef struct memory_room {
    uint64_t bytes; /* UINT64_MAX: no limit */
    const char *by; /* what sets it; static */
} memory_room;

/* threads: that will be started; each takes address space for its stack.  root: as in
 * engine/base/control_group.h. */
memory_room process_memory_room(const char *root, int threads);

/* At least 1. */
int process_cores(const char *root);

/* Memory was short, or a thread could not be started: where `needed` bytes and the stacks of
 * `threads` are more than a limit of the process on address space or data leaves, `err` names that,
 * and the status is REFINE_EBUDGET.  Else it is `st`. */
refine_status process_name_limit(refine_status st, uint64_t needed, int threads, refine_error *err);

#endif
