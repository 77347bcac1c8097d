/* offload/spill.c -- bytes out of the device and back, through a buffer where they go to a file. */
#define _XOPEN_SOURCE 700 /* posix_fallocate */
#include "offload/spill.h"

#include "engine/base/io.h"
#include "engine/base/mem.h"
#include "engine/base/num.h"
#include "engine/base/try.h"
#include "offload/scratch_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { BOUNCE = 1 << 18 };

struct spill {
    dev *d;
    size_t host_bytes, file_bytes;
    char *host, *bounce;
    int fd; /* -1: no file */
};

size_t spill_overhead(size_t file_bytes) { return sizeof(spill) + (file_bytes ? BOUNCE : 0); }

/* ---- open and close ---- */

static refine_status open_spill_file(spill *s, const char *dir, refine_error *err)
{
    s->fd = scratch_file_open(dir);
    const int error = s->fd < 0 ? errno : posix_fallocate(s->fd, 0, (off_t)s->file_bytes);
    if (error == 0)
        return REFINE_OK;
    return refine_fail(err, REFINE_ENOMEM,
                       "scratch file of %.2f GB in %.200s: %s; name another with TMPDIR, "
                       "or raise --ram or --vram",
                       (double)s->file_bytes / 1e9, dir, strerror(error));
}

static refine_status fail_spill_memory(refine_error *err)
{
    return refine_fail(err, REFINE_ENOMEM, "out of memory; lower --ram, or free some");
}

refine_status spill_open(spill **out, const spill_config *c, refine_error *err)
{
    refine_status st = REFINE_OK;

    *out = NULL;
    spill *s = mem_calloc(1, sizeof *s);
    if (!s)
        return fail_spill_memory(err);
    s->d = c->d;
    s->fd = -1;
    s->host_bytes = c->host_bytes;
    s->file_bytes = c->file_bytes;
    if (c->host_bytes)
        s->host = mem_map(c->host_bytes);
    if (c->file_bytes)
        s->bounce = mem_alloc(BOUNCE);
    if ((c->host_bytes && !s->host) || (c->file_bytes && !s->bounce))
        st = fail_spill_memory(err);
    if (st == REFINE_OK && c->file_bytes)
        st = open_spill_file(s, c->dir ? c->dir : SCRATCH_FILE_DIR, err);
    if (st != REFINE_OK)
        spill_close(s);
    else
        *out = s;
    return st;
}

void spill_close(spill *s)
{
    if (!s)
        return;
    if (s->fd >= 0)
        (void)close(s->fd);
    mem_free(s->bounce);
    mem_unmap(s->host, s->host_bytes);
    mem_free(s);
}

/* ---- moving ---- */

/* Has all of the bounce buffer's part moved? */
static bool check_moved(spill *s, size_t done, size_t bytes)
{
    if (done == bytes)
        return true;
    char why[160];
    (void)snprintf(why, sizeof why, "scratch file: %s", errno ? strerror(errno) : "it ended");
    dev_fail(s->d, REFINE_EIO, why);
    return false;
}

void spill_store(spill *s, size_t at, const void *device, size_t bytes)
{
    const char *from = device;
    if (at < s->host_bytes) {
        const size_t n = num_min(bytes, s->host_bytes - at);
        dev_get(s->d, s->host + at, from, n);
        at += n;
        from += n;
        bytes -= n;
    }
    while (bytes > 0 && dev_status(s->d) == REFINE_OK) {
        const size_t n = num_min(bytes, BOUNCE);
        dev_get(s->d, s->bounce, from, n);
        if (!check_moved(s, io_write_at(s->fd, s->bounce, n, at - s->host_bytes), n))
            return;
        at += n;
        from += n;
        bytes -= n;
    }
}

void spill_load(spill *s, void *device, size_t at, size_t bytes)
{
    char *to = device;
    if (at < s->host_bytes) {
        const size_t n = num_min(bytes, s->host_bytes - at);
        dev_put(s->d, to, s->host + at, n);
        at += n;
        to += n;
        bytes -= n;
    }
    while (bytes > 0 && dev_status(s->d) == REFINE_OK) {
        const size_t n = num_min(bytes, BOUNCE);
        if (!check_moved(s, io_read_at(s->fd, s->bounce, n, at - s->host_bytes), n))
            return;
        dev_put(s->d, to, s->bounce, n);
        at += n;
        to += n;
        bytes -= n;
    }
}
