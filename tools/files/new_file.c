/* tools/files/new_file.c -- temporary name, fsync, rename. */
#define _GNU_SOURCE /* O_DIRECT */
#include "tools/files/new_file.h"

#include "engine/base/io.h"
#include "engine/base/mem.h"
#include "engine/base/num.h"
#include "engine/base/try.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { ATTEMPTS = 100, SUFFIX = 48 };

static refine_status report_write_failure(refine_error *err, const char *path)
{
    if (errno == ENOSPC || errno == EDQUOT)
        return refine_fail(err, REFINE_EIO, "%s: the disk is full; make room or write elsewhere",
                           path);
    if (errno == EFBIG)
        return refine_fail(err, REFINE_EIO,
                           "%s: larger than this file system or the limit on file sizes (ulimit "
                           "-f) allows",
                           path);
    return refine_fail(err, REFINE_EIO, "%s: cannot be written: %s", path, strerror(errno));
}

static refine_status check_target(const char *path, bool replace, refine_error *err)
{
    struct stat st;
    if (lstat(path, &st) != 0)
        return REFINE_OK;
    if (S_ISLNK(st.st_mode) && stat(path, &st) != 0)
        return refine_fail(err, REFINE_EINVAL, "%s: is a symbolic link to nothing", path);
    if (!S_ISREG(st.st_mode))
        return refine_fail(err, REFINE_EINVAL, "%s: exists and is no regular file", path);
    if (!replace)
        return refine_fail(err, REFINE_EINVAL, "%s: exists already; --force replaces it", path);
    return REFINE_OK;
}

static refine_status create_temporary(new_file *f, refine_error *err)
{
    const size_t size = strlen(f->path) + SUFFIX;
    for (int i = 0; i < ATTEMPTS; i++) {
        (void)snprintf(f->temporary, size, i ? "%s.%ld-%d.part" : "%s.%ld.part", f->path,
                       (long)getpid(), i);
        f->fd = open(f->temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (f->fd >= 0) {
            f->direct = open(f->temporary, O_WRONLY | O_DIRECT | O_CLOEXEC);
            return REFINE_OK;
        }
        if (errno != EEXIST)
            break;
    }
    return report_write_failure(err, f->path);
}

refine_status new_file_open(new_file *f, const char *path, bool replace, refine_error *err)
{
    *f = (new_file){ .fd = -1, .direct = -1, .replace = replace };
    TRY(check_target(path, replace, err));
    f->path = mem_strdup(path);
    f->temporary = mem_alloc(strlen(path) + SUFFIX);
    const refine_status st = f->path && f->temporary
                                 ? create_temporary(f, err)
                                 : refine_fail(err, REFINE_ENOMEM, "out of memory");
    if (st != REFINE_OK)
        new_file_abandon(f);
    return st;
}

/* Some file systems open a file for direct writes and then refuse them. */
static ssize_t write_direct_or_cached(void *file, void *p, size_t bytes, uint64_t at)
{
    const new_file *f = file;
    const bool whole = ((uintptr_t)p | bytes | at) % NEW_FILE_ALIGN == 0;
    if (whole && f->direct >= 0) {
        const ssize_t n = pwrite(f->direct, p, bytes, (off_t)at);
        if (n >= 0 || errno != EINVAL)
            return n;
    }
    return pwrite(f->fd, p, bytes, (off_t)at);
}

refine_status new_file_write(const new_file *f, const void *data, size_t bytes, uint64_t at,
                             refine_error *err)
{
    void *const file = (void *)(uintptr_t)f, *const from = (void *)(uintptr_t)data;
    if (io_move(write_direct_or_cached, file, from, bytes, at) == bytes)
        return REFINE_OK;
    errno = errno ? errno : ENOSPC;
    return report_write_failure(err, f->path);
}

refine_status new_file_sync(const new_file *f, refine_error *err)
{
    return fsync(f->fd) == 0 ? REFINE_OK : report_write_failure(err, f->path);
}

/* The new name must survive a crash too.  Some file systems cannot sync a directory; then
 * there is nothing more to be done. */
static void sync_directory(const char *path)
{
    char *dir = mem_strdup(path);
    if (!dir)
        return;
    char *slash = strrchr(dir, '/');
    if (slash)
        slash[slash == dir ? 1 : 0] = 0;
    const int fd = open(slash ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        (void)fsync(fd);
        (void)close(fd);
    }
    mem_free(dir);
}

/* link() fails where rename() would replace a file that appeared meanwhile; not every file
 * system has hard links. */
static refine_status take_name(new_file *f, refine_error *err)
{
    if (!f->replace) {
        if (link(f->temporary, f->path) == 0)
            return REFINE_OK;
        if (errno == EEXIST)
            return refine_fail(err, REFINE_EINVAL, "%s: exists already; --force replaces it",
                               f->path);
    }
    if (rename(f->temporary, f->path) != 0)
        return report_write_failure(err, f->path);
    f->temporary[0] = 0;
    return REFINE_OK;
}

static void close_direct(new_file *f)
{
    if (f->direct >= 0)
        (void)close(f->direct);
    f->direct = -1;
}

refine_status new_file_commit(new_file *f, refine_error *err)
{
    refine_status st = new_file_sync(f, err);
    close_direct(f);
    const int fd = f->fd;
    f->fd = -1;
    if (close(fd) != 0 && st == REFINE_OK)
        st = report_write_failure(err, f->path);
    if (st == REFINE_OK)
        st = take_name(f, err);
    if (st == REFINE_OK)
        sync_directory(f->path);
    new_file_abandon(f);
    return st;
}

void new_file_abandon(new_file *f)
{
    close_direct(f);
    if (f->fd >= 0)
        (void)close(f->fd);
    if (f->temporary && f->temporary[0])
        (void)unlink(f->temporary);
    mem_free(f->temporary);
    mem_free(f->path);
    *f = (new_file){ .fd = -1, .direct = -1 };
}

uint64_t new_file_room(const new_file *f)
{
    struct statvfs v;
    uint64_t bytes;
    if (fstatvfs(f->fd, &v) != 0 || v.f_blocks == 0 || !num_mul(v.f_bavail, v.f_frsize, &bytes))
        return UINT64_MAX;
    return bytes;
}
