/* offload/reader_uring.c -- reads through io_uring.
 *
 * The only file that knows liburing (2.1 or later).  A request is an extent whose
 * address travels as the user data of its entry.  There are as many entries in the
 * submission queue as requests, so an entry can always be had.
 *
 * Registering files and buffer saves the kernel work for every read; where the limit on
 * locked memory forbids it, reads go on without.
 */
#define _GNU_SOURCE /* off_t in liburing.h */
#include "engine/base/mem.h"
#include "engine/base/try.h"
#include "offload/extent.h"
#include "offload/pack_format.h"

#include <assert.h>
#include <errno.h>
#include <liburing.h>
#include <string.h>
#include <unistd.h>

/* The kernel registers no larger buffer than this. */
static const size_t BUFFER_MAX = (size_t)1 << 30;

typedef struct uring_reader {
    reader base;
    struct io_uring ring;
    bool has_ring, fixed_files, fixed_buffer;
    int fd[READER_FILES_MAX], depth;
    const reader_calls *calls;
    int broken;      /* errno of a ring that no longer works */
    int outstanding; /* requests that are not free */
    int n_free;
    extent **free;
    extent *request; /* bytes == 0: free */
} uring_reader;

/* Queues what is left of e. */
static void enqueue_extent(uring_reader *r, extent *e)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&r->ring);
    char *dst = e->dst + e->done;
    const unsigned left = (unsigned)(e->bytes - e->done);
    const int file = r->fixed_files ? e->file : r->fd[e->file];

    assert(sqe);
    if (r->fixed_buffer)
        io_uring_prep_read_fixed(sqe, file, dst, left, e->at + e->done, 0);
    else
        io_uring_prep_read(sqe, file, dst, left, e->at + e->done);
    if (r->fixed_files)
        sqe->flags |= IOSQE_FIXED_FILE;
    io_uring_sqe_set_data(sqe, e);
}

/* The system may refuse for now: what is queued stays queued and goes with the next call. */
static void note_trouble(uring_reader *r, int result)
{
    if (r->calls && r->calls->submission)
        result = r->calls->submission(r->calls->context, result);
    if (result < 0 && result != -EINTR && result != -EAGAIN && result != -EBUSY)
        r->broken = -result;
}

static refine_status uring_submit(reader *base, uint64_t ticket, int file, void *dst, uint64_t at,
                                  size_t bytes)
{
    uring_reader *r = (uring_reader *)base;
    assert(at % PACK_ALIGN == 0 && bytes % PACK_ALIGN == 0 && bytes > 0 && bytes <= BUFFER_MAX);
    assert(r->n_free > 0);
    if (r->broken)
        return REFINE_EIO;
    extent *e = r->free[--r->n_free];
    *e = (extent){ .ticket = ticket, .file = file, .at = at, .dst = dst, .bytes = bytes };
    r->outstanding++;
    enqueue_extent(r, e);
    note_trouble(r, io_uring_submit(&r->ring));
    return REFINE_OK;
}

static void release_request(uring_reader *r, extent *e)
{
    e->bytes = 0;
    r->free[r->n_free++] = e;
    r->outstanding--;
}

/* Takes one completion, if there is one.  True: it finished a request. */
static bool take_completion(uring_reader *r, struct io_uring_cqe *cqe, read_done *out)
{
    extent *e = io_uring_cqe_get_data(cqe);
    int result = cqe->res;

    io_uring_cqe_seen(&r->ring, cqe);
    if (r->calls && r->calls->completion)
        result = r->calls->completion(r->calls->context, result);
    if (extent_advance(e, result, out)) {
        release_request(r, e);
        return true;
    }
    enqueue_extent(r, e);
    return false;
}

/* A ring that broke answers nothing more: its requests fail here. */
static int fail_requests(uring_reader *r, read_done *out, int max)
{
    int n = 0;
    for (int i = 0; i < r->depth && n < max; i++)
        if (r->request[i].bytes) {
            out[n++] = (read_done){ r->request[i].ticket, REFINE_EIO, r->broken };
            release_request(r, &r->request[i]);
        }
    return n;
}

static int uring_reap(reader *base, read_done *out, int max, int wait)
{
    uring_reader *r = (uring_reader *)base;
    struct io_uring_cqe *cqe;
    int n = 0;

    for (;;) {
        while (n < max && io_uring_peek_cqe(&r->ring, &cqe) == 0)
            n += take_completion(r, cqe, &out[n]);
        if (n > 0 || !wait || r->outstanding == 0)
            break;
        if (r->broken)
            return fail_requests(r, out, max);
        note_trouble(r, io_uring_submit_and_wait(&r->ring, 1));
    }
    if (io_uring_sq_ready(&r->ring) > 0)
        note_trouble(r, io_uring_submit(&r->ring));
    return n;
}

static void uring_close(reader *base)
{
    uring_reader *r = (uring_reader *)base;
    read_done ignored;
    while (r->outstanding > 0)
        (void)uring_reap(base, &ignored, 1, 1);
    if (r->has_ring)
        io_uring_queue_exit(&r->ring);
    extent_close_files(r->fd);
    mem_free(r);
}

/* One read to see whether the kernel takes them this way.  The end of the file is fine. */
static bool can_read_uring(uring_reader *r, int file, void *buffer)
{
    const reader_calls *calls = r->calls;
    read_done d;

    r->calls = NULL;
    bool ok = uring_submit(&r->base, 0, file, buffer, 0, PACK_ALIGN) == REFINE_OK &&
              uring_reap(&r->base, &d, 1, 1) == 1 && (d.status == REFINE_OK || d.error == 0);
    r->calls = calls;
    return ok;
}

static void drop_files(uring_reader *r)
{
    if (r->fixed_files)
        (void)io_uring_unregister_files(&r->ring);
    r->fixed_files = false;
    extent_close_files(r->fd);
}

static refine_status open_uring_files(uring_reader *r, const reader_config *c, bool direct,
                                      refine_error *err)
{
    TRY(extent_open_files(r->fd, c, direct, err));
    r->fixed_files = io_uring_register_files(&r->ring, r->fd, (unsigned)c->n_files) == 0;
    r->base.name = direct ? "io_uring+O_DIRECT" : "io_uring";
    for (int i = 0; i < c->n_files; i++)
        if (!can_read_uring(r, i, c->buffer))
            return refine_fail(err, REFINE_EIO, "%s: cannot be read with io_uring", c->paths[i]);
    return REFINE_OK;
}

static refine_status open_ring(uring_reader *r, const reader_config *c, refine_error *err)
{
    const struct iovec whole = { c->buffer, c->buffer_bytes };
    const int rc = io_uring_queue_init((unsigned)c->depth, &r->ring, 0);
    if (rc < 0)
        return refine_fail(err, REFINE_EIO, "io_uring is unavailable: %s", strerror(-rc));
    r->has_ring = true;
    r->fixed_buffer = c->buffer_bytes <= BUFFER_MAX &&
                      io_uring_register_buffers(&r->ring, &whole, 1) == 0;
    return REFINE_OK;
}

refine_status reader_open_uring(reader **out, const reader_config *c, refine_error *err)
{
    refine_status st;
    refine_error ignored;
    assert(c->depth >= 1);
    const size_t depth = (size_t)c->depth;

    *out = NULL;
    uring_reader *r = mem_calloc(1, sizeof *r + depth * (sizeof(extent) + sizeof(extent *)));
    if (!r)
        return refine_fail(err, REFINE_ENOMEM, "reader: out of memory");
    r->base = (reader){ NULL, uring_submit, uring_reap, uring_close };
    for (int i = 0; i < READER_FILES_MAX; i++)
        r->fd[i] = -1;
    r->depth = r->n_free = c->depth;
    r->calls = c->calls;
    r->request = (extent *)(r + 1);
    r->free = (extent **)(r->request + depth);
    for (size_t i = 0; i < depth; i++)
        r->free[i] = &r->request[i];
    TRY_OR(fail, open_ring(r, c, err));
    if (open_uring_files(r, c, true, &ignored) != REFINE_OK) {
        drop_files(r);
        TRY_OR(fail, open_uring_files(r, c, false, err));
    }
    *out = &r->base;
    return REFINE_OK;

fail:
    uring_close(&r->base);
    return st;
}
