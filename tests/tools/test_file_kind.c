/* tests/tools/test_file_kind.c -- files by their first bytes, and links that lead nowhere. */
#define _XOPEN_SOURCE 700
#include "tests/support/temp_file.h"
#include "tools/files/file_kind.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

/* A ZIP archive's first 64 bytes, its first member of this name. */
#define ZIP(length, name)                                                                          \
    "PK\3\4\24\0\0\0\0\0\0\0!\0\0\0\0\0\0\0\0\0\0\0\0\0" length "\0\0\0" name "...."

Test(tools_file_kind, first_bytes_tell)
{
    static const struct {
        const char *head;
        size_t n;
        file_kind is;
    } FILES[] = {
        { "\20\0\0\0\0\0\0\0{\"", 10, FILE_SAFETENSORS },
        { "\20\0\0\0\0\1\0\0{\"", 10, FILE_OTHER },
        { "\x93NUMPY\1\0v\0{", 11, FILE_NPY },
        { ZIP("\7", "arr.npy"), 41, FILE_NPZ },
        { ZIP("\7", "arr.npy"), 36, FILE_ZIP },
        { ZIP("\7", "arr.npy"), 12, FILE_ZIP },
        { ZIP("\20", "archive/data.pkl"), 50, FILE_TORCH },
        { ZIP("\xff", "archive/data.pkl"), 50, FILE_TORCH },
        { ZIP("\22", "x/.format_version"), 50, FILE_TORCH },
        { ZIP("\7", "a/b.txt"), 41, FILE_ZIP },
        { "\x80\2\x8a\nl", 5, FILE_TORCH },
        { "\x80\6\x8a\nl", 5, FILE_OTHER },
        { "GGUF\3\0\0\0", 8, FILE_GGUF },
        { "\x89HDF\r\n\x1a\n", 8, FILE_HDF5 },
        { "RFNPACK\n", 8, FILE_PACK },
        { "version https://git-lfs.github.com/spec/v1", 42, FILE_LFS_POINTER },
        { "\x1f\x8b\10", 3, FILE_ARCHIVE },
        { "7z\xbc\xaf\x27\x1c", 6, FILE_ARCHIVE },
        { "<html>", 6, FILE_HTML },
        { "{\"a\": 1}", 8, FILE_JSON },
        { "\x89PNG\r\n\x1a\n", 8, FILE_IMAGE },
        { "\xff\xd8\xff\xfe\0\10ab{}", 10, FILE_IMAGE },
        { "", 0, FILE_OTHER },
        { "PK", 2, FILE_OTHER },
        { "words of any kind", 17, FILE_OTHER },
    };
    for (size_t i = 0; i < sizeof FILES / sizeof FILES[0]; i++)
        cr_expect_eq(file_kind_find((const unsigned char *)FILES[i].head, FILES[i].n), FILES[i].is,
                     "file %zu", i);
}

Test(tools_file_kind, a_link_to_nothing_is_called_so)
{
    char name[TEMP_NAME];
    refine_error err = { 0 };
    temp_file(name, ".link");
    (void)unlink(name);
    errno = ENOENT;
    cr_assert_eq(fail_to_open(name, &err), REFINE_EIO);
    cr_assert(strstr(err.text, "cannot be opened"), "%s", err.text);
    cr_assert_eq(symlink("../blobs/missing", name), 0);
    errno = ENOENT;
    cr_assert_eq(fail_to_open(name, &err), REFINE_EIO);
    cr_assert(strstr(err.text, name) && strstr(err.text, "points to nothing"), "%s", err.text);
    errno = EACCES;
    cr_assert_eq(fail_to_open(name, &err), REFINE_EIO);
    cr_assert(strstr(err.text, strerror(EACCES)), "%s", err.text);
    (void)unlink(name);
}
