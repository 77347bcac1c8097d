/* tests/support/trace_fixture.h -- a trace written by hand: two steps of three chunks.
 *
 *     seconds  0       1       2       3       4       5       6       7       8       9
 *     phase    | opening | text | denoising                             | decoding     |
 *     step                      | 1             | 2                     |
 *     compute          |chunk 0| d | 1 |   2   |   1   |  copy |   2   |
 *     disk         |0  |                       |2  |2      |2  |
 *
 * d, copy: waits for disk, for copy.  The reads of 2 overlap, and are out of order in the file.
 */
#ifndef TRACE_FIXTURE_H
#define TRACE_FIXTURE_H

#include "tools/memprof/trace_read.h"

#define TRACE_FIXTURE "tests/fuzz/corpora/trace/steps.json"

/* Its text with the first `from` replaced by `to`, in a new temporary file. */
void trace_fixture_with(char *name, const char *from, const char *to);

/* The fixture, read. */
recording trace_fixture(void);

/* The same with a replacement; REFINE_OK is expected. */
recording trace_fixture_but(const char *from, const char *to);

#endif
