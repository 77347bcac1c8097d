/* tests/offload/test_spill.c -- what is stored comes back, wherever it lay meanwhile. */
#define _GNU_SOURCE
#include "offload/spill.h"

#include "engine/base/mem.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DEVICES = 2, NAME = 128 };

static const size_t SPACE = (size_t)5 << 20; /* several bounce buffers, and some */

/* Its threads run, and have given back what starting them took. */
static void settle_spill_device(dev *d)
{
    dev_event *e = dev_event_open(d);
    dev_record(d, e, DEV_COPY);
    dev_sync(d, e);
    dev_event_close(d, e);
}

static dev *open_spill_device(int which)
{
    const dev_options o = { .compute = DT_F32, .threads = 1 };
    refine_error err = { 0 };
    dev *d = which == 0 ? dev_open_ref(&o, &err) : dev_open_cpu(&o, &err);
    cr_assert_not_null(d, "%s", err.text);
    settle_spill_device(d);
    return d;
}

/* A new empty directory, under TMPDIR. */
static void make_dir(char name[NAME])
{
    const char *dir = getenv("TMPDIR");
    (void)snprintf(name, NAME, "%.80s/refine-spill-XXXXXX", dir ? dir : "/tmp");
    cr_assert_not_null(mkdtemp(name));
}

static int files_in(const char *dir)
{
    int n = 0;
    DIR *d = opendir(dir);
    cr_assert_not_null(d);
    for (const struct dirent *e = readdir(d); e; e = readdir(d))
        n += e->d_name[0] != '.';
    (void)closedir(d);
    return n;
}

/* ---- bytes ---- */

typedef struct spill_rig {
    dev *d;
    spill *s;
    char *device; /* SPACE bytes */
    unsigned char *want, *got;
    char dir[NAME];
    refine_error err;
} spill_rig;

static void open_spill_rig(spill_rig *r, int which, size_t host, size_t file)
{
    *r = (spill_rig){ .d = open_spill_device(which) };
    make_dir(r->dir);
    r->device = dev_alloc(r->d, SPACE, DEV_VRAM);
    r->want = malloc(SPACE);
    r->got = malloc(SPACE);
    cr_assert(r->device && r->want && r->got);
    for (size_t i = 0; i < SPACE; i++)
        r->want[i] = (unsigned char)(i * 2654435761u >> 23);
    const spill_config c = { .d = r->d, .host_bytes = host, .file_bytes = file, .dir = r->dir };
    cr_assert_eq(spill_open(&r->s, &c, &r->err), REFINE_OK, "%s", r->err.text);
}

static void close_spill_rig(spill_rig *r)
{
    spill_close(r->s);
    dev_free(r->d, r->device, SPACE, DEV_VRAM);
    dev_close(r->d);
    free(r->want);
    free(r->got);
    cr_assert_eq(rmdir(r->dir), 0, "something is left in it");
}

static void store_wanted_bytes(spill_rig *r, size_t at, size_t bytes)
{
    dev_put(r->d, r->device, r->want + at, bytes);
    spill_store(r->s, at, r->device, bytes);
}

static void expect_back(spill_rig *r, size_t at, size_t bytes)
{
    memset(r->got, 0xA5, bytes);
    dev_put(r->d, r->device, r->got, bytes);
    spill_load(r->s, r->device, at, bytes);
    dev_get(r->d, r->got, r->device, bytes);
    cr_assert_eq(dev_status(r->d), REFINE_OK, "%s", dev_why(r->d));
    cr_assert_arr_eq(r->got, r->want + at, bytes, "[%zu, +%zu)", at, bytes);
}

/* Pieces at both ends, at the boundary of host and file and around it; larger than the bounce
 * buffer, smaller, of one byte, and everything at once. */
static void move_pieces(spill_rig *r, size_t boundary)
{
    const size_t edge = boundary < 1000 ? 1000 : boundary;
    const struct {
        size_t at, bytes;
    } piece[] = { { 0, 1 },
                  { 0, 4096 },
                  { edge - 1000, 1000 },
                  { edge - 7, 14 },
                  { edge - 1000, 3 << 20 },
                  { SPACE / 3, SPACE / 2 },
                  { SPACE - 1, 1 },
                  { 0, SPACE },
                  { 12345, (2 << 20) + 1 } };
    for (size_t i = 0; i < sizeof piece / sizeof piece[0]; i++) {
        const size_t left = SPACE - piece[i].at;
        const size_t bytes = piece[i].bytes < left ? piece[i].bytes : left;
        store_wanted_bytes(r, piece[i].at, bytes);
        expect_back(r, piece[i].at, bytes);
    }
    for (size_t i = 0; i < sizeof piece / sizeof piece[0]; i++)
        if (piece[i].at + piece[i].bytes <= SPACE)
            expect_back(r, piece[i].at, piece[i].bytes);
}

Test(offload_spill, bytes_come_back_wherever_they_lay)
{
    const size_t host[] = { 0, 256, (size_t)1 << 20, ((size_t)2 << 20) + 768, SPACE };
    for (int which = 0; which < DEVICES; which++)
        for (size_t i = 0; i < sizeof host / sizeof host[0]; i++) {
            spill_rig r;
            open_spill_rig(&r, which, host[i], SPACE - host[i]);
            move_pieces(&r, host[i] == SPACE ? SPACE / 2 : host[i]);
            close_spill_rig(&r);
        }
}

Test(offload_spill, pieces_do_not_touch_their_neighbours)
{
    const size_t boundary = (size_t)2 << 20, third = SPACE / 3;
    for (int which = 0; which < DEVICES; which++) {
        spill_rig r;
        open_spill_rig(&r, which, boundary, SPACE - boundary);
        store_wanted_bytes(&r, 2 * third, third);
        store_wanted_bytes(&r, 0, third);
        store_wanted_bytes(&r, third, third);
        memset(r.want + boundary - 50, 0x33, 100);
        store_wanted_bytes(&r, boundary - 50, 100);
        expect_back(&r, 0, 3 * third);
        close_spill_rig(&r);
    }
}

/* ---- the file ---- */

Test(offload_spill, no_name_is_left_in_the_directory)
{
    spill_rig r;
    open_spill_rig(&r, 0, 0, SPACE);
    cr_assert_eq(files_in(r.dir), 0);
    store_wanted_bytes(&r, 0, SPACE);
    cr_assert_eq(files_in(r.dir), 0);
    close_spill_rig(&r);
}

/* The descriptor that the next open will get. */
static int next_fd(void)
{
    const int fd = dup(STDIN_FILENO);
    (void)close(fd);
    return fd;
}

Test(offload_spill, the_file_has_its_blocks_from_the_start_and_goes_with_the_spill)
{
    spill_rig r;
    struct stat st;
    const size_t host = (size_t)1 << 20;
    open_spill_rig(&r, 0, host, SPACE - host);
    spill_close(r.s);
    const int fd = next_fd();
    const spill_config c = {
        .d = r.d, .host_bytes = host, .file_bytes = SPACE - host, .dir = r.dir
    };
    cr_assert_eq(spill_open(&r.s, &c, &r.err), REFINE_OK);
    cr_assert_eq(fstat(fd, &st), 0);
    cr_assert_eq((size_t)st.st_size, SPACE - host);
    cr_assert_geq((size_t)st.st_blocks * 512, SPACE - host);
    cr_assert_eq(st.st_nlink, 0);
    cr_assert_eq(st.st_mode & 077, 0, "others may not look");
    store_wanted_bytes(&r, 0, SPACE);
    cr_assert_eq(fstat(fd, &st), 0);
    cr_assert_eq((size_t)st.st_size, SPACE - host, "written behind its end");
    spill_close(r.s);
    r.s = NULL;
    cr_assert_eq(fcntl(fd, F_GETFD), -1);
    close_spill_rig(&r);
}

Test(offload_spill, without_a_file_the_directory_does_not_matter)
{
    dev *d = open_spill_device(0);
    spill *s;
    const int fd = next_fd();
    const spill_config c = { .d = d, .host_bytes = SPACE, .dir = "/does/not/exist" };
    cr_assert_eq(spill_open(&s, &c, NULL), REFINE_OK);
    cr_assert_eq(fcntl(fd, F_GETFD), -1);
    spill_close(s);
    dev_close(d);
}

Test(offload_spill, without_a_directory_it_finds_one)
{
    dev *d = open_spill_device(0);
    spill *s;
    refine_error err = { 0 };
    const spill_config c = { .d = d, .file_bytes = SPACE };
    cr_assert_eq(spill_open(&s, &c, &err), REFINE_OK, "%s", err.text);
    spill_close(s);
    dev_close(d);
}

/* ---- what the world refuses ---- */

static void expect_spill_refused(const char *dir, size_t file_bytes)
{
    dev *d = open_spill_device(0);
    spill *s = (spill *)(void *)d;
    refine_error err = { 0 };
    char named[200];
    const uint64_t before = mem_used().now;
    const int fd = next_fd();
    const spill_config c = { .d = d, .host_bytes = 4096, .file_bytes = file_bytes, .dir = dir };

    cr_assert_eq(spill_open(&s, &c, &err), REFINE_ENOMEM);
    cr_assert_null(s);
    cr_assert_eq(err.status, REFINE_ENOMEM);
    (void)snprintf(named, sizeof named, "%.150s", dir);
    cr_assert(strstr(err.text, named), "%s", err.text);
    cr_assert(strstr(err.text, "TMPDIR"), "%s", err.text);
    cr_assert_eq(strchr(err.text, '\n'), NULL);
    cr_assert_eq(mem_used().now, before);
    cr_assert_eq(next_fd(), fd);
    cr_assert_eq(dev_status(d), REFINE_OK, "nothing has been moved");
    dev_close(d);
}

Test(offload_spill, a_directory_that_is_none_is_named)
{
    expect_spill_refused("/does/not/exist", SPACE);
    expect_spill_refused("/dev/null", SPACE);
    expect_spill_refused("/proc", SPACE);
}

Test(offload_spill, a_directory_that_may_not_be_written_is_named)
{
    char dir[NAME];
    if (geteuid() == 0)
        cr_skip_test("root may write everywhere");
    make_dir(dir);
    cr_assert_eq(chmod(dir, 0500), 0);
    expect_spill_refused(dir, SPACE);
    (void)rmdir(dir);
}

Test(offload_spill, a_name_without_end_is_refused)
{
    static char dir[3 * 4096];
    for (size_t i = 0; i + 1 < sizeof dir; i++)
        dir[i] = i % 50 ? 'd' : '/';
    expect_spill_refused(dir, SPACE);
}

Test(offload_spill, a_file_that_finds_no_room_is_refused_at_once)
{
    char dir[NAME];
    const struct rlimit limit = { .rlim_cur = SPACE / 2, .rlim_max = SPACE / 2 };
    make_dir(dir);
    (void)signal(SIGXFSZ, SIG_IGN);
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    expect_spill_refused(dir, SPACE);
    cr_assert_eq(rmdir(dir), 0);
}

Test(offload_spill, a_file_that_is_cut_short_fails_the_device)
{
    spill_rig r;
    open_spill_rig(&r, 0, 0, SPACE);
    spill_close(r.s);
    const int fd = next_fd();
    const spill_config c = { .d = r.d, .file_bytes = SPACE, .dir = r.dir };
    cr_assert_eq(spill_open(&r.s, &c, &r.err), REFINE_OK);
    store_wanted_bytes(&r, 0, SPACE);
    cr_assert_eq(ftruncate(fd, (off_t)SPACE / 2), 0);
    spill_load(r.s, r.device, 0, SPACE);
    cr_assert_eq(dev_status(r.d), REFINE_EIO);
    cr_assert(strstr(dev_why(r.d), "scratch file: it ended"), "%s", dev_why(r.d));
    spill_store(r.s, 0, r.device, SPACE); /* does nothing, and says so by the same status */
    cr_assert_eq(dev_status(r.d), REFINE_EIO);
    close_spill_rig(&r);
}

Test(offload_spill, a_write_that_fails_fails_the_device)
{
    spill_rig r;
    open_spill_rig(&r, 0, 0, SPACE);
    const struct rlimit limit = { .rlim_cur = SPACE / 2, .rlim_max = SPACE };
    (void)signal(SIGXFSZ, SIG_IGN);
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    store_wanted_bytes(&r, 0, SPACE);
    cr_assert_eq(dev_status(r.d), REFINE_EIO);
    cr_assert(strstr(dev_why(r.d), "scratch file: "), "%s", dev_why(r.d));
    close_spill_rig(&r);
}

/* ---- memory ---- */

Test(offload_spill, each_failing_allocation_leaves_nothing_behind)
{
    char dir[NAME];
    make_dir(dir);
    for (int which = 0; which < DEVICES; which++) {
        dev *d = open_spill_device(which);
        const uint64_t before = mem_used().now;
        const int fd = next_fd();
        const spill_config c = { .d = d, .host_bytes = 4096, .file_bytes = SPACE, .dir = dir };
        int refused = 0;
        for (long k = 0;; k++) {
            spill *s;
            refine_error err = { 0 };
            mem_fail_after(k, MEM_FAIL_ONCE);
            const refine_status st = spill_open(&s, &c, &err);
            mem_fail_after(-1, MEM_FAIL_ONCE);
            cr_assert_eq(s != NULL, st == REFINE_OK);
            spill_close(s);
            cr_assert_eq(mem_used().now, before);
            cr_assert_eq(next_fd(), fd);
            if (st == REFINE_OK)
                break;
            cr_assert_eq(st, REFINE_ENOMEM, "%s", err.text);
            cr_assert(strstr(err.text, "out of memory"), "%s", err.text);
            refused++;
        }
        cr_assert_eq(refused, 3, "itself, host memory and the bounce buffer");
        dev_close(d);
    }
    cr_assert_eq(rmdir(dir), 0);
}

Test(offload_spill, it_takes_what_it_said_and_nothing_while_it_moves)
{
    const size_t host[] = { 0, SPACE / 2 / 4096 * 4096, SPACE };
    for (size_t i = 0; i < sizeof host / sizeof host[0]; i++) {
        spill_rig r;
        open_spill_rig(&r, 0, host[i], SPACE - host[i]);
        const mem_usage with = mem_used();
        store_wanted_bytes(&r, 0, SPACE);
        expect_back(&r, 0, SPACE);
        cr_assert_eq(mem_used().calls, with.calls);
        spill_close(r.s);
        r.s = NULL;
        cr_assert_eq(with.now - mem_used().now, host[i] + spill_overhead(SPACE - host[i]));
        close_spill_rig(&r);
    }
}

Test(offload_spill, closing_none_is_fine) { spill_close(NULL); }
