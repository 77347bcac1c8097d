/* tools/files/new_file.c -- a file without a name or with a temporary one, fsync, link and rename.
 *
 * Who holds the lock on a temporary file may remove it, and its writer does as long as it lives.
 * Between creating one and locking it another may have removed it, so that the writer looks.
 */
#define _GNU_SOURCE /* O_DIRECT, O_TMPFILE */
#include "tools/files/new_file.h"

#include "engine/base/io.h"
#include "engine/base/mem.h"
#include "engine/base/num.h"
#include "engine/base/try.h"
#include "offload/scratch_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { ATTEMPTS = 100, SUFFIX = 48, PROC_NAME = 32 };

static const char PART[] = "part", WHOLE[] = "whole";

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

static refine_status report_existing_file(refine_error *err, const char *path)
{
    return refine_fail(err, REFINE_EINVAL, "%s: exists already; --force replaces it", path);
}

/* ---- names ---- */

/* "BASE.<pid>-<i>.<kind>" beside the target, BASE cut between two characters where the file system
 * has no names that long.  False: the path is too long. */
static bool name_beside(char out[PATH_MAX], const char *target, int i, const char *kind)
{
    char dir[PATH_MAX], suffix[SUFFIX];
    const char *base = file_base(target);
    const int n_suffix = snprintf(suffix, sizeof suffix, ".%ld-%d.%s", (long)getpid(), i, kind);

    if (!file_directory(dir, sizeof dir, target))
        return false;
    const long most = pathconf(dir, _PC_NAME_MAX);
    const int room = (most > 0 && most < INT_MAX ? (int)most : NAME_MAX) - n_suffix;
    int n = (int)strlen(base);
    if (n > room) {
        n = room > 0 ? room : 0;
        while (n > 0 && ((unsigned char)base[n] & 0xc0) == 0x80)
            n--;
    }
    const int len = snprintf(out, PATH_MAX, "%.*s%.*s%s", (int)(base - target), target, n, base,
                             suffix);
    return len >= 0 && len < PATH_MAX;
}

/* Whether it was name_beside's, for a file that is not whole. */
static bool is_temporary_name(const char *name)
{
    const char *dot = strrchr(name, '.');
    if (!dot || dot == name || strcmp(dot + 1, PART) != 0)
        return false;
    const char *p = dot;
    while (p > name && p[-1] >= '0' && p[-1] <= '9')
        p--;
    if (p == dot || p == name || p[-1] != '-')
        return false;
    const char *dash = --p;
    while (p > name && p[-1] >= '0' && p[-1] <= '9')
        p--;
    return p < dash && p > name && p[-1] == '.';
}

static void name_open_file(char out[PROC_NAME], int fd)
{
    (void)snprintf(out, PROC_NAME, "/proc/self/fd/%d", fd);
}

/* ---- what killed programs left ---- */

static void remove_if_abandoned(int dir, const char *name)
{
    struct stat st;
    const int fd = openat(dir, name, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && flock(fd, LOCK_EX | LOCK_NB) == 0)
        (void)unlinkat(dir, name, 0);
    (void)close(fd);
}

static void remove_abandoned_files(const char *target)
{
    char dir[PATH_MAX];
    DIR *d = file_directory(dir, sizeof dir, target) ? opendir(dir) : NULL;
    if (!d)
        return;
    for (const struct dirent *e; (e = readdir(d));)
        if (is_temporary_name(e->d_name))
            remove_if_abandoned(dirfd(d), e->d_name);
    (void)closedir(d);
}

/* ---- open ---- */

static refine_status find_target(new_file *f, refine_error *err)
{
    if (!file_target_find(&f->target, f->path))
        return errno == EISDIR   ? refine_fail(err, REFINE_EINVAL, "%s: is a directory", f->path)
               : errno == ENOMEM ? refine_fail(err, REFINE_ENOMEM, "out of memory")
                                 : report_write_failure(err, f->path);
    if (f->target.as_it_is && f->mode != NEW_FILE_STREAM)
        return refine_fail(err, REFINE_EINVAL, "%s: exists and is no regular file", f->path);
    if (f->target.exists && f->mode == NEW_FILE_ONLY)
        return report_existing_file(err, f->path);
    return REFINE_OK;
}

/* Without /proc the file could not be given a name later. */
static bool create_nameless(new_file *f)
{
    char dir[PATH_MAX], name[PROC_NAME];
    if (!file_directory(dir, sizeof dir, f->target.path))
        return false;
    f->fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0666);
    if (f->fd < 0)
        return false;
    name_open_file(name, f->fd);
    f->direct = open(name, O_WRONLY | O_DIRECT | O_CLOEXEC);
    if (f->direct >= 0 || access(name, F_OK) == 0)
        return true;
    (void)close(f->fd);
    f->fd = -1;
    return false;
}

/* Where there are no locks, nobody else can take one either. */
static bool lock_and_look(int fd)
{
    struct stat st;
    (void)flock(fd, LOCK_EX | LOCK_NB);
    return fstat(fd, &st) == 0 && st.st_nlink > 0;
}

static refine_status create_named(new_file *f, refine_error *err)
{
    for (int i = 0; i < ATTEMPTS; i++) {
        if (!name_beside(f->temporary, f->target.path, i, PART)) {
            errno = ENAMETOOLONG;
            break;
        }
        f->fd = open(f->temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (f->fd >= 0 && lock_and_look(f->fd)) {
            f->direct = open(f->temporary, O_WRONLY | O_DIRECT | O_CLOEXEC);
            return REFINE_OK;
        }
        if (f->fd < 0 && errno != EEXIST)
            break;
        if (f->fd >= 0)
            (void)close(f->fd);
        f->fd = -1;
    }
    f->temporary[0] = '\0';
    return report_write_failure(err, f->path);
}

static refine_status open_as_it_is(new_file *f, refine_error *err)
{
    const int truncate = S_ISREG(f->target.st.st_mode) ? O_TRUNC : 0;
    f->fd = open(f->path, O_WRONLY | O_CLOEXEC | truncate);
    return f->fd >= 0 ? REFINE_OK : report_write_failure(err, f->path);
}

/* Who is not allowed to give files away keeps them. */
static void take_over_owner(const new_file *f)
{
    const struct stat *st = &f->target.st;
    if (!f->target.exists)
        return;
    (void)!fchown(f->fd, st->st_uid, st->st_gid);
    (void)fchmod(f->fd, st->st_mode & 0777);
}

static refine_status open_beside(new_file *f, bool named, refine_error *err)
{
    if (named || !create_nameless(f))
        TRY(create_named(f, err));
    take_over_owner(f);
    return REFINE_OK;
}

static refine_status init_new_file(new_file *f, const char *path, new_file_mode mode,
                                   refine_error *err)
{
    *f = (new_file){ .fd = -1, .direct = -1, .mode = mode };
    f->path = mem_strdup(path);
    f->temporary = mem_alloc(PATH_MAX);
    if (!f->path || !f->temporary)
        return refine_fail(err, REFINE_ENOMEM, "out of memory");
    f->temporary[0] = '\0';
    return REFINE_OK;
}

static refine_status begin_new_file(new_file *f, const char *path, new_file_mode mode,
                                    refine_error *err)
{
    TRY(init_new_file(f, path, mode, err));
    return find_target(f, err);
}

/* By its number: opened by a name, what is in a file already would be written over, and a socket
 * could not be opened at all. */
static refine_status open_stdout(new_file *f, refine_error *err)
{
    refine_status st = init_new_file(f, "standard output", NEW_FILE_STREAM, err);
    if (st == REFINE_OK) {
        f->target.as_it_is = true;
        f->fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 0);
        if (f->fd < 0)
            st = report_write_failure(err, f->path);
    }
    if (st != REFINE_OK)
        new_file_abandon(f);
    return st;
}

static refine_status open_new_file(new_file *f, const char *path, new_file_mode mode, bool named,
                                   refine_error *err)
{
    refine_status st = begin_new_file(f, path, mode, err);
    if (st == REFINE_OK)
        st = f->target.as_it_is ? open_as_it_is(f, err) : open_beside(f, named, err);
    if (st != REFINE_OK)
        new_file_abandon(f);
    return st;
}

refine_status new_file_open(new_file *f, const char *path, new_file_mode mode, refine_error *err)
{
    return open_new_file(f, path, mode, false, err);
}

refine_status new_file_open_named(new_file *f, const char *path, new_file_mode mode,
                                  refine_error *err)
{
    return open_new_file(f, path, mode, true, err);
}

/* A pipe is not opened: its reader would take the end of that for the end of the file. */
refine_status new_file_try(const char *path, new_file_mode mode, refine_error *err)
{
    new_file f;
    refine_status st = begin_new_file(&f, path, mode, err);
    if (st == REFINE_OK && !f.target.as_it_is) {
        st = open_beside(&f, false, err);
        if (st == REFINE_OK)
            remove_abandoned_files(f.target.path);
    }
    new_file_abandon(&f);
    return st;
}

refine_status new_file_check(const char *path, new_file_mode mode, refine_error *err)
{
    new_file f;
    const refine_status st = begin_new_file(&f, path, mode, err);
    new_file_abandon(&f);
    return st;
}

/* ---- write ---- */

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

/* A regular file too, which was cut to nothing: then it does not matter what it is. */
static bool write_as_it_is(new_file *f, const void *data, size_t bytes, uint64_t at)
{
    if (at != f->streamed) {
        errno = ESPIPE;
        return false;
    }
    f->streamed += bytes;
    return io_write(f->fd, data, bytes) == bytes;
}

refine_status new_file_write(new_file *f, const void *data, size_t bytes, uint64_t at,
                             refine_error *err)
{
    void *const from = (void *)(uintptr_t)data;
    if (f->target.as_it_is ? write_as_it_is(f, data, bytes, at)
                           : io_move(write_direct_or_cached, f, from, bytes, at) == bytes)
        return REFINE_OK;
    errno = errno ? errno : ENOSPC;
    f->reader_left = errno == EPIPE;
    return report_write_failure(err, f->path);
}

/* Pipes and terminals have no medium. */
refine_status new_file_sync(const new_file *f, refine_error *err)
{
    if (fsync(f->fd) == 0 || (f->target.as_it_is && (errno == EINVAL || errno == EROFS)))
        return REFINE_OK;
    return report_write_failure(err, f->path);
}

/* ---- commit ---- */

/* The new name must survive a crash too.  Some file systems cannot sync a directory; then
 * there is nothing more to be done. */
static void sync_directory(const char *path)
{
    char dir[PATH_MAX];
    const int fd = file_directory(dir, sizeof dir, path)
                       ? open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
                       : -1;
    if (fd >= 0) {
        (void)fsync(fd);
        (void)close(fd);
    }
}

/* Gives the file another name; fails where that is taken. */
static bool link_open_file(const new_file *f, const char *name)
{
    char open_file[PROC_NAME];
    name_open_file(open_file, f->fd);
    return linkat(AT_FDCWD, f->temporary[0] ? f->temporary : open_file, AT_FDCWD, name,
                  AT_SYMLINK_FOLLOW) == 0;
}

/* rename() replaces and link() does not, so that a file without a name is linked to a temporary
 * one first. */
static bool link_temporary(new_file *f, const char *kind)
{
    (void)flock(f->fd, LOCK_EX | LOCK_NB);
    for (int i = 0; i < ATTEMPTS; i++) {
        char name[PATH_MAX];
        if (!name_beside(name, f->target.path, i, kind))
            return false;
        if (link_open_file(f, name)) {
            memcpy(f->temporary, name, strlen(name) + 1);
            return true;
        }
        if (errno != EEXIST)
            return false;
    }
    return false;
}

static bool rename_temporary(new_file *f, const char *name)
{
    if (rename(f->temporary, name) != 0)
        return false;
    f->temporary[0] = '\0';
    return true;
}

/* link() fails where rename() would replace a file that appeared meanwhile; not every file
 * system has hard links. */
static refine_status take_name(new_file *f, refine_error *err)
{
    const bool nameless = !f->temporary[0];
    if (f->mode == NEW_FILE_ONLY || (nameless && !f->target.exists)) {
        if (link_open_file(f, f->target.path))
            return REFINE_OK;
        if (errno == EEXIST && f->mode == NEW_FILE_ONLY)
            return report_existing_file(err, f->path);
    }
    if ((nameless && !link_temporary(f, PART)) || !rename_temporary(f, f->target.path))
        return report_write_failure(err, f->path);
    return REFINE_OK;
}

/* The last that is left of the work: its temporary name would let the next run remove it. */
static bool keep_whole(new_file *f, char name[PATH_MAX])
{
    if (!f->temporary[0]) {
        if (!link_temporary(f, WHOLE))
            return false;
        memcpy(name, f->temporary, strlen(f->temporary) + 1);
        f->temporary[0] = '\0';
        return true;
    }
    for (int i = 0; i < ATTEMPTS; i++)
        if (name_beside(name, f->target.path, i, WHOLE) && access(name, F_OK) != 0)
            return rename_temporary(f, name);
    return false;
}

static void report_kept_file(refine_error *err, refine_status st, const char *name)
{
    char why[192];
    if (!err)
        return;
    (void)snprintf(why, sizeof why, "%.*s", (int)sizeof why - 1, err->text);
    (void)refine_fail(err, st, "%s; what was made is kept as %s", why, name);
}

static void close_direct(new_file *f)
{
    if (f->direct >= 0)
        (void)close(f->direct);
    f->direct = -1;
}

/* kept: where else it is in the end; "": nowhere. */
static refine_status finish_new_file(new_file *f, char kept[PATH_MAX], refine_error *err)
{
    close_direct(f);
    refine_status st = new_file_sync(f, err);
    if (st == REFINE_OK && !f->target.as_it_is)
        st = take_name(f, err);
    if (st == REFINE_OK && !f->target.as_it_is)
        sync_directory(f->target.path);
    if (st != REFINE_OK && !f->target.as_it_is && keep_whole(f, kept))
        report_kept_file(err, st, kept);
    else
        kept[0] = '\0';
    new_file_abandon(f);
    return st;
}

refine_status new_file_commit(new_file *f, refine_error *err)
{
    char kept[PATH_MAX];
    return finish_new_file(f, kept, err);
}

void new_file_abandon(new_file *f)
{
    close_direct(f);
    if (f->temporary && f->temporary[0])
        (void)unlink(f->temporary);
    if (f->fd >= 0)
        (void)close(f->fd);
    mem_free(f->temporary);
    mem_free(f->path);
    file_target_free(&f->target);
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

/* ---- a whole file ---- */

/* What is saved, and how that went. */
typedef struct saving {
    new_file_filler *fill;
    const void *context;
    char kept[PATH_MAX]; /* where else it is; "": nowhere */
    bool reader_left;
} saving;

static bool is_stdout(const char *path) { return strcmp(path, "-") == 0; }

static refine_status fill_new_file(saving *s, const char *path, new_file_mode mode,
                                   refine_error *err)
{
    new_file f;
    TRY(is_stdout(path) ? open_stdout(&f, err) : new_file_open(&f, path, mode, err));
    const refine_status st = s->fill(&f, s->context, err);
    if (st == REFINE_OK)
        return finish_new_file(&f, s->kept, err);
    s->reader_left = f.reader_left;
    new_file_abandon(&f);
    return st;
}

static bool save_elsewhere(saving *s, const char *path)
{
    const char *dir = getenv("TMPDIR");
    const char *base = is_stdout(path) ? "stdout" : file_base(path);
    for (int i = 0; i < ATTEMPTS; i++) {
        char name[PATH_MAX];
        const int n = snprintf(name, sizeof name, "%s/refine-%ld-%d-%.100s",
                               dir && *dir ? dir : SCRATCH_FILE_DIR, (long)getpid(), i, base);
        if (n >= PATH_MAX)
            return false;
        const refine_status st = fill_new_file(s, name, NEW_FILE_ONLY, NULL);
        if (st == REFINE_OK)
            memcpy(s->kept, name, (size_t)n + 1);
        if (s->kept[0] || st != REFINE_EINVAL)
            return s->kept[0];
    }
    return false;
}

refine_status new_file_save(const char *path, new_file_filler *fill, const void *context,
                            refine_error *err)
{
    saving s = { .fill = fill, .context = context };
    const refine_status st = fill_new_file(&s, path, NEW_FILE_STREAM, err);
    if (st != REFINE_OK && !s.kept[0] && !s.reader_left && save_elsewhere(&s, path))
        report_kept_file(err, st, s.kept);
    return st;
}
