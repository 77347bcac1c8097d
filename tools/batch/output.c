/* tools/batch/output.c -- parameters as texts, written and compared. */
#include "tools/batch/output.h"

#include "tools/files/decimals.h"
#include "tools/files/job_pairs.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* No other program writes it. */
static const char OWN_KEY[] = "aesthetic_scores";

enum { TEXTS_MAX = 29 + JOB_PAIRS, LEN = 64 };

typedef struct texts {
    image_text t[TEXTS_MAX];
    char made[TEXTS_MAX][LEN]; /* values that are nobody else's */
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

/* Rare where it is not there. */
__attribute__((format(printf, 4, 5))) static void format_text(texts *x, bool there, const char *key,
                                                              const char *fmt, ...)
{
    char *value = x->made[x->n];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(value, LEN, fmt, ap);
    va_end(ap);
    add_rare_text(x, key, there ? value : NULL);
}

/* Every bit counts: 0.29999999 of ten steps are two. */
static void add_real_text(texts *x, bool there, const char *key, double v)
{
    char number[DECIMALS_MAX];
    format_text(x, there, key, "%s", format_exact_double(number, v));
}

static void add_float_texts(texts *x, const refine_job *j)
{
    char one[DECIMALS_MAX], other[DECIMALS_MAX];
    format_text(x, true, "guidance", "%s", format_exact_float(one, j->guidance));
    format_text(x, true, OWN_KEY, "%s, %s", format_exact_float(one, j->aesthetic_score),
                format_exact_float(other, j->negative_aesthetic_score));
}

static void add_model_text(texts *x, const char *key, const refine_report *r)
{
    if (r)
        format_text(x, true, key, "%s, source %016llx, model %016llx", r->precision,
                    (unsigned long long)r->source_hash, (unsigned long long)r->model_hash);
    else
        add_rare_text(x, key, NULL);
}

/* Of two models: where the second took over, or how much of the schedule it went through again. */
static void add_base_texts(texts *x, const refine_job *j, const refine_report *base)
{
    const bool stages = j->handoff == 0;
    add_model_text(x, "base_model", base);
    add_real_text(x, base && !stages, "handoff", j->handoff);
    add_real_text(x, base && stages, "second_stage_strength", j->strength);
    add_rare_text(x, "via_pixels", base && j->via_pixels ? "yes" : NULL);
}

/* What part of the schedule was run, on what. */
static void add_flow_texts(texts *x, const refine_job *j)
{
    const bool from_text = !j->rgb_in && !j->latents_in, partly = j->denoising_start > 0;
    add_rare_text(x, "flow", from_text ? "text to image" : NULL);
    add_real_text(x, !from_text && !partly, "strength", j->strength);
    add_real_text(x, partly, "denoising_start", j->denoising_start);
    add_real_text(x, j->denoising_end > 0, "denoising_end", j->denoising_end);
}

/* Sizes and crops that the model was told of. */
static void add_pair_texts(texts *x, const refine_job *j)
{
    job_pair pairs[JOB_PAIRS];
    list_job_pairs(pairs, j);
    for (const job_pair *p = pairs; p < pairs + JOB_PAIRS; p++)
        format_text(x, has_job_pair(p), p->name, "%d%c%d", p->first, p->between, p->second);
}

/* White is what an image is read on unless another colour is asked for. */
static void add_background_text(texts *x, const refine_job *j, const uint8_t rgb[3])
{
    const bool is_white = rgb[0] == 255 && rgb[1] == 255 && rgb[2] == 255;
    format_text(x, j->rgb_in && !is_white, "background", "#%02x%02x%02x", rgb[0], rgb[1], rgb[2]);
}

static void fill_image_texts(texts *x, const job_input *in, const refine_job *j,
                             const uint8_t background[3], const refine_report *r)
{
    x->n = 0;
    format_text(x, true, "Software", "refine-lowmem %s", refine_version());
    format_text(x, true, "size", "%d x %d", j->width, j->height);
    format_text(x, in->hash != 0, "input_hash", "%016llx", (unsigned long long)in->hash);
    add_image_text(x, "prompt", j->prompt ? j->prompt : "");
    add_image_text(x, "negative_prompt", j->negative ? j->negative : "");
    add_rare_text(x, "negative_prompt_empty", j->negative && !*j->negative ? "yes" : NULL);
    add_rare_text(x, "prompt_2", j->prompt_2);
    add_rare_text(x, "negative_prompt_2", j->negative_2);
    format_text(x, j->clip_skip > 0, "clip_skip", "%d", j->clip_skip);
    format_text(x, true, "seed", "%llu", (unsigned long long)j->seed);
    format_text(x, true, "steps", "%d", j->steps);
    add_flow_texts(x, j);
    add_base_texts(x, j, r->base);
    add_float_texts(x, j);
    add_pair_texts(x, j);
    add_image_text(x, "rng", j->rng == REFINE_RNG_PHILOX ? "philox" : "torch");
    add_image_text(x, "scheduler", r->sampler);
    add_model_text(x, "model", r);
    format_text(x, true, "device", "%s %016llx", r->device, (unsigned long long)r->device_hash);
    add_background_text(x, j, background);
}

static void drop_absent_texts(texts *x)
{
    int n = 0;
    for (int i = 0; i < x->n; i++)
        if (x->t[i].value != IMAGE_TEXT_ABSENT)
            x->t[n++] = x->t[i];
    x->n = n;
}

refine_status output_save(const char *path, const job_input *in, const refine_job *j,
                          const uint8_t background[3], const refine_report *r, refine_error *err)
{
    texts x;
    fill_image_texts(&x, in, j, background, r);
    drop_absent_texts(&x);
    return image_save(path, &in->out, x.t, x.n, err);
}

bool output_is_done(const char *path, const job_input *in, const refine_job *j,
                    const uint8_t background[3], const refine_report *r, bool seeded)
{
    texts x;
    fill_image_texts(&x, in, j, background, r);
    for (int i = 0; i < x.n && !seeded; i++)
        if (strcmp(x.t[i].key, "seed") == 0)
            x.t[i].value = NULL;
    return image_has_texts(path, x.t, x.n);
}

bool output_is_foreign(const char *path) { return image_is_foreign(path, OWN_KEY); }
