/* tests/fuzz/memory_file.h -- an input as a file with a name, never on a disk. */
#ifndef MEMORY_FILE_H
#define MEMORY_FILE_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

enum { MEMORY_FILE_NAME = 64 };

/* Needs _GNU_SOURCE.  The descriptor, to be closed, or -1; `name` opens the same bytes. */
static inline int memory_file(char name[MEMORY_FILE_NAME], const uint8_t *data, size_t size)
{
    const int fd = memfd_create("input", MFD_CLOEXEC);
    if (fd >= 0 && write(fd, data, size) != (ssize_t)size) {
        (void)close(fd);
        return -1;
    }
    (void)snprintf(name, MEMORY_FILE_NAME, "/proc/self/fd/%d", fd);
    return fd;
}

#endif
