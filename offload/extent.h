/* offload/extent.h -- one read until all its bytes have come: what both readers share. */
#ifndef REFINE_EXTENT_H
#define REFINE_EXTENT_H

#include "offload/reader.h"

#include <stdbool.h>

/* A read under way: `done` of its bytes have come. */
typedef struct extent {
    uint64_t ticket, at;
    int file;
    char *dst;
    size_t bytes, done;
    int retries; /* attempts since bytes came last */
} extent;

/* Takes in the result of one attempt: bytes read, or -errno.  True: the request is
 * finished and *out says how.  False: try again from `done`. */
bool extent_advance(extent *e, ssize_t result, read_done *out);

/* Opens all files, around the page cache if `direct`; fd: -1 beforehand, for each.  REFINE_EIO: one
 * cannot be; what was opened is the caller's. */
refine_status extent_open_files(int fd[READER_FILES_MAX], const reader_config *c, bool direct,
                                refine_error *err);
void extent_close_files(int fd[READER_FILES_MAX]); /* those that are not -1, which they become */

#endif
