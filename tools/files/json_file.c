/* tools/files/json_file.c -- a small JSON file, whole. */
#define _XOPEN_SOURCE 700
#include "tools/files/json_file.h"

#include "engine/base/mem.h"
#include "engine/base/try.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static refine_status read_json_bytes(int fd, char *dst, size_t bytes, const char *path,
                                     refine_error *err)
{
    size_t at = 0;
    while (at < bytes) {
        const ssize_t n = read(fd, dst + at, bytes - at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return refine_fail(err, REFINE_EIO, "%s: cannot be read: %s", path,
                               n == 0 ? "it became shorter" : strerror(errno));
        at += (size_t)n;
    }
    return REFINE_OK;
}

static refine_status parse_json_object(json_t **out, const char *text, size_t len, const char *path,
                                       refine_error *err)
{
    json_error_t where;
    json_t *root = json_loadb(text, len, 0, &where);
    if (!root && json_error_code(&where) == json_error_out_of_memory)
        return refine_fail(err, REFINE_ENOMEM, "out of memory");
    if (!root)
        return refine_fail(err, REFINE_EFORMAT, "%s: line %d: %s", path, where.line, where.text);
    if (!json_is_object(root)) {
        json_decref(root);
        return refine_fail(err, REFINE_EFORMAT, "%s: is no JSON object", path);
    }
    *out = root;
    return REFINE_OK;
}

refine_status json_file_text(char **out, size_t *len, const char *path, size_t most,
                             refine_error *err)
{
    struct stat s;
    refine_status st;

    *out = NULL;
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &s) != 0) {
        st = refine_fail(err, REFINE_EIO, "%s: cannot be opened: %s", path, strerror(errno));
        if (fd >= 0)
            (void)close(fd);
        return st;
    }
    char *text = NULL;
    if (!S_ISREG(s.st_mode) || (uint64_t)s.st_size > most)
        st = refine_fail(err, REFINE_EFORMAT, "%s: is no JSON file", path);
    else if (!(text = mem_alloc((size_t)s.st_size + 1)))
        st = refine_fail(err, REFINE_ENOMEM, "out of memory");
    else
        st = read_json_bytes(fd, text, (size_t)s.st_size, path, err);
    (void)close(fd);
    if (st != REFINE_OK) {
        mem_free(text);
        return st;
    }
    *out = text;
    *len = (size_t)s.st_size;
    return REFINE_OK;
}

refine_status json_file_load(json_t **out, const char *path, refine_error *err)
{
    char *text;
    size_t len = 0;
    *out = NULL;
    TRY(json_file_text(&text, &len, path, JSON_FILE_MAX, err));
    const refine_status st = parse_json_object(out, text, len, path, err);
    mem_free(text);
    return st;
}
