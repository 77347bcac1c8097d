/* tests/tools/test_new_file.c -- the whole file under its name, or nothing. */
#define _XOPEN_SOURCE 700
#include "engine/base/mem.h"
#include "tests/support/temp_place.h"
#include "tools/files/new_file.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
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
    const refine_status st = new_file_open(&f, path, replace, err);
    if (st != REFINE_OK)
        return st;
    cr_assert_eq(new_file_write(&f, text + 2, strlen(text) - 2, 2, NULL), REFINE_OK);
    cr_assert_eq(new_file_write(&f, text, 2, 0, NULL), REFINE_OK);
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
    cr_assert_eq(new_file_open(&f, p.path, false, NULL), REFINE_OK);
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
    cr_assert_eq(new_file_open(&f, p.path, false, NULL), REFINE_OK);
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
    cr_assert_eq(new_file_open(&f, p.path, false, NULL), REFINE_OK);
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
    cr_assert_eq(new_file_open(&f, p.path, false, NULL), REFINE_OK);
    temp_write(p.path, "theirs", 6);
    cr_assert_eq(new_file_commit(&f, &err), REFINE_EINVAL);
    expect_file_text(p.path, "theirs");
    cr_assert_eq(temp_files_in(p.dir), 1);
    close_new_file_dir(&p);
}

Test(tools_new_file, writes_to_files_only)
{
    const temp_place p = temp_place_make("out");
    new_file f;
    refine_error err = { 0 };
    char deeper[sizeof p.path + 8];
    cr_assert_eq(new_file_open(&f, p.dir, true, &err), REFINE_EINVAL);
    cr_assert_eq(mkfifo(p.path, 0600), 0);
    cr_assert_eq(new_file_open(&f, p.path, true, &err), REFINE_EINVAL);
    (void)unlink(p.path);
    cr_assert_eq(symlink("nowhere", p.path), 0);
    cr_assert_eq(new_file_open(&f, p.path, true, &err), REFINE_EINVAL);
    (void)unlink(p.path);
    (void)snprintf(deeper, sizeof deeper, "%s/deeper", p.path);
    cr_assert_eq(new_file_open(&f, deeper, true, &err), REFINE_EIO);
    cr_assert_not_null(strstr(err.text, deeper), "%s", err.text);
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
    cr_assert_eq(new_file_open(&f, p.path, false, NULL), REFINE_OK);
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
        const refine_status st = new_file_open(&f, p.path, false, NULL);
        mem_fail_after(-1, MEM_FAIL_ONCE);
        if (st == REFINE_OK)
            break;
        cr_assert_eq(st, REFINE_ENOMEM);
        cr_assert_eq(mem_used().now, 0u);
        cr_assert_eq(temp_files_in(p.dir), 0);
    }
    cr_assert_eq(k, 2);
    new_file_abandon(&f);
    close_new_file_dir(&p);
}
