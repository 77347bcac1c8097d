/* tests/support/tiny_pack.c -- runs refine-pack. */
#define _GNU_SOURCE /* mkstemp */
#include "tests/support/tiny_pack.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

void tiny_pack(char *path, size_t size, const char *options)
{
    const char *bin = getenv("REFINE_BIN"), *tmp = getenv("TMPDIR");
    char command[1024];

    snprintf(path, size, "%s/refine-tiny-XXXXXX", tmp ? tmp : "/tmp");
    const int fd = mkstemp(path);
    cr_assert_geq(fd, 0);
    (void)close(fd);
    snprintf(command, sizeof command,
             "'%s/refine-pack' synthetic:tiny --force --tokenizer docs/sample/demo_merges.txt "
             "-o '%s' %s >/dev/null 2>&1",
             bin ? bin : "build/release/bin", path, options);
    cr_assert_eq(system(command), 0, "%s", command);
}
