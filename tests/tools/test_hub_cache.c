/* tests/tools/test_hub_cache.c -- from a model's directory in the hub's cache to its files. */
#define _XOPEN_SOURCE 700
#include "tools/source/hub_cache.h"

#include "tests/support/temp_file.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* `snapshots`: directories; `reference`: what refs/main says, or NULL. */
static void make_hub_dir(char dir[TEMP_NAME], const char *snapshots, const char *reference)
{
    char text[4 * TEMP_NAME];
    temp_file(dir, ".dir");
    (void)unlink(dir);
    (void)snprintf(text, sizeof text,
                   "mkdir -p '%s/refs' '%s/snapshots' && cd '%s/snapshots' && mkdir -p %s . ", dir,
                   dir, dir, snapshots);
    cr_assert_eq(system(text), 0);
    (void)snprintf(text, sizeof text, "%s/refs/main", dir);
    if (reference)
        temp_write(text, reference, strlen(reference));
}

static void remove_hub_dir(const char *dir)
{
    char command[2 * TEMP_NAME];
    (void)snprintf(command, sizeof command, "rm -rf '%s'", dir);
    cr_assert_eq(system(command), 0);
}

Test(tools_hub_cache, the_snapshot_of_main_or_the_only_one_is_found)
{
    static const struct {
        const char *snapshots, *reference, *found; /* NULL: refused */
        const char *because;
    } CASES[] = {
        { "aaa bbb", "bbb", "/snapshots/bbb", NULL },
        { "aaa bbb", "bbb\n", "/snapshots/bbb", NULL },
        { "aaa", "bbb", "/snapshots/aaa", NULL },
        { "aaa", NULL, "/snapshots/aaa", NULL },
        { "aaa", "", "/snapshots/aaa", NULL },
        { "aaa", "aaa/../../refs", "/snapshots/aaa", NULL },
        { "aaa bbb", "..", NULL, "several snapshots: give one of them, such as " },
        { "bbb aaa", NULL, NULL, "/snapshots/aaa" },
        { "", "aaa", NULL, "holds no snapshot: the download is not finished" },
    };
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        char dir[TEMP_NAME], found[HUB_PATH];
        refine_error err = { 0 };
        make_hub_dir(dir, CASES[i].snapshots, CASES[i].reference);
        const refine_status st = hub_find_snapshot(found, dir, &err);
        cr_assert_eq(st, CASES[i].found ? REFINE_OK : REFINE_EFORMAT, "case %zu: %s", i, err.text);
        if (CASES[i].found)
            cr_expect_str_eq(found + strlen(dir), CASES[i].found, "case %zu", i);
        else
            cr_expect(strstr(err.text, CASES[i].because), "case %zu: %s", i, err.text);
        remove_hub_dir(dir);
    }
}

Test(tools_hub_cache, any_other_path_is_itself)
{
    char found[HUB_PATH], longest[HUB_PATH + 1];
    cr_assert_eq(hub_find_snapshot(found, "/usr", NULL), REFINE_OK);
    cr_expect_str_eq(found, "/usr");
    cr_assert_eq(hub_find_snapshot(found, "no/such file", NULL), REFINE_OK);
    cr_expect_str_eq(found, "no/such file");
    memset(longest, 'a', HUB_PATH);
    longest[HUB_PATH] = 0;
    cr_assert_eq(hub_find_snapshot(found, longest, NULL), REFINE_EFORMAT);
}
