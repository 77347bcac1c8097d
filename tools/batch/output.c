/* tools/batch/output.c -- parameters as texts, written and compared. */
#include "tools/batch/output.h"

#include "tools/files/job_pairs.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

enum { VALUES = 12 + JOB_PAIRS, LEN = 64, TEXTS_MAX = 24 + JOB_PAIRS };

typedef struct texts {
    char v[VALUES][LEN];
    image_text t[TEXTS_MAX];
    int n;
} texts;

static void add_image_text(texts *x, const char *key, const char *value)
{
    assert(x->n < TEXTS_MAX);
    x->t[x->n++] = (image_text){ key, value };
}

/* What few images have: the others must not, to be taken for the same. */
static void add_rare_text(texts *x, const char *key, const char *value)
{
    add_image_text(x, key, value ? value : IMAGE_TEXT_ABSENT);
}

static void describe_model(char text[LEN], const refine_report *r)
{
    snprintf(text, LEN, "%s, source %016llx", r->precision, (unsigned long long)r->source_hash);
}

/* Of two models: where the second took over, or how much of the schedule it went through again. */
static void add_base_texts(texts *x, const refine_job *j, const refine_report *base)
{
    const bool stages = j->handoff == 0;
    snprintf(x->v[9], LEN, "%g", stages ? j->strength : j->handoff);
    if (base)
        describe_model(x->v[8], base);
    add_rare_text(x, "base_model", base ? x->v[8] : NULL);
    add_rare_text(x, "handoff", base && !stages ? x->v[9] : NULL);
    add_rare_text(x, "second_stage_strength", base && stages ? x->v[9] : NULL);
    add_rare_text(x, "via_pixels", base && j->via_pixels ? "yes" : NULL);
}

/* What part of the schedule was run, on what. */
static void add_flow_texts(texts *x, const refine_job *j)
{
    snprintf(x->v[3], LEN, "%g", j->denoising_start > 0 ? j->denoising_start : j->strength);
    if (!j->rgb_in && !j->latents_in)
        add_image_text(x, "flow", "text to image");
    else
        add_image_text(x, j->denoising_start > 0 ? "denoising_start" : "strength", x->v[3]);
    snprintf(x->v[7], LEN, "%g", j->denoising_end);
    add_rare_text(x, "denoising_end", j->denoising_end > 0 ? x->v[7] : NULL);
}

/* Sizes and crops that the model was told of. */
static void add_pair_texts(texts *x, const refine_job *j)
{
    job_pair pairs[JOB_PAIRS];
    list_job_pairs(pairs, j);
    for (int i = 0; i < JOB_PAIRS; i++) {
        const job_pair *p = &pairs[i];
        snprintf(x->v[12 + i], LEN, "%d%c%d", p->first, p->between, p->second);
        add_rare_text(x, p->name, has_job_pair(p) ? x->v[12 + i] : NULL);
    }
}

static void fill_image_texts(texts *x, const refine_job *j, const refine_report *r)
{
    snprintf(x->v[0], LEN, "refine-lowmem %s", refine_version());
    snprintf(x->v[1], LEN, "%llu", (unsigned long long)j->seed);
    snprintf(x->v[2], LEN, "%d", j->steps);
    snprintf(x->v[4], LEN, "%g", (double)j->guidance);
    snprintf(x->v[5], LEN, "%g, %g", (double)j->aesthetic_score,
             (double)j->negative_aesthetic_score);
    describe_model(x->v[6], r);
    x->n = 0;
    add_image_text(x, "Software", x->v[0]);
    add_image_text(x, "prompt", j->prompt ? j->prompt : "");
    add_image_text(x, "negative_prompt", j->negative ? j->negative : "");
    add_rare_text(x, "negative_prompt_empty", j->negative && !*j->negative ? "yes" : NULL);
    add_rare_text(x, "prompt_2", j->prompt_2);
    add_rare_text(x, "negative_prompt_2", j->negative_2);
    snprintf(x->v[10], LEN, "%d", j->clip_skip);
    add_rare_text(x, "clip_skip", j->clip_skip > 0 ? x->v[10] : NULL);
    add_image_text(x, "seed", x->v[1]);
    add_image_text(x, "steps", x->v[2]);
    add_flow_texts(x, j);
    add_base_texts(x, j, r->base);
    add_image_text(x, "guidance", x->v[4]);
    add_image_text(x, "aesthetic_scores", x->v[5]);
    add_pair_texts(x, j);
    add_image_text(x, "rng", j->rng == REFINE_RNG_PHILOX ? "philox" : "torch");
    add_image_text(x, "scheduler", r->sampler);
    add_image_text(x, "model", x->v[6]);
}

/* White is what an image is read on unless another colour is asked for. */
static void add_background_text(texts *x, const refine_job *j, const uint8_t rgb[3])
{
    const bool is_white = rgb[0] == 255 && rgb[1] == 255 && rgb[2] == 255;
    snprintf(x->v[11], LEN, "#%02x%02x%02x", rgb[0], rgb[1], rgb[2]);
    add_rare_text(x, "background", j->rgb_in && !is_white ? x->v[11] : NULL);
}

static void drop_absent_texts(texts *x)
{
    int n = 0;
    for (int i = 0; i < x->n; i++)
        if (x->t[i].value != IMAGE_TEXT_ABSENT)
            x->t[n++] = x->t[i];
    x->n = n;
}

refine_status output_save(const char *path, const image *im, const refine_job *j,
                          const uint8_t background[3], const refine_report *r, refine_error *err)
{
    texts x;
    fill_image_texts(&x, j, r);
    add_background_text(&x, j, background);
    drop_absent_texts(&x);
    return image_save(path, im, x.t, x.n, err);
}

bool output_is_done(const char *path, const refine_job *j, const uint8_t background[3],
                    const refine_report *r, bool seeded)
{
    texts x;
    fill_image_texts(&x, j, r);
    add_background_text(&x, j, background);
    for (int i = 0; i < x.n && !seeded; i++)
        if (strcmp(x.t[i].key, "seed") == 0)
            x.t[i].value = NULL;
    return image_has_texts(path, x.t, x.n);
}
