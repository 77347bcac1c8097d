/* offload/scratch_file.c -- a file without a name. */
#define _GNU_SOURCE /* O_TMPFILE, mkostemp */
#include "offload/scratch_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { NAME = 4096 };

/* Not every file system makes files without a name. */
static int open_named(const char *dir)
{
    char name[NAME];
    if (snprintf(name, sizeof name, "%s/refine-XXXXXX", dir) >= (int)sizeof name) {
        errno = ENAMETOOLONG;
        return -1;
    }
    const int fd = mkostemp(name, O_CLOEXEC);
    if (fd >= 0)
        (void)unlink(name);
    return fd;
}

int scratch_file_open(const char *dir)
{
    const int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    return fd >= 0 ? fd : open_named(dir);
}
