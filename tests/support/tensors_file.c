/* tests/support/tensors_file.c -- a header and a hole. */
#define _POSIX_C_SOURCE 200809L
#include "tests/support/tensors_file.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void tensors_file_raw(const char *path, const char *header, size_t header_bytes,
                      uint64_t data_bytes)
{
    const uint64_t n = header_bytes;
    FILE *f = fopen(path, "wb");
    cr_assert_not_null(f);
    cr_assert_eq(fwrite(&n, 1, sizeof n, f), sizeof n);
    cr_assert_eq(fwrite(header, 1, header_bytes, f), header_bytes);
    cr_assert_eq(fclose(f), 0);
    cr_assert_eq(truncate(path, (off_t)(sizeof n + header_bytes + data_bytes)), 0);
}

static uint64_t count_dims_elements(const char *dims)
{
    uint64_t n = 1;
    for (char *end; *dims; dims = *end == ',' ? end + 1 : end)
        n *= strtoull(dims, &end, 10);
    return n;
}

void tensors_file_add(tensors_file *t, const char *name, const char *dtype, size_t bytes,
                      const char *dims)
{
    const uint64_t end = t->data + count_dims_elements(dims) * bytes;
    if (t->cap - t->len < 1024) {
        t->cap = 2 * t->cap + 4096;
        t->text = realloc(t->text, t->cap);
        cr_assert_not_null(t->text);
    }
    t->len += (size_t)snprintf(t->text + t->len, t->cap - t->len,
                               "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[%s],"
                               "\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}",
                               t->len ? "," : "{", name, dtype, dims, t->data, end);
    t->data = end;
}

void tensors_file_write(tensors_file *t, const char *path)
{
    cr_assert_not_null(t->text);
    t->text[t->len++] = '}';
    tensors_file_raw(path, t->text, t->len, t->data);
    free(t->text);
    *t = (tensors_file){ 0 };
}
