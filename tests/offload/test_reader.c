/* tests/offload/test_reader.c -- both readers, side by side: whole reads or a reason. */
#define _GNU_SOURCE /* O_DIRECT, mkstemp */
#include "offload/reader.h"

#include "engine/base/mem.h"
#include "offload/pack_format.h"
#include "tests/support/temp_file.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BLOCKS = 700, FILE_BYTES = BLOCKS * PACK_ALIGN, DEPTH = 6 };

typedef struct reader_rig {
    char name[TEMP_NAME], name2[TEMP_NAME]; /* the second: "" where there is none */
    uint8_t *want, *want2;
    char *buffer;
    const char *path[2];
    reader_config c;
    reader *r;
    refine_error err;
} reader_rig;

static void open_reader_rig(reader_rig *g)
{
    memset(g, 0, sizeof *g);
    g->want = malloc(FILE_BYTES);
    for (size_t i = 0; i < FILE_BYTES; i++)
        g->want[i] = (uint8_t)(i * 2654435761u >> 21);
    temp_file(g->name, ".bin");
    temp_write(g->name, g->want, FILE_BYTES);
    g->buffer = aligned_alloc(PACK_ALIGN, FILE_BYTES);
    g->path[0] = g->name;
    g->c = (reader_config){ .paths = g->path,
                            .n_files = 1,
                            .buffer = g->buffer,
                            .buffer_bytes = FILE_BYTES,
                            .depth = DEPTH };
}

static void close_reader_rig(reader_rig *g)
{
    if (g->r)
        g->r->close(g->r);
    (void)unlink(g->name);
    if (g->name2[0])
        (void)unlink(g->name2);
    free(g->buffer);
    free(g->want);
    free(g->want2);
}

/* One of other bytes, before the reader is open. */
static void add_second_file(reader_rig *g)
{
    g->want2 = malloc(FILE_BYTES);
    for (size_t i = 0; i < FILE_BYTES; i++)
        g->want2[i] = (uint8_t)~g->want[i];
    temp_file(g->name2, ".bin");
    temp_write(g->name2, g->want2, FILE_BYTES);
    g->path[1] = g->name2;
    g->c.n_files = 2;
}

/* False where the system has no io_uring. */
static bool open_rig_reader(reader_rig *g, int which)
{
    const reader_kind kind = which == 0 ? READER_URING : READER_PREAD;
    const refine_status st = reader_open(&g->r, kind, &g->c, NULL, &g->err);
    if (st != REFINE_OK && which == 0 && strstr(g->err.text, "unavailable")) {
        printf("SKIP %s\n", g->err.text);
        return false;
    }
    cr_assert_eq(st, REFINE_OK, "%s", g->err.text);
    return true;
}

/* Reads the whole file in pieces of 1 to `most` blocks; the ticket is the first block. */
static void read_rig_file(reader_rig *g, int most)
{
    int at = 0, outstanding = 0, finished = 0;
    memset(g->buffer, 0, FILE_BYTES);
    while (finished < BLOCKS) {
        while (at < BLOCKS && outstanding < DEPTH) {
            const int left = BLOCKS - at, n = 1 + at % most < left ? 1 + at % most : left;
            const size_t byte = (size_t)at * PACK_ALIGN;
            cr_assert_eq(g->r->submit(g->r, (uint64_t)at << 16 | (uint64_t)n, 0, g->buffer + byte,
                                      byte, (size_t)n * PACK_ALIGN),
                         REFINE_OK);
            at += n;
            outstanding++;
        }
        read_done d[2];
        const int n = g->r->reap(g->r, d, 2, 1);
        cr_assert(n == 1 || n == 2);
        for (int i = 0; i < n; i++) {
            cr_assert_eq(d[i].status, REFINE_OK, "errno %d", d[i].error);
            const size_t byte = (size_t)(d[i].ticket >> 16) * PACK_ALIGN;
            const int blocks = (int)(d[i].ticket & 0xffff);
            cr_assert_arr_eq(g->buffer + byte, g->want + byte, (size_t)blocks * PACK_ALIGN);
            finished += blocks;
            outstanding--;
        }
    }
    read_done none;
    cr_assert_eq(g->r->reap(g->r, &none, 1, 1), 0, "nothing is outstanding: it must not wait");
}

Test(offload_reader, every_byte_comes_whatever_the_pieces)
{
    for (int which = 0; which < 2; which++) {
        reader_rig g;
        open_reader_rig(&g);
        if (open_rig_reader(&g, which)) {
            read_rig_file(&g, 1);
            read_rig_file(&g, 50);
        }
        close_reader_rig(&g);
    }
}

Test(offload_reader, auto_always_finds_a_way_and_says_which)
{
    char note[READER_NOTE];
    reader_rig g;
    open_reader_rig(&g);
    cr_assert_eq(reader_open(&g.r, READER_AUTO, &g.c, note, &g.err), REFINE_OK, "%s", g.err.text);
    cr_assert_eq(strncmp(g.r->name, "io_uring", 8) == 0 && strstr(g.r->name, "O_DIRECT"),
                 note[0] == '\0', "%s: %s", g.r->name, note);
    read_rig_file(&g, 10);
    close_reader_rig(&g);
}

Test(offload_reader, a_file_that_is_not_there_is_named)
{
    for (int kind = READER_AUTO; kind <= READER_PREAD; kind++) {
        reader_rig g;
        open_reader_rig(&g);
        g.path[0] = "no/such/file";
        cr_assert_eq(reader_open(&g.r, (reader_kind)kind, &g.c, NULL, &g.err), REFINE_EIO);
        cr_assert_null(g.r);
        if (kind != READER_URING)
            cr_assert(strstr(g.err.text, "no/such/file"), "%s", g.err.text);
        close_reader_rig(&g);
    }
}

/* ---- file systems without O_DIRECT ---- */

static int open_without_direct(void *context, const char *path, int flags)
{
    (void)context;
    if (flags & O_DIRECT)
        return errno = EINVAL, -1;
    return open(path, flags);
}

static int direct_fd = -1;

static int open_and_remember(void *context, const char *path, int flags)
{
    (void)context;
    const int fd = open(path, flags & ~O_DIRECT);
    if (flags & O_DIRECT)
        direct_fd = fd;
    return fd;
}

static ssize_t refuse_direct(void *context, int fd, void *dst, size_t bytes, off_t at)
{
    (void)context;
    if (fd == direct_fd) {
        direct_fd = -1;
        return errno = EINVAL, -1;
    }
    return pread(fd, dst, bytes, at);
}

Test(offload_reader, without_o_direct_it_reads_through_the_page_cache)
{
    static const reader_calls CANNOT_OPEN = { .open = open_without_direct };
    static const reader_calls CANNOT_READ = { .open = open_and_remember, .pread = refuse_direct };
    for (int which = 0; which < 3; which++) {
        reader_rig g;
        open_reader_rig(&g);
        g.c.calls = which == 2 ? &CANNOT_READ : &CANNOT_OPEN;
        if (open_rig_reader(&g, which == 2 ? 1 : which)) {
            cr_assert_null(strstr(g.r->name, "O_DIRECT"));
            read_rig_file(&g, 20);
        }
        close_reader_rig(&g);
    }
}

Test(offload_reader, a_buffer_that_may_not_be_locked_is_read_into_all_the_same)
{
    const struct rlimit little = { 1 << 18, 1 << 18 }; /* enough for the rings, not for more */
    reader_rig g;
    open_reader_rig(&g);
    (void)chmod(g.name, 0644);
    (void)setrlimit(RLIMIT_MEMLOCK, &little);
    if (getuid() == 0 && seteuid(65534) != 0)
        cr_skip_test("cannot drop rights");
    if (reader_open(&g.r, READER_URING, &g.c, NULL, &g.err) == REFINE_OK)
        read_rig_file(&g, 30);
    else
        printf("SKIP %s\n", g.err.text);
    if (getuid() == 0)
        cr_assert_eq(seteuid(0), 0);
    close_reader_rig(&g);
}

/* ---- two files ---- */

/* Blocks of both in turn, with as many requests under way as may be. */
static void read_both_files(reader_rig *g)
{
    int at = 0, outstanding = 0, finished = 0;
    memset(g->buffer, 0, FILE_BYTES);
    while (finished < BLOCKS) {
        for (; at < BLOCKS && outstanding < DEPTH; at++, outstanding++) {
            const size_t byte = (size_t)at * PACK_ALIGN;
            cr_assert_eq(
                g->r->submit(g->r, (uint64_t)at, at % 3 == 0, g->buffer + byte, byte, PACK_ALIGN),
                REFINE_OK);
        }
        read_done d;
        cr_assert_eq(g->r->reap(g->r, &d, 1, 1), 1);
        cr_assert_eq(d.status, REFINE_OK, "errno %d", d.error);
        const size_t byte = (size_t)d.ticket * PACK_ALIGN;
        const uint8_t *want = d.ticket % 3 == 0 ? g->want2 : g->want;
        cr_assert_arr_eq(g->buffer + byte, want + byte, PACK_ALIGN);
        finished++;
        outstanding--;
    }
}

Test(offload_reader, two_files_go_by_their_numbers)
{
    for (int which = 0; which < 2; which++) {
        reader_rig g;
        open_reader_rig(&g);
        add_second_file(&g);
        if (open_rig_reader(&g, which))
            read_both_files(&g);
        close_reader_rig(&g);
    }
}

static int n_open_files(void)
{
    int n = 0;
    for (int fd = 0; fd < 256; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

/* One file cannot be opened around the page cache, or not be read so. */
typedef struct undirect_file {
    const char *path;
    bool opens; /* it can be opened that way */
    int fd;     /* as it then is; -1 before and after its one read */
    int cached; /* files opened for the page cache */
} undirect_file;

static int open_all_but_one(void *context, const char *path, int flags)
{
    undirect_file *u = context;
    const bool it = flags & O_DIRECT && strcmp(path, u->path) == 0;
    u->cached += !(flags & O_DIRECT);
    if (it && !u->opens)
        return errno = EINVAL, -1;
    const int fd = open(path, flags & ~O_DIRECT);
    if (it)
        u->fd = fd;
    return fd;
}

static ssize_t refuse_one(void *context, int fd, void *dst, size_t bytes, off_t at)
{
    undirect_file *u = context;
    if (fd == u->fd) {
        u->fd = -1;
        return errno = EINVAL, -1;
    }
    return pread(fd, dst, bytes, at);
}

Test(offload_reader, where_one_file_goes_through_the_page_cache_all_do)
{
    for (int which = 0; which < 3; which++)
        for (int file = 0; file < 2; file++) {
            reader_rig g;
            open_reader_rig(&g);
            add_second_file(&g);
            undirect_file u = { .path = g.path[file], .opens = which == 2, .fd = -1 };
            const reader_calls calls = { .context = &u,
                                         .open = open_all_but_one,
                                         .pread = which == 2 ? refuse_one : NULL };
            const int before = n_open_files();
            g.c.calls = &calls;
            if (open_rig_reader(&g, which == 2 ? 1 : which)) {
                cr_expect_null(strstr(g.r->name, "O_DIRECT"), "%s", g.r->name);
                cr_expect_eq(u.cached, 2, "both files are opened again");
                read_both_files(&g);
                g.r->close(g.r);
                g.r = NULL;
                cr_expect_eq(n_open_files(), before, "a file stays open");
            }
            close_reader_rig(&g);
        }
}

Test(offload_reader, a_second_file_that_is_not_there_is_named)
{
    for (int kind = READER_AUTO; kind <= READER_PREAD; kind++) {
        reader_rig g;
        open_reader_rig(&g);
        add_second_file(&g);
        g.path[1] = "no/such/second";
        const int before = n_open_files();
        cr_assert_eq(reader_open(&g.r, (reader_kind)kind, &g.c, NULL, &g.err), REFINE_EIO);
        cr_assert_null(g.r);
        cr_expect_eq(n_open_files(), before, "a file stays open");
        if (kind != READER_URING)
            cr_expect(strstr(g.err.text, "no/such/second"), "%s", g.err.text);
        close_reader_rig(&g);
    }
}

/* ---- trouble ---- */

static ssize_t odd_pread(void *context, int fd, void *dst, size_t bytes, off_t at)
{
    const int n = atomic_fetch_add((atomic_int *)context, 1) % 4;
    if (n == 1)
        return errno = EINTR, -1;
    if (n == 2)
        return errno = EAGAIN, -1;
    const ssize_t got = pread(fd, dst, bytes, at);
    return n == 3 && got > PACK_ALIGN ? PACK_ALIGN + 77 : got;
}

static int odd_completion(void *context, int result)
{
    const int n = atomic_fetch_add((atomic_int *)context, 1) % 4;
    if (n == 1)
        return -EINTR;
    if (n == 2)
        return -EAGAIN;
    return n == 3 && result > PACK_ALIGN ? PACK_ALIGN + 77 : result;
}

Test(offload_reader, short_and_interrupted_reads_are_made_whole)
{
    for (int which = 0; which < 2; which++) {
        atomic_int n = 0;
        const reader_calls calls = { .context = &n,
                                     .pread = odd_pread,
                                     .completion = odd_completion };
        reader_rig g;
        open_reader_rig(&g);
        g.c.calls = &calls;
        if (open_rig_reader(&g, which))
            read_rig_file(&g, 40);
        close_reader_rig(&g);
    }
}

static ssize_t broken_pread(void *context, int fd, void *dst, size_t bytes, off_t at)
{
    (void)context, (void)fd, (void)dst, (void)bytes;
    return at == 0 ? 0 : (errno = EIO, -1);
}

static int broken_completion(void *context, int result)
{
    (void)context, (void)result;
    return -EIO;
}

Test(offload_reader, a_failure_names_its_request_and_its_errno)
{
    for (int which = 0; which < 2; which++) {
        const reader_calls calls = { .pread = broken_pread, .completion = broken_completion };
        reader_rig g;
        open_reader_rig(&g);
        g.c.calls = &calls;
        if (open_rig_reader(&g, which)) {
            read_done d;
            cr_assert_eq(g.r->submit(g.r, 77, 0, g.buffer, PACK_ALIGN, PACK_ALIGN), REFINE_OK);
            cr_assert_eq(g.r->reap(g.r, &d, 1, 1), 1);
            cr_assert_eq(d.ticket, 77);
            cr_assert_eq(d.status, REFINE_EIO);
            cr_assert_eq(d.error, EIO);
        }
        close_reader_rig(&g);
    }
}

Test(offload_reader, reading_behind_the_end_says_that_the_file_ended)
{
    for (int which = 0; which < 2; which++) {
        reader_rig g;
        open_reader_rig(&g);
        if (open_rig_reader(&g, which)) {
            read_done d;
            cr_assert_eq(g.r->submit(g.r, 1, 0, g.buffer, FILE_BYTES - PACK_ALIGN, 3 * PACK_ALIGN),
                         REFINE_OK);
            cr_assert_eq(g.r->reap(g.r, &d, 1, 1), 1);
            cr_assert_eq(d.status, REFINE_EIO);
            cr_assert_eq(d.error, 0);
        }
        close_reader_rig(&g);
    }
}

Test(offload_reader, it_closes_with_reads_outstanding)
{
    for (int which = 0; which < 2; which++)
        for (int n = 0; n <= DEPTH; n++) {
            reader_rig g;
            open_reader_rig(&g);
            if (open_rig_reader(&g, which))
                for (int i = 0; i < n; i++)
                    cr_assert_eq(g.r->submit(g.r, 1, 0, g.buffer + i * 100 * PACK_ALIGN,
                                             (uint64_t)i * 100 * PACK_ALIGN, 100 * PACK_ALIGN),
                                 REFINE_OK);
            close_reader_rig(&g);
        }
}

Test(offload_reader, each_failing_allocation_or_thread_leaves_nothing_behind)
{
    reader_rig g;
    open_reader_rig(&g);
    const uint64_t before = mem_used().now;
    for (long k = 0; k < 1 + DEPTH; k++) {
        mem_fail_after(k, MEM_FAIL_ONCE);
        cr_assert_eq(reader_open_pread(&g.r, &g.c, &g.err), REFINE_ENOMEM);
        cr_assert_eq(mem_used().now, before);
    }
    mem_fail_after(0, MEM_FAIL_ONCE);
    cr_assert_neq(reader_open_uring(&g.r, &g.c, &g.err), REFINE_OK);
    cr_assert_eq(mem_used().now, before);
    mem_fail_after(-1, MEM_FAIL_ONCE);
    for (int which = 0; which < 2; which++)
        if (open_rig_reader(&g, which)) {
            cr_assert_leq(mem_used().now - before, reader_memory(DEPTH));
            g.r->close(g.r);
            g.r = NULL;
        }
    close_reader_rig(&g);
}
