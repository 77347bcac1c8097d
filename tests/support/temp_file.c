/* tests/support/temp_file.c -- small files under TMPDIR. */
#define _GNU_SOURCE /* mkstemps */
#include "tests/support/temp_file.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void temp_file(char name[TEMP_NAME], const char *suffix)
{
    const char *dir = getenv("TMPDIR");
    snprintf(name, TEMP_NAME, "%s/refine-test-XXXXXX%s", dir ? dir : "/tmp", suffix);
    const int fd = mkstemps(name, (int)strlen(suffix));
    cr_assert_geq(fd, 0);
    (void)close(fd);
}

void temp_write(const char *name, const void *data, size_t len)
{
    FILE *f = fopen(name, "wb");
    cr_assert_not_null(f);
    cr_assert_eq(fwrite(data, 1, len, f), len);
    cr_assert_eq(fclose(f), 0);
}

unsigned char *temp_read(const char *name, size_t *len)
{
    FILE *f = fopen(name, "rb");
    cr_assert_not_null(f);
    cr_assert_eq(fseek(f, 0, SEEK_END), 0);
    *len = (size_t)ftell(f);
    rewind(f);
    unsigned char *p = malloc(*len + 1);
    cr_assert_eq(fread(p, 1, *len, f), *len);
    (void)fclose(f);
    return p;
}

bool temp_remove_kept(const char *error)
{
    static const char KEPT[] = "kept as ";
    const char *name = strstr(error, KEPT);
    if (!name)
        return false;
    cr_assert_eq(unlink(name + sizeof KEPT - 1), 0, "%s", error);
    return true;
}
