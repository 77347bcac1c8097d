/* tests/fuzz/fuzz_latents.c -- hostile latents of any format: finite numbers, or a refusal. */
#define _GNU_SOURCE /* memfd_create */
#include "engine/base/mem.h"
#include "tests/fuzz/memory_file.h"
#include "tools/latents_io.h"

#include <assert.h>
#include <math.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const char *name)
{
    latents l;
    refine_error err = { 0 };
    const refine_status st = latents_load(&l, name, 0.13025f, &err);
    if (st == REFINE_OK) {
        assert(l.h >= 1 && l.h <= LATENTS_MAX_SIDE && l.w >= 1 && l.w <= LATENTS_MAX_SIDE);
        for (size_t i = 0; i < LATENTS_CHANNELS * (size_t)l.h * (size_t)l.w; i++)
            assert(isfinite(l.v[i]));
    } else {
        assert(!l.v && err.status == st && err.text[0] != '\0');
    }
    latents_free(&l);
    assert(mem_used().now == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char name[MEMORY_FILE_NAME];
    const int fd = memory_file(name, data, size);
    if (fd < 0)
        return 0;
    (void)latents_recognise(name);
    check(name);
    (void)close(fd);
    return 0;
}
