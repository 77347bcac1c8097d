/* tests/support/trouble.c -- what stands between a reader and the system. */
#define _POSIX_C_SOURCE 200809L
#include "tests/support/trouble.h"

#include "offload/pack_format.h"

#include <errno.h>
#include <unistd.h>

/* What a read of so many bytes comes to: as many, fewer, 0 or -errno. */
static long read_outcome(trouble *t, long bytes)
{
    const int n = atomic_fetch_add(&t->reads, 1);
    if (t->at >= 0 && n != t->at)
        return bytes;
    switch (t->kind) {
    case TROUBLE_FAILS: return -EIO;
    case TROUBLE_ENDS: return 0;
    case TROUBLE_INTERRUPTED: return n % 2 ? -EINTR : bytes;
    case TROUBLE_SHORT: return bytes > PACK_ALIGN ? bytes / 2 / PACK_ALIGN * PACK_ALIGN : bytes;
    default: return bytes;
    }
}

static ssize_t troubled_pread(void *context, int fd, void *dst, size_t bytes, off_t at)
{
    const long n = read_outcome(context, (long)bytes);
    if (n < 0)
        return errno = (int)-n, -1;
    return n == 0 ? 0 : pread(fd, dst, (size_t)n, at);
}

static int troubled_completion(void *context, int result)
{
    return result > 0 ? (int)read_outcome(context, result) : result;
}

static int troubled_submission(void *context, int result)
{
    trouble *t = context;
    const int n = atomic_fetch_add(&t->submissions, 1);
    return t->kind == TROUBLE_SUBMITS && (t->at < 0 || n == t->at) ? -EIO : result;
}

reader_calls trouble_calls(trouble *t)
{
    return (reader_calls){ .context = t,
                           .pread = troubled_pread,
                           .completion = troubled_completion,
                           .submission = troubled_submission };
}
