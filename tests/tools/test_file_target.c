/* tests/tools/test_file_target.c -- what a name stands for: files, links in any chain, devices. */
#define _XOPEN_SOURCE 700
#include "tools/files/file_target.h"

#include "engine/base/mem.h"

#include <criterion/criterion.h>
#include <errno.h>

Test(tools_file_target, splits_a_path)
{
    static const char *const CASES[][3] = {
        { "a", ".", "a" }, { "/a", "/", "a" },  { "a/b", "a", "b" },   { "/a/b", "/a", "b" },
        { "a/", "a", "" }, { "./a", ".", "a" }, { "a//b", "a/", "b" }, { "../a", "..", "a" },
    };
    char dir[8];
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        cr_expect(file_directory(dir, sizeof dir, CASES[i][0]));
        cr_expect_str_eq(dir, CASES[i][1]);
        cr_expect_str_eq(file_base(CASES[i][0]), CASES[i][2]);
    }
    cr_expect_not(file_directory(dir, sizeof dir, "12345678/x"));
    cr_expect(file_directory(dir, sizeof dir, "1234567/x"));
}

Test(tools_file_target, devices_are_written_as_they_are)
{
    file_target t;
    cr_assert(file_target_find(&t, "/dev/null"));
    cr_expect(t.exists && t.as_it_is);
    cr_expect_str_eq(t.path, "/dev/null");
    file_target_free(&t);
    cr_expect_not(file_target_find(&t, "/"));
    cr_expect_eq(errno, EISDIR);
    cr_expect_eq(mem_used().now, 0u);
}
