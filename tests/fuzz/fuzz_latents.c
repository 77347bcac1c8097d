/* tests/fuzz/fuzz_latents.c -- hostile latents of any format: finite numbers, or a refusal. */
#define _GNU_SOURCE /* memfd_create */
#include "tests/fuzz/check_latents.h"
#include "tests/fuzz/memory_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char name[MEMORY_FILE_NAME];
    const int fd = memory_file(name, data, size);
    if (fd < 0)
        return 0;
    (void)latents_recognise(name);
    check_latents(name);
    (void)close(fd);
    return 0;
}
