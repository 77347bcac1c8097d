/* offload/reader.h -- asynchronous reads of whole aligned extents of one file, or of a few.
 *
 * A reader belongs to one thread.  Requests complete in any order; a request is
 * known by its ticket.  Short reads and EINTR are the reader's business: a
 * request is complete when all its bytes have come, or has failed.
 *
 *   uring  io_uring, registered file and buffer where the limits allow
 *   pread  a pool of threads with pread
 *
 * Both go around the page cache (O_DIRECT) where the file system lets them.
 * Whoever asks for READER_AUTO gets uring, or pread where that is unavailable, and a note that
 * says why.
 */
#ifndef REFINE_READER_H
#define REFINE_READER_H

#include <refine/status.h>

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

typedef struct reader reader;

typedef enum reader_kind { READER_AUTO, READER_URING, READER_PREAD } reader_kind;

enum { READER_NOTE = 256, READER_FILES_MAX = 2 };

/* What a test can get between a reader and the system; NULL members are the system's own. */
typedef struct reader_calls {
    void *context;
    int (*open)(void *context, const char *path, int flags);
    ssize_t (*pread)(void *context, int fd, void *dst, size_t bytes, off_t at);
    int (*completion)(void *context, int result); /* what io_uring says of one read, */
    int (*submission)(void *context, int result); /* and of handing over what is queued */
} reader_calls;

typedef struct reader_config {
    const char *const *paths; /* n_files of them: the first is file 0 */
    int n_files;
    void *buffer; /* where all destinations lie; page-aligned */
    size_t buffer_bytes;
    int depth;                 /* requests in flight at most; >= 1 */
    const reader_calls *calls; /* tests; else NULL.  Outlives the reader */
} reader_config;

typedef struct read_done {
    uint64_t ticket;
    refine_status status; /* REFINE_OK, or REFINE_EIO */
    int error;            /* errno of a failure; 0: the file ended */
} read_done;

struct reader {
    const char *name; /* "io_uring+O_DIRECT", "io_uring", "pread+O_DIRECT", "pread" */
    /* `at`, `bytes` and `dst` are multiples of PACK_ALIGN, dst inside the buffer.  At
     * most `depth` requests may be unfinished. */
    refine_status (*submit)(reader *r, uint64_t ticket, int file, void *dst, uint64_t at,
                            size_t bytes);
    /* Takes finished requests, at most `max`; waits for one if `wait` and any is
     * outstanding.  Returns how many. */
    int (*reap)(reader *r, read_done *out, int max, int wait);
    void (*close)(reader *r); /* waits for what is outstanding */
};

/* REFINE_EIO: a file cannot be opened, or the system has no such thing.  note: READER_NOTE bytes
 * for what the user should know of how it reads, "" if nothing; NULL: not wanted. */
refine_status reader_open(reader **out, reader_kind kind, const reader_config *c, char *note,
                          refine_error *err);

/* One kind, for reader_open. */
refine_status reader_open_uring(reader **out, const reader_config *c, refine_error *err);
refine_status reader_open_pread(reader **out, const reader_config *c, refine_error *err);

/* Host memory the hungrier of the two takes. */
size_t reader_memory(int depth);

#endif
