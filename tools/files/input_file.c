/* tools/files/input_file.c -- regular files as they are, all else through a file in memory. */
#define _GNU_SOURCE /* memfd_create */
#include "tools/files/input_file.h"

#include "engine/base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { COPIED_AT_ONCE = 1 << 16 };

static refine_status fail_input_reading(const input_file *f, int error, refine_error *err)
{
    if (error == ENOMEM || error == ENOSPC)
        return refine_fail(err, REFINE_ENOMEM, "%s: out of memory", f->name);
    return refine_fail(err, REFINE_EIO, "%s: cannot read: %s", f->name, strerror(error));
}

static refine_status copy_input(input_file *f, int from, uint64_t most, refine_error *err)
{
    char block[COPIED_AT_ONCE];
    for (size_t n = sizeof block; n == sizeof block; f->bytes += n) {
        n = io_read(from, block, sizeof block);
        if (n < sizeof block && errno != 0)
            return fail_input_reading(f, errno, err);
        if (f->bytes + n > most)
            return refine_fail(err, REFINE_EBUDGET,
                               "%s: gives more than %.0fM, the ceiling on host memory; use a file, "
                               "or more --ram",
                               f->name, (double)most / (1 << 20));
        if (io_write_at(f->fd, block, n, f->bytes) != n)
            return fail_input_reading(f, errno, err);
    }
    return REFINE_OK;
}

static refine_status take_pipe(input_file *f, int from, uint64_t most, refine_error *err)
{
    f->fd = memfd_create("input", MFD_CLOEXEC);
    if (f->fd < 0)
        return fail_input_reading(f, errno, err);
    (void)snprintf(f->copy_path, sizeof f->copy_path, "/proc/self/fd/%d", f->fd);
    f->path = f->copy_path;
    const refine_status st = copy_input(f, from, most, err);
    if (st != REFINE_OK)
        input_file_close(f);
    return st;
}

/* A directory is none; what is not there is left to who opens it. */
bool input_file_is_pipe(const char *path)
{
    struct stat st;
    return strcmp(path, "-") == 0 ||
           (stat(path, &st) == 0 && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode));
}

refine_status input_file_open(input_file *f, const char *path, uint64_t most, refine_error *err)
{
    *f = (input_file){ .fd = -1, .path = path, .name = path };
    if (strcmp(path, "-") == 0) {
        f->name = "standard input";
        return take_pipe(f, STDIN_FILENO, most, err);
    }
    if (!input_file_is_pipe(path))
        return REFINE_OK;
    const int from = open(path, O_RDONLY | O_CLOEXEC);
    if (from < 0)
        return refine_fail(err, REFINE_EIO, "%s: cannot open: %s", path, strerror(errno));
    const refine_status st = take_pipe(f, from, most, err);
    (void)close(from);
    return st;
}

void input_file_close(input_file *f)
{
    if (f->fd >= 0)
        (void)close(f->fd);
    f->fd = -1;
}

void input_file_name_error(const input_file *f, refine_error *err)
{
    const size_t n = strlen(f->path);
    char rest[sizeof err->text];
    if (!err || f->path == f->name || strncmp(err->text, f->path, n) != 0)
        return;
    (void)snprintf(rest, sizeof rest, "%s", err->text + n);
    (void)snprintf(err->text, sizeof err->text, "%s%s", f->name, rest);
}
