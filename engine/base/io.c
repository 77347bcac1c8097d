/* engine/base/io.c -- one loop, and the calls it repeats. */
#define _XOPEN_SOURCE 700 /* pread, pwrite */
#include "engine/base/io.h"

#include "engine/base/mem.h"
#include "engine/base/num.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

/* Of one call: Linux moves no more than 2 GiB less a page, other systems fail instead. */
enum { ATTEMPT_MAX = 1 << 30 };

/* What a pipe is read into at first. */
enum { FIRST_ROOM = 1 << 20 };

size_t io_move(io_attempt *attempt, void *context, void *memory, size_t bytes, uint64_t at)
{
    size_t done = 0;
    while (done < bytes) {
        const ssize_t n = attempt(context, (char *)memory + done,
                                  num_min(bytes - done, ATTEMPT_MAX), at + done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n == 0)
            errno = 0;
        if (n <= 0)
            break;
        done += (size_t)n;
    }
    return done;
}

/* ---- what is repeated; the context is the file descriptor ---- */

static ssize_t attempt_read_at(void *fd, void *dst, size_t bytes, uint64_t at)
{
    return pread(*(const int *)fd, dst, bytes, (off_t)at);
}

static ssize_t attempt_write_at(void *fd, void *src, size_t bytes, uint64_t at)
{
    return pwrite(*(const int *)fd, src, bytes, (off_t)at);
}

static ssize_t attempt_read(void *fd, void *dst, size_t bytes, uint64_t at)
{
    (void)at;
    return read(*(const int *)fd, dst, bytes);
}

static ssize_t attempt_write(void *fd, void *src, size_t bytes, uint64_t at)
{
    (void)at;
    return write(*(const int *)fd, src, bytes);
}

size_t io_read_at(int fd, void *dst, size_t bytes, uint64_t at)
{
    return io_move(attempt_read_at, &fd, dst, bytes, at);
}

size_t io_write_at(int fd, const void *src, size_t bytes, uint64_t at)
{
    return io_move(attempt_write_at, &fd, (void *)(uintptr_t)src, bytes, at);
}

size_t io_read(int fd, void *dst, size_t bytes)
{
    return io_move(attempt_read, &fd, dst, bytes, 0);
}

size_t io_write(int fd, const void *src, size_t bytes)
{
    return io_move(attempt_write, &fd, (void *)(uintptr_t)src, bytes, 0);
}

/* ---- whole files ---- */

/* A byte more than a regular file has: a read that does not fill it has met the end.  Files of
 * /proc say that they are empty. */
static size_t first_room(int fd, size_t most)
{
    struct stat s;
    const bool is_sized = fstat(fd, &s) == 0 && S_ISREG(s.st_mode) && s.st_size > 0;
    return (is_sized ? (size_t)s.st_size : num_min(FIRST_ROOM, most)) + 1;
}

/* Room for more than *room, up to a byte more than `most`. */
static bool make_file_room(char **p, size_t *room, int fd, size_t most)
{
    const size_t more = *room ? num_min(2 * *room, most + 1) : first_room(fd, most);
    if (*room > most || more > most + 1) {
        errno = EFBIG;
        return false;
    }
    char *moved = mem_realloc(*p, more);
    if (!moved) {
        errno = ENOMEM;
        return false;
    }
    *p = moved;
    *room = more;
    return true;
}

bool io_read_whole(char **out, size_t *len, int fd, size_t most)
{
    char *p = NULL;
    size_t room = 0, n = 0;
    bool ok;

    *out = NULL;
    do {
        ok = make_file_room(&p, &room, fd, most);
        if (ok)
            n += io_read(fd, p + n, room - n);
    } while (ok && n == room);
    if (!ok || errno != 0) {
        mem_free(p);
        return false;
    }
    p[n] = '\0';
    *out = p;
    *len = n;
    return true;
}
