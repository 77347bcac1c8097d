/* tests/support/failed_sync.c -- in place of fsync. */
#include "tests/support/failed_sync.h"

#include <errno.h>

int __real_fsync(int fd);
int __wrap_fsync(int fd);

static int calls, from, to, why;

void fail_syncs(int first, int last, int error)
{
    calls = 0;
    from = first;
    to = last;
    why = error;
}

int __wrap_fsync(int fd)
{
    calls++;
    if (calls < from || calls > to)
        return __real_fsync(fd);
    errno = why;
    return -1;
}
