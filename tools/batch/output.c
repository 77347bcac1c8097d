/* tools/batch/output.c -- parameters as texts, written and compared. */
#include "tools/batch/output.h"

#include <stdio.h>
#include <string.h>

enum { VALUES = 7, LEN = 64, TEXTS = 11 };

typedef struct texts {
    char v[VALUES][LEN];
    image_text t[TEXTS];
} texts;

static void fill_image_texts(texts *x, const refine_job *j, const refine_report *r)
{
    const bool partly = j->denoising_start > 0;
    snprintf(x->v[0], LEN, "refine-lowmem %s", refine_version());
    snprintf(x->v[1], LEN, "%llu", (unsigned long long)j->seed);
    snprintf(x->v[2], LEN, "%d", j->steps);
    snprintf(x->v[3], LEN, "%g", partly ? j->denoising_start : j->strength);
    snprintf(x->v[4], LEN, "%g", (double)j->guidance);
    snprintf(x->v[5], LEN, "%g, %g", (double)j->aesthetic_score,
             (double)j->negative_aesthetic_score);
    snprintf(x->v[6], LEN, "%s, source %016llx", r->precision, (unsigned long long)r->source_hash);
    const image_text t[TEXTS] = {
        { "Software", x->v[0] },
        { "prompt", j->prompt ? j->prompt : "" },
        { "negative_prompt", j->negative ? j->negative : "" },
        { "seed", x->v[1] },
        { "steps", x->v[2] },
        { partly ? "denoising_start" : "strength", x->v[3] },
        { "guidance", x->v[4] },
        { "aesthetic_scores", x->v[5] },
        { "rng", j->rng == REFINE_RNG_PHILOX ? "philox" : "torch" },
        { "scheduler", "euler" },
        { "model", x->v[6] },
    };
    memcpy(x->t, t, sizeof t);
}

refine_status output_save(const char *path, const image *im, const refine_job *j,
                          const refine_report *r, refine_error *err)
{
    texts x;
    fill_image_texts(&x, j, r);
    return image_save_png(path, im, x.t, TEXTS, err);
}

bool output_is_done(const char *path, const refine_job *j, const refine_report *r, bool seeded)
{
    texts x;
    fill_image_texts(&x, j, r);
    for (int i = 0; i < TEXTS && !seeded; i++)
        if (strcmp(x.t[i].key, "seed") == 0)
            x.t[i].value = NULL;
    return image_png_has(path, x.t, TEXTS);
}
