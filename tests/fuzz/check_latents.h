/* tests/fuzz/check_latents.h -- a file of latents gives finite numbers, or a refusal. */
#ifndef CHECK_LATENTS_H
#define CHECK_LATENTS_H

#include "engine/base/mem.h"
#include "tools/files/latents_io.h"

#include <assert.h>
#include <math.h>

static inline void check_latents(const char *name)
{
    latents l;
    refine_error err = { 0 };
    const refine_status st = latents_load(&l, name, 0.13025f, &err);
    if (st == REFINE_OK) {
        assert(l.h >= 1 && l.h <= LATENTS_MAX_SIDE && l.w >= 1 && l.w <= LATENTS_MAX_SIDE);
        for (size_t i = 0; i < LATENT_CHANNELS * (size_t)l.h * (size_t)l.w; i++)
            assert(isfinite(l.v[i]));
    } else {
        assert(!l.v && err.status == st && err.text[0] != '\0');
    }
    latents_free(&l);
    assert(mem_used().now == 0);
}

#endif
