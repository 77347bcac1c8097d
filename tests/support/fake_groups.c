/* tests/support/fake_groups.c -- files of a few bytes, by their paths. */
#define _XOPEN_SOURCE 700
#include "tests/support/fake_groups.h"

#include <criterion/criterion.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

void fake_groups_write(const temp_place *p, const char *name, const char *text)
{
    char path[1024];
    (void)snprintf(path, sizeof path, "%s/%s", p->dir, name);
    for (char *slash = path + strlen(p->dir) + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = '\0';
        (void)mkdir(path, 0700);
        *slash = '/';
    }
    temp_write(path, text, strlen(text));
}

static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)st;
    (void)kind;
    (void)at;
    return remove(path);
}

void fake_groups_remove(const temp_place *p)
{
    cr_assert_eq(nftw(p->dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS), 0);
}
