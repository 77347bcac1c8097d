/* tools/memprof/memprof_child.h -- refine-lowmem as a child, told to record its run. */
#ifndef REFINE_MEMPROF_CHILD_H
#define REFINE_MEMPROF_CHILD_H

#include <refine/status.h>

#include <stdbool.h>

/* Runs argv[0] with `--trace trace` before its own arguments.  A name without a slash is looked
 * for beside this program, then in PATH.  SIGINT, SIGTERM and SIGHUP are passed on while it
 * runs, and then raised here; hold them (tools/cli/interrupt.h) if there is anything to clean up.
 * *code: its exit status, or 128 and the signal that ended it.  REFINE_EINVAL: there is
 * no such program. */
refine_status child_run(int *code, char *const argv[], const char *trace, refine_error *err);

/* The FILE of `--trace FILE` or `--trace=FILE` among the arguments; NULL when there is none. */
const char *child_trace(char *const argv[]);

/* Does the child want standard output for itself (-o - or --json)? */
bool child_wants_stdout(char *const argv[]);

#endif
