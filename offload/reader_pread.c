/* offload/reader_pread.c -- a pool of threads, each with one pread at a time.
 *
 *     submit ->[ waiting ]-> a thread: pread until complete ->[ finished ]-> reap
 *
 * A request is an index; both queues are rings of `depth` indices, and what is in
 * neither nor with a thread is in the stack of free ones.  One lock guards all three.
 */
#define _GNU_SOURCE /* pread with large offsets */
#include "engine/base/mem.h"
#include "engine/base/num.h"
#include "engine/base/thread.h"
#include "engine/base/try.h"
#include "offload/extent.h"
#include "offload/pack_format.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

/* More gain nothing: one thread alone reaches a third of a fast disk. */
enum { THREADS_MAX = 8 };

typedef struct fifo {
    unsigned head, tail; /* only grow */
    int *ring;           /* depth */
} fifo;

typedef struct pread_reader {
    reader base;
    int fd[READER_FILES_MAX], depth, n_threads;
    const reader_calls *calls;
    thread threads[THREADS_MAX];
    bool has_lock, has_work, has_done;
    pthread_mutex_t lock; /* of everything below */
    pthread_cond_t work, done;
    bool stop;
    int outstanding; /* submitted and not yet reaped */
    fifo waiting, finished;
    int *free, n_free;
    extent *request;
    read_done *result;
} pread_reader;

static bool fifo_empty(const fifo *q) { return q->head == q->tail; }

static void fifo_push(const pread_reader *r, fifo *q, int i)
{
    q->ring[q->tail++ % (unsigned)r->depth] = i;
}

static int fifo_pop(const pread_reader *r, fifo *q)
{
    return q->ring[q->head++ % (unsigned)r->depth];
}

/* Bytes read, or -errno. */
static ssize_t pread_once(const pread_reader *r, const extent *e)
{
    const reader_calls *c = r->calls;
    const int fd = r->fd[e->file];
    char *dst = e->dst + e->done;
    const size_t left = e->bytes - e->done;
    const off_t at = (off_t)(e->at + e->done);
    const ssize_t n = c && c->pread ? c->pread(c->context, fd, dst, left, at)
                                    : pread(fd, dst, left, at);
    return n < 0 ? -errno : n;
}

static void read_whole(const pread_reader *r, extent *e, read_done *out)
{
    while (!extent_advance(e, pread_once(r, e), out)) {}
}

static void run_pread_thread(void *context)
{
    pread_reader *r = context;

    pthread_mutex_lock(&r->lock);
    for (;;) {
        while (fifo_empty(&r->waiting) && !r->stop)
            pthread_cond_wait(&r->work, &r->lock);
        if (r->stop)
            break;
        const int i = fifo_pop(r, &r->waiting);
        pthread_mutex_unlock(&r->lock);
        read_whole(r, &r->request[i], &r->result[i]);
        pthread_mutex_lock(&r->lock);
        fifo_push(r, &r->finished, i);
        pthread_cond_broadcast(&r->done);
    }
    pthread_mutex_unlock(&r->lock);
}

static refine_status pread_submit(reader *base, uint64_t ticket, int file, void *dst, uint64_t at,
                                  size_t bytes)
{
    pread_reader *r = (pread_reader *)base;
    assert(at % PACK_ALIGN == 0 && bytes % PACK_ALIGN == 0 && bytes > 0);

    pthread_mutex_lock(&r->lock);
    assert(r->outstanding < r->depth);
    const int i = r->free[--r->n_free];
    r->request[i] = (extent){
        .ticket = ticket, .file = file, .at = at, .dst = dst, .bytes = bytes
    };
    r->outstanding++;
    fifo_push(r, &r->waiting, i);
    pthread_cond_broadcast(&r->work);
    pthread_mutex_unlock(&r->lock);
    return REFINE_OK;
}

static int pread_reap(reader *base, read_done *out, int max, int wait)
{
    pread_reader *r = (pread_reader *)base;
    int n = 0;

    pthread_mutex_lock(&r->lock);
    while (wait && r->outstanding > 0 && fifo_empty(&r->finished))
        pthread_cond_wait(&r->done, &r->lock);
    while (n < max && !fifo_empty(&r->finished)) {
        const int i = fifo_pop(r, &r->finished);
        out[n++] = r->result[i];
        r->free[r->n_free++] = i;
        r->outstanding--;
    }
    pthread_mutex_unlock(&r->lock);
    return n;
}

/* Requests no thread has begun are forgotten; the others are waited for. */
static void pread_close(reader *base)
{
    pread_reader *r = (pread_reader *)base;
    if (r->has_lock) {
        pthread_mutex_lock(&r->lock);
        r->stop = true;
        if (r->has_work)
            pthread_cond_broadcast(&r->work);
        pthread_mutex_unlock(&r->lock);
    }
    for (int i = 0; i < r->n_threads; i++)
        thread_join(&r->threads[i]);
    if (r->has_done)
        pthread_cond_destroy(&r->done);
    if (r->has_work)
        pthread_cond_destroy(&r->work);
    if (r->has_lock)
        pthread_mutex_destroy(&r->lock);
    extent_close_files(r->fd);
    mem_free(r);
}

/* Do reads around the page cache work?  Some file systems let a file be opened that way
 * and then refuse to read, and some memory cannot be read into. */
static bool can_read_direct(const pread_reader *r, const reader_config *c)
{
    for (int i = 0; i < c->n_files; i++) {
        const extent probe = { .file = i, .dst = c->buffer, .bytes = PACK_ALIGN };
        const ssize_t n = pread_once(r, &probe);
        if (n < 0 && n != -EINTR && n != -EAGAIN)
            return false;
    }
    return true;
}

static refine_status open_pread_files(pread_reader *r, const reader_config *c, refine_error *err)
{
    refine_error ignored;
    if (extent_open_files(r->fd, c, true, &ignored) == REFINE_OK && can_read_direct(r, c)) {
        r->base.name = "pread+O_DIRECT";
        return REFINE_OK;
    }
    extent_close_files(r->fd);
    r->base.name = "pread";
    return extent_open_files(r->fd, c, false, err);
}

static refine_status start_read_threads(pread_reader *r, refine_error *err)
{
    r->has_lock = pthread_mutex_init(&r->lock, NULL) == 0;
    r->has_work = pthread_cond_init(&r->work, NULL) == 0;
    r->has_done = pthread_cond_init(&r->done, NULL) == 0;
    if (!r->has_lock || !r->has_work || !r->has_done)
        return refine_fail(err, REFINE_ENOMEM, "reader: out of memory (locks)");
    while (r->n_threads < (int)num_min((size_t)r->depth, THREADS_MAX)) {
        if (!thread_start(&r->threads[r->n_threads], "refine-read", run_pread_thread, r))
            return refine_fail(err, REFINE_ENOMEM,
                               "reader: cannot start a thread; is the limit on processes reached "
                               "(ulimit -u)?");
        r->n_threads++;
    }
    return REFINE_OK;
}

static size_t request_memory(void) { return 3 * sizeof(int) + sizeof(extent) + sizeof(read_done); }

size_t reader_memory(int depth)
{
    return sizeof(pread_reader) + (size_t)depth * request_memory() + THREADS_MAX * 64;
}

refine_status reader_open_pread(reader **out, const reader_config *c, refine_error *err)
{
    refine_status st;
    assert(c->depth >= 1);
    const size_t depth = (size_t)c->depth, bytes = sizeof(pread_reader) + depth * request_memory();

    *out = NULL;
    pread_reader *r = mem_calloc(1, bytes);
    if (!r)
        return refine_fail(err, REFINE_ENOMEM, "reader: out of memory (%zu bytes)", bytes);
    r->base.submit = pread_submit;
    r->base.reap = pread_reap;
    r->base.close = pread_close;
    for (int i = 0; i < READER_FILES_MAX; i++)
        r->fd[i] = -1;
    r->depth = r->n_free = c->depth;
    r->calls = c->calls;
    r->request = (extent *)(r + 1);
    r->result = (read_done *)(r->request + depth);
    r->waiting.ring = (int *)(r->result + depth);
    r->finished.ring = r->waiting.ring + depth;
    r->free = r->finished.ring + depth;
    for (int i = 0; i < c->depth; i++)
        r->free[i] = i;
    TRY_OR(fail, open_pread_files(r, c, err));
    TRY_OR(fail, start_read_threads(r, err));
    *out = &r->base;
    return REFINE_OK;

fail:
    pread_close(&r->base);
    return st;
}
