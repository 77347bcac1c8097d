/* tests/base/test_io.c -- all bytes move, or it is said how many did and why no more. */
#define _GNU_SOURCE /* mkstemp, MAP_NORESERVE */
#include "engine/base/io.h"

#include "engine/base/mem.h"
#include "engine/base/thread.h"
#include "tests/support/temp_file.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- the loop, over a system that does as it is told ---- */

/* Results of calls, one after the other: bytes, or -errno. */
typedef struct io_script {
    const int *result;
    int calls;
    char file[16];
} io_script;

static ssize_t follow_script(void *context, void *memory, size_t bytes, uint64_t at)
{
    io_script *s = context;
    const int n = s->result[s->calls++];
    if (n < 0) {
        errno = -n;
        return -1;
    }
    cr_assert_leq((size_t)n, bytes);
    memcpy(memory, s->file + at, (size_t)n);
    return n;
}

static size_t move_by_script(io_script *s, const int *result, char *to, size_t bytes, uint64_t at)
{
    *s = (io_script){ .result = result, .file = "0123456789abcde" };
    errno = ERANGE;
    return io_move(follow_script, s, to, bytes, at);
}

Test(base_io, goes_on_after_short_counts_and_interruptions)
{
    static const int RESULT[] = { 1, -EINTR, 4, -EINTR, -EINTR, 2, 1 };
    io_script s;
    char to[8];
    cr_assert_eq(move_by_script(&s, RESULT, to, 8, 3), 8u);
    cr_expect_eq(s.calls, 7);
    cr_expect_arr_eq(to, "3456789a", 8);
}

Test(base_io, asks_for_nothing_when_there_is_nothing_to_move)
{
    io_script s;
    char to;
    cr_expect_eq(move_by_script(&s, NULL, &to, 0, 0), 0u);
    cr_expect_eq(s.calls, 0);
}

Test(base_io, says_how_much_moved_before_a_failure_and_which_it_was)
{
    static const int RESULT[] = { 2, 3, -EIO };
    io_script s;
    char to[8];
    cr_expect_eq(move_by_script(&s, RESULT, to, 8, 0), 5u);
    cr_expect_eq(errno, EIO);
}

Test(base_io, says_how_much_moved_before_the_end_which_is_no_failure)
{
    static const int RESULT[] = { 2, -EINTR, 0 };
    io_script s;
    char to[8];
    cr_expect_eq(move_by_script(&s, RESULT, to, 8, 0), 2u);
    cr_expect_eq(errno, 0);
}

static ssize_t count_gibibytes(void *calls, void *memory, size_t bytes, uint64_t at)
{
    (void)memory, (void)at;
    ++*(int *)calls;
    cr_assert_leq(bytes, (size_t)1 << 30);
    return (ssize_t)bytes;
}

Test(base_io, asks_for_no_more_at_once_than_a_system_may_take)
{
    const size_t bytes = ((size_t)5 << 29) + 1;
    int calls = 0;
    void *p = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    cr_assert_neq(p, MAP_FAILED);
    cr_expect_eq(io_move(count_gibibytes, &calls, p, bytes, 0), bytes);
    cr_expect_eq(calls, 3);
    munmap(p, bytes);
}

/* ---- files ---- */

static int open_temp(char path[TEMP_NAME], const char *text)
{
    temp_file(path, ".bin");
    temp_write(path, text, strlen(text));
    const int fd = open(path, O_RDWR | O_CLOEXEC);
    cr_assert_geq(fd, 0);
    return fd;
}

static void drop_temp(int fd, const char *path)
{
    (void)close(fd);
    (void)unlink(path);
    cr_expect_eq(mem_used().now, 0u);
}

Test(base_io, reads_and_writes_at_a_place)
{
    char path[TEMP_NAME], to[8] = "";
    const int fd = open_temp(path, "abcdefgh");
    cr_expect_eq(io_write_at(fd, "XYZ", 3, 2), 3u);
    cr_expect_eq(io_read_at(fd, to, 5, 1), 5u);
    cr_expect_str_eq(to, "bXYZf");
    cr_expect_eq(io_read_at(fd, to, 8, 6), 2u, "the file ends");
    cr_expect_eq(errno, 0);
    drop_temp(fd, path);
    cr_expect_eq(io_read_at(-1, to, 1, 0), 0u);
    cr_expect_eq(errno, EBADF);
    cr_expect_eq(io_write_at(-1, to, 1, 0), 0u);
    cr_expect_eq(errno, EBADF);
}

Test(base_io, reads_and_writes_on_from_where_a_pipe_stands)
{
    int end[2];
    char to[8] = "";
    cr_assert_eq(pipe(end), 0);
    cr_expect_eq(io_write(end[1], "abc", 3), 3u);
    cr_expect_eq(io_write(end[1], "de", 2), 2u);
    cr_expect_eq(io_read(end[0], to, 4), 4u);
    cr_expect_str_eq(to, "abcd");
    (void)close(end[1]);
    cr_expect_eq(io_read(end[0], to, 4), 1u);
    cr_expect_eq(errno, 0);
    (void)close(end[0]);
}

Test(base_io, says_that_nobody_reads_what_it_writes)
{
    int end[2];
    (void)signal(SIGPIPE, SIG_IGN);
    cr_assert_eq(pipe(end), 0);
    (void)close(end[0]);
    cr_expect_eq(io_write(end[1], "abc", 3), 0u);
    cr_expect_eq(errno, EPIPE);
    (void)close(end[1]);
}

/* ---- whole files ---- */

/* The text, or NULL and errno. */
static char *read_text(const char *text, size_t most)
{
    char path[TEMP_NAME], *out;
    size_t len = 0;
    const int fd = open_temp(path, text);
    const bool ok = io_read_whole(&out, &len, fd, most);
    const int error = errno;
    cr_expect_eq(ok, out != NULL);
    cr_expect(!ok || len == strlen(text));
    (void)close(fd);
    (void)unlink(path);
    errno = error;
    return out;
}

Test(base_io, reads_whole_files_with_a_zero_behind)
{
    static const char *const TEXT[] = { "", "a", "abcdefgh" };
    for (int i = 0; i < 3; i++) {
        char *out = read_text(TEXT[i], 8);
        cr_assert_not_null(out);
        cr_expect_str_eq(out, TEXT[i]);
        mem_free(out);
    }
    cr_expect_eq(mem_used().now, 0u);
}

Test(base_io, does_not_read_more_than_it_may)
{
    cr_expect_null(read_text("abcdefghi", 8));
    cr_expect_eq(errno, EFBIG);
    cr_expect_null(read_text("a", 0));
    cr_expect_eq(errno, EFBIG);
    cr_expect_eq(mem_used().now, 0u);
    cr_expect_leq(mem_used().peak, 64u, "it asks how large a file is");
}

Test(base_io, reads_files_that_say_they_are_empty)
{
    char *out;
    size_t len;
    const int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    cr_assert(io_read_whole(&out, &len, fd, 1 << 20));
    cr_expect_gt(len, 64u);
    cr_expect_eq(strlen(out), len);
    mem_free(out);
    (void)close(fd);
}

Test(base_io, says_why_a_file_cannot_be_read)
{
    char *out;
    size_t len;
    const int fd = open("/", O_RDONLY | O_CLOEXEC);
    cr_expect_not(io_read_whole(&out, &len, fd, 8));
    cr_expect_eq(errno, EISDIR);
    cr_expect_null(out);
    (void)close(fd);
    cr_expect_eq(mem_used().now, 0u);
}

/* More than a pipe holds, and more than its reader has room for at first. */
enum { LONG = (3 << 20) + 5 };

static char sent[LONG];

static void send_all(void *fd)
{
    (void)io_write(*(const int *)fd, sent, LONG);
    (void)close(*(const int *)fd);
}

static bool read_from_pipe(char **out, size_t *len, size_t most)
{
    int end[2];
    thread t;
    cr_assert_eq(pipe(end), 0);
    cr_assert(thread_start(&t, "sender", send_all, &end[1]));
    const bool ok = io_read_whole(out, len, end[0], most);
    const int error = errno;
    (void)close(end[0]);
    thread_join(&t);
    errno = error;
    return ok;
}

Test(base_io, reads_all_of_a_pipe_of_any_length)
{
    char *out;
    size_t len;
    (void)signal(SIGPIPE, SIG_IGN);
    for (int i = 0; i < LONG; i++)
        sent[i] = (char)(i * 7 + i / 251);
    for (size_t most = LONG; most <= LONG + 1; most++) {
        cr_assert(read_from_pipe(&out, &len, most));
        cr_expect_eq(len, LONG);
        cr_expect_eq(memcmp(out, sent, LONG), 0);
        mem_free(out);
    }
    cr_expect_not(read_from_pipe(&out, &len, LONG - 1));
    cr_expect_eq(errno, EFBIG);
    cr_expect_eq(mem_used().now, 0u);
}

Test(base_io, survives_every_failed_allocation)
{
    char *out = NULL;
    size_t len;
    bool ok = false;
    (void)signal(SIGPIPE, SIG_IGN);
    for (long k = 1; !ok; k++) { /* 0: the sender's start */
        mem_fail_after(k, MEM_FAIL_ONCE);
        ok = read_from_pipe(&out, &len, LONG);
        cr_expect(ok || errno == ENOMEM);
        cr_expect(ok ? mem_fail_after(-1, MEM_FAIL_ONCE) : mem_used().now == 0);
    }
    mem_free(out);
    cr_expect_eq(mem_used().now, 0u);
}
