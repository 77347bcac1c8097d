/* tests/support/failed_sync.h -- a medium that fails when it is asked whether it has everything.
 *
 * The linker puts this in fsync's place (tests/CMakeLists.txt) in every test that includes it.
 */
#ifndef TEST_FAILED_SYNC_H
#define TEST_FAILED_SYNC_H

/* The calls from the first-th to the last-th, counted from 1 on, fail with `error`; the others are
 * the system's. */
void fail_syncs(int first, int last, int error);

#endif
