/* tools/files/file_kind.c -- magic numbers; of a ZIP archive the name of its first member. */
#define _XOPEN_SOURCE 700
#include "tools/files/file_kind.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static const struct {
    const char *begin;
    size_t bytes;
    file_kind is;
} MAGIC[] = {
    { "\x93NUMPY", 6, FILE_NPY },
    { "GGUF", 4, FILE_GGUF },
    { "\x89HDF\r\n", 6, FILE_HDF5 },
    { "RFNPACK\n", 8, FILE_PACK },
    { "version https://git-lfs", 23, FILE_LFS_POINTER },
    { "\x1f\x8b", 2, FILE_ARCHIVE },
    { "7z\xbc\xaf\x27\x1c", 6, FILE_ARCHIVE },
    { "Rar!\x1a", 5, FILE_ARCHIVE },
    { "\x28\xb5\x2f\xfd", 4, FILE_ARCHIVE },
    { "\xfd"
      "7zXZ",
      5, FILE_ARCHIVE },
    { "\x89PNG\r\n", 6, FILE_IMAGE },
    { "\xff\xd8\xff", 3, FILE_IMAGE },
    { "RIFF", 4, FILE_IMAGE },
    { "<", 1, FILE_HTML },
    { "{", 1, FILE_JSON },
};

/* A header is less than 4 GB; without that a JPEG whose comment holds a brace would do. */
static bool begins_safetensors(const unsigned char *head, size_t n)
{
    return n > 8 && head[8] == '{' && memcmp(head + 4, "\0\0\0", 4) == 0;
}

/* Does the name of an archive's first member hold these words? */
static bool member_has(const unsigned char *name, size_t n, const char *words)
{
    const size_t len = strlen(words);
    for (size_t i = 0; i + len <= n; i++)
        if (memcmp(name + i, words, len) == 0)
            return true;
    return false;
}

/* signature, version .. sizes | u16 bytes of the name | u16 bytes of what follows it | name */
static file_kind kind_of_zip(const unsigned char *head, size_t n)
{
    enum { NAME_BYTES = 26, NAME = 30 };
    if (n < NAME)
        return FILE_ZIP;
    const size_t all = (size_t)head[NAME_BYTES] | (size_t)head[NAME_BYTES + 1] << 8;
    const size_t len = all < n - NAME ? all : n - NAME;
    const unsigned char *name = head + NAME;
    if (len >= 4 && memcmp(name + len - 4, ".npy", 4) == 0)
        return FILE_NPZ;
    /* What torch.save writes first has been each of these. */
    if (member_has(name, len, "/data.pkl") || member_has(name, len, "/version") ||
        member_has(name, len, "/.format_version") || member_has(name, len, "/byteorder"))
        return FILE_TORCH;
    return FILE_ZIP;
}

file_kind file_kind_find(const unsigned char *head, size_t n)
{
    if (begins_safetensors(head, n))
        return FILE_SAFETENSORS;
    if (n >= 4 && memcmp(head, "PK\3\4", 4) == 0)
        return kind_of_zip(head, n);
    if (n >= 2 && head[0] == 0x80 && head[1] >= 2 && head[1] <= 5)
        return FILE_TORCH;
    for (size_t i = 0; i < sizeof MAGIC / sizeof MAGIC[0]; i++)
        if (n >= MAGIC[i].bytes && memcmp(head, MAGIC[i].begin, MAGIC[i].bytes) == 0)
            return MAGIC[i].is;
    return FILE_OTHER;
}

refine_status fail_to_open(const char *path, refine_error *err)
{
    const int why = errno;
    struct stat s;
    if (why == ENOENT && lstat(path, &s) == 0 && S_ISLNK(s.st_mode))
        return refine_fail(err, REFINE_EIO,
                           "%s: the link points to nothing: a download that is not finished, or "
                           "whose files were moved; download it again",
                           path);
    return refine_fail(err, REFINE_EIO, "%s: cannot be opened: %s", path, strerror(why));
}
