/* tests/fuzz/fuzz_npy.c -- hostile NumPy files.
 *
 * The first bytes are made those of a NumPy file, so that no input is spent on another format.
 */
#define _GNU_SOURCE /* memfd_create */
#include "tests/fuzz/check_latents.h"
#include "tests/fuzz/memory_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t MAGIC[] = "\x93NUMPY";
    const size_t n_magic = sizeof MAGIC - 1;
    char name[MEMORY_FILE_NAME];
    const int fd = memory_file(name, data, size);
    if (fd < 0)
        return 0;
    if (size >= n_magic && pwrite(fd, MAGIC, n_magic, 0) == (ssize_t)n_magic)
        check_latents(name);
    (void)close(fd);
    return 0;
}
