/* tests/support/own_process.h -- what may crash, in a process of its own. */
#ifndef TEST_OWN_PROCESS_H
#define TEST_OWN_PROCESS_H

#include <stdbool.h>

/* Whether a process that does this returns true or comes to another bad end; what it says is
 * nobody's business.  One that takes longer than `seconds` stands still, and fails the test. */
bool own_process_fails(bool (*deed)(const void *context), const void *context, unsigned seconds);

#endif
