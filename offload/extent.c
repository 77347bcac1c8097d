/* offload/extent.c -- one read until all its bytes have come.
 *
 * A short read is continued where it stopped, rounded down to PACK_ALIGN, because
 * O_DIRECT reads whole blocks only.  Nothing read, or less than a block, is the end of
 * the file.  Interruptions are tried again, but not for ever.
 */
#define _GNU_SOURCE /* O_DIRECT */
#include "offload/extent.h"

#include "engine/base/num.h"
#include "offload/pack_format.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

enum { RETRIES_MAX = 1000 };

static bool finish_extent(const extent *e, refine_status st, int error, read_done *out)
{
    *out = (read_done){ e->ticket, st, error };
    return true;
}

static bool is_transient(ssize_t result) { return result == -EINTR || result == -EAGAIN; }

bool extent_advance(extent *e, ssize_t result, read_done *out)
{
    if (is_transient(result) && ++e->retries < RETRIES_MAX)
        return false;
    if (result < 0)
        return finish_extent(e, REFINE_EIO, (int)-result, out);
    if ((size_t)result >= e->bytes - e->done)
        return finish_extent(e, REFINE_OK, 0, out);
    const size_t whole = (size_t)result / PACK_ALIGN * PACK_ALIGN;
    if (whole == 0)
        return finish_extent(e, REFINE_EIO, 0, out);
    e->done += whole;
    e->retries = 0;
    return false;
}

static int call_open(const reader_config *c, const char *path, int flags)
{
    if (c->calls && c->calls->open)
        return c->calls->open(c->calls->context, path, flags);
    return open(path, flags);
}

refine_status extent_open_files(int fd[READER_FILES_MAX], const reader_config *c, bool direct,
                                refine_error *err)
{
    for (int i = 0; i < c->n_files; i++) {
        fd[i] = call_open(c, c->paths[i], O_RDONLY | O_CLOEXEC | (direct ? O_DIRECT : 0));
        if (fd[i] < 0)
            return refine_fail(err, REFINE_EIO, "%s: cannot be opened: %s", c->paths[i],
                               strerror(errno));
        if (!direct)
            (void)posix_fadvise(fd[i], 0, 0, POSIX_FADV_SEQUENTIAL);
    }
    return REFINE_OK;
}

void extent_close_files(int fd[READER_FILES_MAX])
{
    for (int i = 0; i < READER_FILES_MAX; i++) {
        if (fd[i] >= 0)
            (void)close(fd[i]);
        fd[i] = -1;
    }
}
