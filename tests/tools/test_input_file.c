/* tests/tools/test_input_file.c -- a pipe is read once, whatever it is opened for afterwards. */
#define _POSIX_C_SOURCE 200809L
#include "tools/files/input_file.h"

#include "engine/base/mem.h"
#include "tests/support/temp_file.h"
#include "tools/batch/job_input.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const input_settings HOW = { .scaling_factor = 1, .image = IMAGE_READING_INIT };
static const char PICTURE[] = "tests/fuzz/corpora/jpeg/turned6.jpg";
static const char LATENTS[] = "tests/fuzz/corpora/latents/f32.safetensors";

/* A child that writes `n` bytes into the pipe `name`, and waits for nobody. */
static pid_t feed_pipe(const char *name, const void *data, size_t n)
{
    const pid_t pid = fork();
    if (pid == 0) {
        const int fd = open(name, O_WRONLY);
        _exit(fd >= 0 && write(fd, data, n) == (ssize_t)n ? 0 : 1);
    }
    return pid;
}

static void expect_bytes(const char *path, const unsigned char *want, size_t n)
{
    size_t len;
    unsigned char *have = temp_read(path, &len);
    cr_assert_eq(len, n);
    cr_assert_eq(memcmp(have, want, n), 0);
    free(have);
}

static void make_pipe(char name[TEMP_NAME])
{
    temp_file(name, ".pipe");
    cr_assert_eq(unlink(name), 0);
    cr_assert_eq(mkfifo(name, 0600), 0);
}

Test(tools_input_file, is_the_file_itself_where_there_is_one)
{
    input_file f;
    cr_assert_eq(input_file_open(&f, PICTURE, 1 << 20, NULL), REFINE_OK);
    cr_assert_eq(f.path, PICTURE);
    cr_assert_eq(f.fd, -1);
    input_file_close(&f);
    cr_assert_eq(input_file_open(&f, "no/such/file", 1 << 20, NULL), REFINE_OK);
    input_file_close(&f);
}

Test(tools_input_file, opens_a_named_pipe_twice, .timeout = 20)
{
    enum { N = 200000 };
    unsigned char *data = malloc(N);
    char name[TEMP_NAME];
    input_file f;
    int status;
    for (size_t i = 0; i < N; i++)
        data[i] = (unsigned char)(i * 7 >> 3);
    make_pipe(name);
    const pid_t pid = feed_pipe(name, data, N);
    cr_assert_eq(input_file_open(&f, name, 1 << 20, NULL), REFINE_OK);
    expect_bytes(f.path, data, N);
    expect_bytes(f.path, data, N);
    cr_assert_str_eq(f.name, name);
    input_file_close(&f);
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_assert_eq(status, 0);
    free(data);
    (void)unlink(name);
}

/* Exchanges standard input for a file. */
static void redirect_input(const char *path)
{
    const int fd = open(path, O_RDONLY);
    cr_assert_eq(dup2(fd, STDIN_FILENO), STDIN_FILENO);
    (void)close(fd);
}

Test(tools_input_file, gives_an_error_the_name_that_the_user_knows)
{
    input_file f;
    refine_error err = { 0 };
    redirect_input("/dev/null");
    cr_assert_eq(input_file_open(&f, "-", 1 << 20, NULL), REFINE_OK);
    (void)refine_fail(&err, REFINE_EFORMAT, "%s: is empty", f.path);
    input_file_name_error(&f, &err);
    cr_assert_str_eq(err.text, "standard input: is empty");
    (void)refine_fail(&err, REFINE_EFORMAT, "out of memory");
    input_file_name_error(&f, &err);
    cr_assert_str_eq(err.text, "out of memory");
    input_file_name_error(&f, NULL);
    input_file_close(&f);
}

Test(tools_input_file, takes_no_more_of_a_pipe_than_it_may)
{
    enum { MOST = 100000 };
    static unsigned char data[MOST + 1];
    char name[TEMP_NAME];
    make_pipe(name);
    for (size_t n = MOST; n <= MOST + 1; n++) {
        input_file f;
        refine_error err = { 0 };
        int status;
        const pid_t pid = feed_pipe(name, data, n);
        const refine_status st = input_file_open(&f, name, MOST, &err);
        cr_assert_eq(st, n > MOST ? REFINE_EBUDGET : REFINE_OK, "%s", err.text);
        cr_assert(st == REFINE_OK || strstr(err.text, "--ram"), "%s", err.text);
        cr_assert(st != REFINE_OK || f.bytes == n);
        input_file_close(&f);
        cr_assert_eq(waitpid(pid, &status, 0), pid);
    }
    (void)unlink(name);
}

Test(tools_input_file, brings_a_job_an_image_and_latents_from_standard_input)
{
    static const char *const PATHS[] = { "tests/fuzz/corpora/npy/f4_v1.npy", LATENTS };
    for (size_t i = 0; i < sizeof PATHS / sizeof PATHS[0]; i++) {
        job_input file, piped;
        refine_job j = REFINE_JOB_INIT;
        refine_error err = { 0 };
        cr_assert_eq(job_input_load(&file, &j, PATHS[i], true, false, &HOW, NULL), REFINE_OK);
        redirect_input(PATHS[i]);
        cr_assert_eq(job_input_load(&piped, &j, "-", true, false, &HOW, &err), REFINE_OK, "%s",
                     err.text);
        cr_assert(file.l.h == piped.l.h && file.l.w == piped.l.w);
        cr_assert_eq(memcmp(file.l.v, piped.l.v, 4 * (size_t)(file.l.h * file.l.w) * 4), 0);
        job_input_free(&file);
        job_input_free(&piped);
    }
    job_input in;
    refine_job j = REFINE_JOB_INIT;
    refine_error err = { 0 };
    redirect_input(PICTURE);
    cr_assert_eq(job_input_load(&in, &j, "-", true, false, &HOW, &err), REFINE_EFORMAT);
    cr_assert_str_eq(err.text, "standard input: 13 x 19 pixels; at least 64 x 64 are needed: "
                               "give a --size");
    job_input_free(&in);
    cr_assert_eq(mem_used().now, 0u);
}
