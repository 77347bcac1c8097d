/* tests/tools/test_new_file.c -- the whole file under its name, or nothing. */
#define _GNU_SOURCE /* O_TMPFILE */
#include "engine/base/io.h"
#include "engine/base/mem.h"
#include "tests/support/failed_sync.h"
#include "tests/support/temp_place.h"
#include "tools/files/new_file.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void expect_file_text(const char *path, const char *text)
{
    size_t len;
    unsigned char *bytes = temp_read(path, &len);
    cr_assert_eq(len, strlen(text));
    cr_assert_arr_eq(bytes, text, len);
    free(bytes);
}

static refine_status write_new_text(const char *path, bool replace, const char *text,
                                    refine_error *err)
{
    new_file f;
    const refine_status st = new_file_open(&f, path, replace ? NEW_FILE_REPLACE : NEW_FILE_ONLY,
                                           err);
    if (st != REFINE_OK)
        return st;
    cr_assert_eq(new_file_write(&f, text + 2, strlen(text) - 2, 2, NULL), REFINE_OK);
    cr_assert_eq(new_file_write(&f, text, 2, 0, NULL), REFINE_OK);
    return new_file_commit(&f, err);
}

/* The error names a file that holds `text`; removes it. */
static void expect_kept_file(const temp_place *p, const refine_error *err, const char *text)
{
    const char *kept = strstr(err->text, "kept as ");
    cr_assert_not_null(kept, "%s", err->text);
    expect_file_text(kept + strlen("kept as "), text);
    cr_assert_eq(unlink(kept + strlen("kept as ")), 0);
    cr_assert_leq(temp_files_in(p->dir), 1);
}

typedef refine_status open_way(new_file *, const char *, new_file_mode, refine_error *);

static open_way *const WAYS[] = { new_file_open, new_file_open_named };

enum { N_WAYS = sizeof WAYS / sizeof WAYS[0] };

static refine_status write_in_way(open_way *way, const char *path, new_file_mode mode,
                                  const char *text, refine_error *err)
{
    new_file f;
    const refine_status st = way(&f, path, mode, err);
    if (st != REFINE_OK)
        return st;
    cr_assert_eq(new_file_write(&f, text, strlen(text), 0, err), REFINE_OK, "%s", err->text);
    return new_file_commit(&f, err);
}

static void close_new_file_dir(const temp_place *p)
{
    (void)unlink(p->path);
    cr_assert_eq(rmdir(p->dir), 0, "something was left in %s", p->dir);
    cr_assert_eq(mem_used().now, 0u);
}

Test(tools_new_file, appears_when_it_is_complete)
{
    const temp_place p = temp_place_make("out");
    new_file f;
    cr_assert_eq(new_file_open(&f, p.path, NEW_FILE_ONLY, NULL), REFINE_OK);
    cr_assert_neq(access(p.path, F_OK), 0);
    cr_assert_gt(new_file_room(&f), 0u);
    cr_assert_eq(new_file_write(&f, "abc", 3, 0, NULL), REFINE_OK);
    cr_assert_neq(access(p.path, F_OK), 0);
    cr_assert_eq(new_file_commit(&f, NULL), REFINE_OK);
    expect_file_text(p.path, "abc");
    cr_assert_eq(temp_files_in(p.dir), 1);
    new_file_abandon(&f);
    expect_file_text(p.path, "abc");
    close_new_file_dir(&p);
}

Test(tools_new_file, abandoned_it_never_was)
{
    const temp_place p = temp_place_make("out");
    new_file f;
    cr_assert_eq(new_file_open(&f, p.path, NEW_FILE_ONLY, NULL), REFINE_OK);
    cr_assert_eq(new_file_write(&f, "abc", 3, 0, NULL), REFINE_OK);
    new_file_abandon(&f);
    new_file_abandon(&f);
    cr_assert_eq(temp_files_in(p.dir), 0);
    close_new_file_dir(&p);
}

/* As some file systems do: what stands in for one refuses what is no number. */
Test(tools_new_file, writes_on_where_direct_writes_are_refused)
{
    static _Alignas(NEW_FILE_ALIGN) char text[NEW_FILE_ALIGN + 1];
    const temp_place p = temp_place_make("out");
    new_file f;
    memset(text, 'x', NEW_FILE_ALIGN);
    cr_assert_eq(new_file_open(&f, p.path, NEW_FILE_ONLY, NULL), REFINE_OK);
    if (f.direct >= 0)
        (void)close(f.direct);
    f.direct = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    cr_assert(f.direct >= 0 && pwrite(f.direct, text, NEW_FILE_ALIGN, 0) < 0 && errno == EINVAL);
    cr_assert_eq(new_file_write(&f, text, NEW_FILE_ALIGN, 0, NULL), REFINE_OK);
    cr_assert_eq(new_file_commit(&f, NULL), REFINE_OK);
    expect_file_text(p.path, text);
    close_new_file_dir(&p);
}

Test(tools_new_file, replaces_only_when_told)
{
    const temp_place p = temp_place_make("out");
    refine_error err = { 0 };
    cr_assert_eq(write_new_text(p.path, false, "first", &err), REFINE_OK, "%s", err.text);
    cr_assert_eq(write_new_text(p.path, false, "second", &err), REFINE_EINVAL);
    cr_assert_not_null(strstr(err.text, "--force"), "%s", err.text);
    expect_file_text(p.path, "first");
    cr_assert_eq(write_new_text(p.path, true, "third", &err), REFINE_OK, "%s", err.text);
    expect_file_text(p.path, "third");
    close_new_file_dir(&p);
}

Test(tools_new_file, what_appears_meanwhile_is_kept)
{
    const temp_place p = temp_place_make("out");
    new_file f;
    refine_error err = { 0 };
    cr_assert_eq(new_file_open(&f, p.path, NEW_FILE_ONLY, NULL), REFINE_OK);
    temp_write(p.path, "theirs", 6);
    cr_assert_eq(new_file_write(&f, "ours", 4, 0, NULL), REFINE_OK);
    cr_assert_eq(new_file_commit(&f, &err), REFINE_EINVAL);
    expect_file_text(p.path, "theirs");
    expect_kept_file(&p, &err, "ours");
    close_new_file_dir(&p);
}

Test(tools_new_file, writes_out_of_order_to_files_only)
{
    const temp_place p = temp_place_make("out");
    new_file f;
    refine_error err = { 0 };
    char deeper[sizeof p.path + 8];
    cr_assert_eq(new_file_open(&f, p.dir, NEW_FILE_STREAM, &err), REFINE_EINVAL);
    cr_assert_eq(mkfifo(p.path, 0600), 0);
    cr_assert_eq(new_file_open(&f, p.path, NEW_FILE_REPLACE, &err), REFINE_EINVAL);
    (void)unlink(p.path);
    (void)snprintf(deeper, sizeof deeper, "%s/deeper", p.path);
    cr_assert_eq(new_file_open(&f, deeper, NEW_FILE_REPLACE, &err), REFINE_EIO);
    cr_assert_not_null(strstr(err.text, deeper), "%s", err.text);
    (void)snprintf(deeper, sizeof deeper, "%s/", p.path);
    cr_assert_eq(new_file_open(&f, deeper, NEW_FILE_REPLACE, &err), REFINE_EINVAL);
    close_new_file_dir(&p);
}

Test(tools_new_file, a_limit_on_sizes_is_an_error_and_leaves_nothing)
{
    static char block[8192];
    const temp_place p = temp_place_make("out");
    new_file f;
    refine_error err = { 0 };
    const struct rlimit limit = { 4096, 4096 };

    (void)signal(SIGXFSZ, SIG_IGN);
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    cr_assert_eq(new_file_open(&f, p.path, NEW_FILE_ONLY, NULL), REFINE_OK);
    cr_assert_eq(new_file_write(&f, block, sizeof block, 0, &err), REFINE_EIO);
    cr_assert_not_null(strstr(err.text, "ulimit"), "%s", err.text);
    new_file_abandon(&f);
    close_new_file_dir(&p);
}

Test(tools_new_file, survives_the_failure_of_any_allocation)
{
    const temp_place p = temp_place_make("out");
    new_file f;
    long k = 0;
    for (;; k++) {
        mem_fail_after(k, MEM_FAIL_ONCE);
        const refine_status st = new_file_open(&f, p.path, NEW_FILE_ONLY, NULL);
        mem_fail_after(-1, MEM_FAIL_ONCE);
        if (st == REFINE_OK)
            break;
        cr_assert_eq(st, REFINE_ENOMEM);
        cr_assert_eq(mem_used().now, 0u);
        cr_assert_eq(temp_files_in(p.dir), 0);
    }
    cr_assert_eq(k, 3);
    new_file_abandon(&f);
    close_new_file_dir(&p);
}

Test(tools_new_file, names_of_any_length_that_a_file_may_have)
{
    for (int i = 0; i < N_WAYS; i++) {
        const temp_place p = temp_place_make("x");
        char path[sizeof p.path + 300], name[300] = { 0 };
        refine_error err = { 0 };
        for (int n = 0; n + 2 <= 255; n += 2)
            memcpy(name + n, "\xc3\xa4", 2);
        name[254] = 'x';
        (void)snprintf(path, sizeof path, "%s/%s", p.dir, name);
        for (int k = 0; k < 2; k++) {
            cr_assert_eq(write_in_way(WAYS[i], path, NEW_FILE_REPLACE, "abc", &err), REFINE_OK,
                         "%s", err.text);
            expect_file_text(path, "abc");
        }
        (void)unlink(path);
        (void)snprintf(path, sizeof path, "%s/%sx", p.dir, name);
        cr_assert_eq(new_file_check(path, NEW_FILE_STREAM, &err), REFINE_EIO);
        cr_assert_not_null(strstr(err.text, p.dir), "%s", err.text);
        close_new_file_dir(&p);
    }
}

Test(tools_new_file, links_stay_and_what_they_lead_to_is_replaced)
{
    for (int i = 0; i < 2 * N_WAYS; i++) {
        const temp_place p = temp_place_make("target");
        char link[sizeof p.path + 8], second[sizeof p.path + 8];
        struct stat st;
        refine_error err = { 0 };
        (void)snprintf(link, sizeof link, "%s/link", p.dir);
        (void)snprintf(second, sizeof second, "%s/second", p.dir);
        cr_assert_eq(symlink("second", link), 0);
        cr_assert_eq(symlink(i < N_WAYS ? p.path : "target", second), 0);
        for (int k = 0; k < 2; k++) { /* to nothing, to a file */
            cr_assert_eq(write_in_way(WAYS[i % N_WAYS], link, NEW_FILE_STREAM, "abc", &err),
                         REFINE_OK, "%s", err.text);
            cr_assert(lstat(link, &st) == 0 && S_ISLNK(st.st_mode));
            cr_assert(lstat(p.path, &st) == 0 && S_ISREG(st.st_mode));
            expect_file_text(p.path, "abc");
        }
        (void)unlink(link);
        (void)unlink(second);
        cr_assert_eq(symlink("none/there", link), 0);
        cr_assert_eq(new_file_try(link, NEW_FILE_STREAM, &err), REFINE_EIO);
        (void)unlink(link);
        cr_assert_eq(symlink("link", link), 0);
        cr_assert_eq(new_file_try(link, NEW_FILE_STREAM, &err), REFINE_EIO);
        (void)unlink(link);
        close_new_file_dir(&p);
    }
}

Test(tools_new_file, what_is_replaced_gives_its_permissions_and_not_its_other_names)
{
    for (int i = 0; i < N_WAYS; i++) {
        const temp_place p = temp_place_make("out");
        char other[sizeof p.path + 8];
        struct stat st;
        refine_error err = { 0 };
        (void)snprintf(other, sizeof other, "%s/other", p.dir);
        temp_write(p.path, "old", 3);
        cr_assert_eq(chmod(p.path, 0640), 0);
        cr_assert_eq(link(p.path, other), 0);
        cr_assert_eq(write_in_way(WAYS[i], p.path, NEW_FILE_REPLACE, "new", &err), REFINE_OK);
        cr_assert(stat(p.path, &st) == 0 && (st.st_mode & 0777) == 0640, "%o", st.st_mode);
        expect_file_text(p.path, "new");
        expect_file_text(other, "old");
        (void)unlink(other);
        close_new_file_dir(&p);
    }
}

/* The umask holds for what is new. */
Test(tools_new_file, new_files_have_the_permissions_that_others_have)
{
    const mode_t before = umask(027);
    for (int i = 0; i < N_WAYS; i++) {
        const temp_place p = temp_place_make("out");
        struct stat st;
        refine_error err = { 0 };
        cr_assert_eq(write_in_way(WAYS[i], p.path, NEW_FILE_ONLY, "new", &err), REFINE_OK);
        cr_assert(stat(p.path, &st) == 0 && (st.st_mode & 0777) == 0640, "%o", st.st_mode);
        close_new_file_dir(&p);
    }
    (void)umask(before);
}

static void *read_fifo(void *path)
{
    static char text[8];
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    const size_t n = io_read(fd, text, sizeof text - 1);
    (void)close(fd);
    return n == 3 && strcmp(text, "abc") == 0 ? text : NULL;
}

/* The attempt does not open it: its reader would see it end. */
Test(tools_new_file, pipes_and_devices_are_written_as_they_are, .timeout = 20)
{
    const temp_place p = temp_place_make("fifo");
    pthread_t reader;
    void *got = NULL;
    refine_error err = { 0 };
    new_file f;
    cr_assert_eq(mkfifo(p.path, 0600), 0);
    cr_assert_eq(new_file_try(p.path, NEW_FILE_STREAM, &err), REFINE_OK, "%s", err.text);
    cr_assert_eq(pthread_create(&reader, NULL, read_fifo, (void *)(uintptr_t)p.path), 0);
    cr_assert_eq(new_file_open(&f, p.path, NEW_FILE_STREAM, &err), REFINE_OK, "%s", err.text);
    cr_assert_eq(new_file_write(&f, "c", 1, 2, NULL), REFINE_EIO);
    cr_assert_eq(new_file_write(&f, "ab", 2, 0, NULL), REFINE_OK);
    cr_assert_eq(new_file_write(&f, "c", 1, 2, NULL), REFINE_OK);
    cr_assert_eq(new_file_commit(&f, &err), REFINE_OK, "%s", err.text);
    cr_assert_eq(pthread_join(reader, &got), 0);
    cr_assert(got);
    cr_assert_eq(write_in_way(new_file_open, "/dev/null", NEW_FILE_STREAM, "abc", &err), REFINE_OK,
                 "%s", err.text);
    close_new_file_dir(&p);
}

Test(tools_new_file, an_open_file_is_written_through_its_number)
{
    const temp_place p = temp_place_make("out");
    char name[32], text[4] = { 0 };
    refine_error err = { 0 };
    const int fd = open(p.dir, O_TMPFILE | O_RDWR, 0600);
    if (fd < 0)
        cr_skip_test("SKIP there are no files without a name");
    (void)snprintf(name, sizeof name, "/dev/fd/%d", fd);
    for (int k = 0; k < 2; k++)
        cr_assert_eq(write_in_way(new_file_open, name, NEW_FILE_STREAM, "abc", &err), REFINE_OK,
                     "%s", err.text);
    cr_assert_eq(pread(fd, text, sizeof text, 0), 3);
    cr_assert_str_eq(text, "abc");
    (void)close(fd);
    close_new_file_dir(&p);
}

/* What takes the name meanwhile cannot be replaced by a file. */
Test(tools_new_file, what_cannot_have_its_name_is_kept_under_another)
{
    for (int i = 0; i < N_WAYS; i++) {
        const temp_place p = temp_place_make("out");
        refine_error err = { 0 };
        new_file f;
        cr_assert_eq(WAYS[i](&f, p.path, NEW_FILE_REPLACE, &err), REFINE_OK);
        cr_assert_eq(new_file_write(&f, "work", 4, 0, NULL), REFINE_OK);
        cr_assert_eq(mkdir(p.path, 0700), 0);
        cr_assert_eq(new_file_commit(&f, &err), REFINE_EIO);
        cr_assert_eq(new_file_try(p.path, NEW_FILE_REPLACE, NULL), REFINE_EINVAL);
        expect_kept_file(&p, &err, "work");
        (void)rmdir(p.path);
        close_new_file_dir(&p);
    }
}

/* What is there already stays there. */
Test(tools_new_file, what_is_not_on_the_medium_is_kept_under_another_name)
{
    static const struct {
        int error;
        const char *says;
    } CASES[] = {
        { EIO, "/out: cannot be written: Input/output error; what was made" },
        { ENOSPC, "/out: the disk is full" },
        { EDQUOT, "/out: the disk is full" },
        { EINVAL, "/out: cannot be written: Invalid argument; what was made" },
    };
    for (int i = 0; i < 2 * N_WAYS; i++)
        for (size_t k = 0; k < sizeof CASES / sizeof CASES[0]; k++) {
            const temp_place p = temp_place_make("out");
            refine_error err = { 0 };
            if (i >= N_WAYS)
                temp_write(p.path, "old", 3);
            fail_syncs(1, 1, CASES[k].error);
            cr_assert_eq(write_in_way(WAYS[i % N_WAYS], p.path, NEW_FILE_REPLACE, "work", &err),
                         REFINE_EIO);
            cr_assert_not_null(strstr(err.text, CASES[k].says), "%s", err.text);
            cr_assert_eq(access(p.path, F_OK) == 0, i >= N_WAYS);
            cr_assert_eq(new_file_try(p.path, NEW_FILE_REPLACE, NULL), REFINE_OK); /* spares it */
            expect_kept_file(&p, &err, "work");
            if (i >= N_WAYS)
                expect_file_text(p.path, "old");
            close_new_file_dir(&p);
        }
}

/* The name is there already: nothing more can be done. */
Test(tools_new_file, a_directory_that_is_not_on_the_medium_is_no_failure)
{
    const temp_place p = temp_place_make("out");
    refine_error err = { 0 };
    fail_syncs(2, 2, EIO);
    cr_assert_eq(write_in_way(new_file_open, p.path, NEW_FILE_ONLY, "abc", &err), REFINE_OK, "%s",
                 err.text);
    expect_file_text(p.path, "abc");
    close_new_file_dir(&p);
}

/* Of three writers one is killed: the next attempt removes what it left, and nothing else. */
Test(tools_new_file, what_killed_programs_left_is_removed)
{
    const temp_place p = temp_place_make("out");
    static const char *const OTHERS[] = { "out.part",  "out.12-3.whole", "out.12.part",
                                          "12-3.part", "out.-3.part",    "out.12-.part" };
    refine_error err = { 0 };
    new_file f;
    char name[sizeof p.path + 32];
    const pid_t child = fork();
    cr_assert_geq(child, 0);
    if (child == 0) {
        (void)new_file_open_named(&f, p.path, NEW_FILE_ONLY, NULL);
        (void)raise(SIGKILL);
    }
    cr_assert_eq(waitpid(child, NULL, 0), child);
    cr_assert_eq(temp_files_in(p.dir), 1);
    for (size_t i = 0; i < sizeof OTHERS / sizeof OTHERS[0]; i++) {
        (void)snprintf(name, sizeof name, "%s/%s", p.dir, OTHERS[i]);
        temp_write(name, "x", 1);
    }
    cr_assert_eq(new_file_open_named(&f, p.path, NEW_FILE_ONLY, &err), REFINE_OK);
    cr_assert_eq(temp_files_in(p.dir), 8);
    (void)snprintf(name, sizeof name, "%s/another", p.dir);
    cr_assert_eq(new_file_try(name, NEW_FILE_STREAM, &err), REFINE_OK, "%s", err.text);
    cr_assert_eq(temp_files_in(p.dir), 7);
    cr_assert_eq(new_file_write(&f, "abc", 3, 0, NULL), REFINE_OK);
    cr_assert_eq(new_file_commit(&f, &err), REFINE_OK, "%s", err.text);
    expect_file_text(p.path, "abc");
    for (size_t i = 0; i < sizeof OTHERS / sizeof OTHERS[0]; i++) {
        (void)snprintf(name, sizeof name, "%s/%s", p.dir, OTHERS[i]);
        cr_assert_eq(unlink(name), 0, "%s", name);
    }
    close_new_file_dir(&p);
}

static refine_status fill_three(new_file *f, const void *context, refine_error *err)
{
    return new_file_write(f, context, 3, 0, err);
}

Test(tools_new_file, what_cannot_be_written_is_saved_elsewhere)
{
    const temp_place p = temp_place_make("out"), elsewhere = temp_place_make("x");
    refine_error err = { 0 };
    cr_assert_eq(setenv("TMPDIR", elsewhere.dir, 1), 0);
    cr_assert_eq(new_file_save(p.path, fill_three, "abc", &err), REFINE_OK, "%s", err.text);
    expect_file_text(p.path, "abc");
    cr_assert_eq(new_file_save("/dev/full", fill_three, "abc", &err), REFINE_EIO);
    cr_assert_not_null(strstr(err.text, "/dev/full: the disk is full"), "%s", err.text);
    expect_kept_file(&elsewhere, &err, "abc");
    cr_assert_eq(new_file_save("/nowhere/out", fill_three, "abc", &err), REFINE_EIO);
    expect_kept_file(&elsewhere, &err, "abc");
    cr_assert_eq(setenv("TMPDIR", "/nowhere", 1), 0);
    cr_assert_eq(new_file_save("/dev/full", fill_three, "abc", &err), REFINE_EIO);
    cr_assert_null(strstr(err.text, "kept"), "%s", err.text);
    close_new_file_dir(&elsewhere);
    close_new_file_dir(&p);
}

/* What a save says while standard output is `fd`. */
static refine_status save_to_stdout(int fd, const char *text, refine_error *err)
{
    const int keep = dup(STDOUT_FILENO);
    cr_assert_eq(dup2(fd, STDOUT_FILENO), STDOUT_FILENO);
    const refine_status st = new_file_save("-", fill_three, text, err);
    (void)dup2(keep, STDOUT_FILENO);
    (void)close(keep);
    (void)close(fd);
    return st;
}

/* Behind what is there already; to a reader that has gone, nothing. */
Test(tools_new_file, standard_output_is_written_on_or_its_text_saved_elsewhere)
{
    const temp_place p = temp_place_make("out"), elsewhere = temp_place_make("x");
    refine_error err = { 0 };
    int pipe_of[2];
    cr_assert_eq(setenv("TMPDIR", elsewhere.dir, 1), 0);
    (void)signal(SIGPIPE, SIG_IGN);
    temp_write(p.path, "xyz", 3);
    cr_assert_eq(save_to_stdout(open(p.path, O_WRONLY | O_APPEND), "abc", &err), REFINE_OK, "%s",
                 err.text);
    expect_file_text(p.path, "xyzabc");
    cr_assert_eq(save_to_stdout(open("/dev/full", O_WRONLY), "abc", &err), REFINE_EIO);
    cr_assert_not_null(strstr(err.text, "standard output: the disk is full"), "%s", err.text);
    expect_kept_file(&elsewhere, &err, "abc");
    for (int k = 1; k <= 2; k++) { /* of standard output; there too */
        fail_syncs(1, k, EIO);
        cr_assert_eq(save_to_stdout(open(p.path, O_WRONLY), "abc", &err), REFINE_EIO);
        cr_assert_not_null(strstr(err.text, "standard output: cannot be written"), "%s", err.text);
        expect_kept_file(&elsewhere, &err, "abc");
    }
    cr_assert_eq(pipe(pipe_of), 0);
    (void)close(pipe_of[0]);
    cr_assert_eq(save_to_stdout(pipe_of[1], "abc", &err), REFINE_EIO);
    cr_assert_null(strstr(err.text, "kept"), "%s", err.text);
    close_new_file_dir(&elsewhere);
    close_new_file_dir(&p);
}
