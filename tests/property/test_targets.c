/* tests/property/test_targets.c -- where names lead, through links of any kind and number. */
#define _XOPEN_SOURCE 700
#include "tests/property/property.h"
#include "tests/support/temp_place.h"
#include "tools/files/file_target.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

/* Chains of links in two directories, each written from its directory or from the root, to a file
 * that is there or not; or back to its beginning. */
Property(links_lead_to_the_file_that_is_made)
{
    enum { LINKS = 45, LINKS_FOLLOWED = 40 };
    const temp_place place = temp_place_make("sub");
    char name[LINKS + 1][sizeof place.path + 16], text[sizeof place.path + 16];
    const int n = draw_integer(d, 1, LINKS);
    const bool there = draw_once_in(d, 2), circle = draw_once_in(d, 10);
    bool below[LINKS + 1];
    file_target t;

    cr_assert_eq(mkdir(place.path, 0700), 0);
    for (int i = 0; i <= n; i++) {
        below[i] = draw_once_in(d, 2);
        (void)snprintf(name[i], sizeof name[i], "%s%s/%d", place.dir, below[i] ? "/sub" : "", i);
    }
    for (int i = 0; i < n; i++) {
        const int to = circle && i == n - 1 ? 0 : i + 1;
        if (draw_once_in(d, 2))
            (void)snprintf(text, sizeof text, "%s", name[to]);
        else
            (void)snprintf(text, sizeof text, "%s%s%d", below[i] ? "../" : "",
                           below[to] ? "sub/" : "", to);
        cr_assert_eq(symlink(text, name[i]), 0);
    }
    if (there)
        temp_write(name[n], "x", 1);
    describe_case(d, "%d links%s to %s", n, circle ? " in a circle" : "",
                  there ? "a file" : "none");
    const bool found = file_target_find(&t, name[0]);
    if (found != (!circle && n <= LINKS_FOLLOWED))
        fail_case(d, found ? "found" : "not found");
    if (found) {
        struct stat a, b;
        if (t.exists != (there && !circle) || t.as_it_is)
            fail_case(d, "taken for what it is not");
        const int fd = open(t.path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
        (void)close(fd);
        if (lstat(t.path, &a) != 0 || lstat(name[n], &b) != 0 || a.st_ino != b.st_ino)
            fail_case(d, "%s is not %s", t.path, name[n]);
        file_target_free(&t);
    }
    for (int i = 0; i <= n; i++)
        (void)unlink(name[i]);
    cr_assert(rmdir(place.path) == 0 && rmdir(place.dir) == 0);
}
