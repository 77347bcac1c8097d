/* tools/files/json_file.c -- a small JSON file, whole. */
#define _XOPEN_SOURCE 700
#include "tools/files/json_file.h"

#include "engine/base/io.h"
#include "engine/base/mem.h"
#include "engine/base/try.h"
#include "tools/files/file_kind.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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

static refine_status read_json_text(char **out, size_t *len, int fd, const char *path, size_t most,
                                    refine_error *err)
{
    struct stat s;
    if (fstat(fd, &s) != 0)
        return refine_fail(err, REFINE_EIO, "%s: cannot be opened: %s", path, strerror(errno));
    if (!S_ISREG(s.st_mode))
        return refine_fail(err, REFINE_EFORMAT, "%s: is no JSON file", path);
    if (io_read_whole(out, len, fd, most))
        return REFINE_OK;
    switch (errno) {
    case EFBIG: return refine_fail(err, REFINE_EFORMAT, "%s: is no JSON file", path);
    case ENOMEM: return refine_fail(err, REFINE_ENOMEM, "out of memory");
    default: return refine_fail(err, REFINE_EIO, "%s: cannot be read: %s", path, strerror(errno));
    }
}

/* O_NONBLOCK: opening a pipe that nobody writes to must not wait. */
refine_status json_file_text(char **out, size_t *len, const char *path, size_t most,
                             refine_error *err)
{
    *out = NULL;
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return fail_to_open(path, err);
    const refine_status st = read_json_text(out, len, fd, path, most, err);
    (void)close(fd);
    return st;
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
