/* tests/support/temp_place.c -- an empty directory under TMPDIR. */
#define _XOPEN_SOURCE 700
#include "tests/support/temp_place.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

temp_place temp_place_make(const char *file)
{
    temp_place p;
    temp_file(p.dir, ".dir");
    (void)unlink(p.dir);
    cr_assert_eq(mkdir(p.dir, 0700), 0);
    (void)snprintf(p.path, sizeof p.path, "%s/%s", p.dir, file);
    return p;
}

int temp_files_in(const char *dir)
{
    DIR *d = opendir(dir);
    int n = 0;
    cr_assert_not_null(d);
    for (const struct dirent *e; (e = readdir(d));)
        n += e->d_name[0] != '.';
    (void)closedir(d);
    return n;
}
