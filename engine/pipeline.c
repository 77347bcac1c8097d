/* engine/pipeline.c -- text to image, SDEdit, and either part of an ensemble of experts.
 *
 *     z = VAE(image) + sigma[first] noise       SDEdit; clean latents may stand for VAE(image)
 *       = latents                               as a base left them, from denoising_start on
 *       = sigma_init noise                      text to image
 *     c = text(prompt), u = text(negative)
 *     for each step:
 *         x   = z / sqrt(sigma^2 + 1)
 *         e_c = UNet(x, c), e_u = UNet(x, u)
 *         z   = Euler step of z along  e_u + guidance (e_c - e_u)
 *     image = VAE(z)
 *
 * Images go through each phase together, and none depends on the others.  Noise is drawn in
 * diffusers' order: the posterior's, the initial one, then an ancestral sampler's step by step.
 *
 * Reference: __call__ of diffusers' StableDiffusionXLPipeline and StableDiffusionXLImg2ImgPipeline;
 * Meng et al. 2022, "SDEdit".
 */
#include "engine/pipeline.h"

#include "engine/base/try.h"
#include "engine/model/finite.h"
#include "engine/sampling/rng.h"

#include <string.h>

static size_t latent_values(const phases *p)
{
    return LATENT_CHANNELS * (size_t)p->h * (size_t)p->w;
}

/* Empties the region of the arena that phases share.  norm_limit: a convolution's normalised input
 * is written out where it lies below so much of the region. */
static void begin_region(pipeline_context *c, size_t norm_limit)
{
    const arena_layout *a = &c->plan->arena;
    const host_memory *h = &c->plan->host;
    forward_ctx *r = c->r;
    r->norms_within = norm_limit;
    scratch_close(&r->mem);
    scratch_open(&r->mem, r->d, c->arena + arena_region_at(a), a->region, a->zone);
    scratch_open(&r->spilled, r->d, SCRATCH_TOKEN, h->spill_host + h->spill_file, 0);
}

/* ---- prompts ---- */

/* What each encoder reads; the second has prompts of its own where they are given. */
static const char *prompt_of(const refine_job *j, bool negative, bool is_second)
{
    const char *first = negative ? j->negative : j->prompt;
    const char *second = negative ? j->negative_2 : j->prompt_2;
    if (is_second && second && *second)
        return second;
    return first ? first : "";
}

/* As tokenizer and tokenizer_2 of diffusers: they differ in their padding, and in "!".  *count: of
 * the longest text so far. */
static refine_status tokenize_prompt(pipeline_context *c, const refine_job *j, prompt_encoder *e,
                                     bool negative, int batch_index, int *count, refine_error *err)
{
    const bool pooling = e == phases_pooling(c->p);
    const char *text = prompt_of(j, negative, e > c->p->encoder);
    const tokenizer_flavour flavour = j->flavour == REFINE_TOKENS_OPENCLIP ? TOKENIZER_OPENCLIP
                                      : pooling                            ? TOKENIZER_DIFFUSERS
                                                                           : TOKENIZER_PLAIN;
    int ids[TEXT_TOKENS], n;
    TRY(tokenizer_encode(c->tok, text, strlen(text), flavour,
                         pooling ? TOKENIZER_PAD : TOKENIZER_END, ids, &n, err));
    *count = n > *count ? n : *count;
    return phases_set_prompt(c->p, e, batch_index, ids, err);
}

/* [negative, prompt], or the prompt alone without guidance. */
static refine_status tokenize_prompts(pipeline_context *c, const refine_job *j, int image,
                                      refine_error *err)
{
    phases *p = c->p;
    int *const counts = &p->n_tokens[2 * image];

    counts[0] = counts[1] = 0;
    for (int branch = 0; branch < p->branches; branch++) {
        const bool negative = branch + 1 < p->branches;
        const int at = image * p->branches + branch;
        for (int i = 0; i < p->n_encoders; i++)
            TRY(tokenize_prompt(c, j, &p->encoder[i], negative, at, &counts[!negative], err));
        p->zeroed[at] = negative && !j->negative && p->zeros;
        p->skip[at] = negative ? 0 : j->clip_skip;
    }
    return REFINE_OK;
}

/* The states and the pooled prompt, of both CFG branches of each image. */
static void check_embeddings(const pipeline_context *c)
{
    const phases *p = c->p;
    const size_t pooled = (size_t)p->branches * (size_t)p->m->l.config.text.projection;
    for (int i = 0; i < p->images; i++) {
        for (int k = 0; k < p->n_encoders; k++) {
            const prompt_encoder *e = &p->encoder[k];
            const size_t states = (size_t)p->branches * TEXT_TOKENS * (size_t)e->text.c->width;
            observer_check(c->o, "the text encoder's result", i, e->embedded + (size_t)i * states,
                           states, NULL);
        }
        observer_check(c->o, "the pooled prompt", i, p->pooled + (size_t)i * pooled, pooled, NULL);
    }
}

static refine_status encode_prompts(pipeline_context *c, const refine_job *jobs, refine_error *err)
{
    observer_begin_phase(c->o, REFINE_TEXT, SEG_TEXT, SEG_ONCE, 1);
    begin_region(c, c->plan->phases.unet);
    phases_text(c->p, c->r, jobs);
    check_embeddings(c);
    TRY(dev_result(c->r->d, err));
    observer_end_phase(c->o);
    return REFINE_OK;
}

/* ---- images to latents ---- */

/* Into the image's latents. */
static refine_status encode_image(pipeline_context *c, const refine_job *j, int image,
                                  refine_error *err)
{
    phases *p = c->p;
    const size_t n = latent_values(p);
    c->o->image = image;
    begin_region(c, c->plan->phases.encode);
    phases_encode(p, c->r, j->rgb_in);
    observer_check(c->o, "the encoded image", image, p->moments, 2 * n, NULL);
    TRY(dev_result(c->r->d, err));
    rng_randn(&p->generator[image], p->noise, n);
    phases_sample_moments(p, image);
    return REFINE_OK;
}

/* The latents of an image at the first step's level of noise. */
static refine_status start_latents(pipeline_context *c, const refine_job *j, int image,
                                   refine_error *err)
{
    phases *p = c->p;
    const size_t n = latent_values(p);
    float *latents = phases_latents(p, image);
    rng *g = &p->generator[image];

    if (c->before)
        *g = c->before->generator[image];
    else
        rng_open(g, j->rng == REFINE_RNG_PHILOX ? RNG_PHILOX : RNG_TORCH, j->seed);
    if (p->from_noise) {
        rng_randn(g, latents, n);
        for (size_t i = 0; i < n; i++)
            latents[i] *= p->sampler.init_noise;
        return REFINE_OK;
    }
    if (j->rgb_in)
        TRY(encode_image(c, j, image, err));
    else
        memmove(latents, j->latents_in, n * sizeof *latents); /* they may lie there already */
    if (!(j->denoising_start > 0)) {
        rng_randn(g, p->noise, n);
        euler_add_noise(&p->sampler, p->first, latents, p->noise, n);
    }
    return REFINE_OK;
}

static refine_status prepare_latents(pipeline_context *c, const refine_job *jobs, refine_error *err)
{
    const phases *p = c->p;
    if (p->encodes)
        observer_begin_phase(c->o, REFINE_ENCODING, SEG_VAE_ENCODE, SEG_VAE_ENCODE, p->images);
    for (int i = 0; i < p->images; i++) {
        TRY(start_latents(c, &jobs[i], i, err));
        observer_watch_latents(c->o, i, 0);
    }
    if (p->encodes)
        observer_end_phase(c->o);
    return REFINE_OK;
}

/* ---- denoising ---- */

/* The UNet's result, of both CFG branches of each image. */
static void check_noise(const pipeline_context *c)
{
    const size_t n = (size_t)c->p->branches * latent_values(c->p);
    for (int i = 0; i < c->p->images; i++)
        observer_check(c->o, "the UNet's result", i, c->p->unet_out + (size_t)i * n, n, NULL);
}

static refine_status denoise_step(pipeline_context *c, const refine_job *jobs, int step,
                                  refine_error *err)
{
    phases *p = c->p;
    observer_begin_step(c->o, step);
    phases_scale_input(p, step);
    for (int pass = 0; pass < phases_passes(p); pass++)
        phases_pass(p, c->r, step, pass);
    check_noise(c);
    TRY(dev_result(c->r->d, err));
    for (int i = 0; i < p->images; i++) {
        phases_advance(p, step, i, jobs[i].guidance);
        observer_check(c->o, "what guidance made of the latents", i, phases_latents(p, i),
                       latent_values(p), "try a smaller --guidance");
        observer_watch_latents(c->o, i, step + 1);
        observer_show_latents(c->o, i);
    }
    TRY(dev_result(c->r->d, err));
    observer_end_step(c->o);
    return REFINE_OK;
}

static refine_status denoise_latents(pipeline_context *c, const refine_job *jobs, refine_error *err)
{
    c->o->step = 0;
    observer_begin_phase(c->o, REFINE_DENOISING, SEG_UNET, SEG_UNET, phases_passes(c->p));
    for (int i = 0; i < c->p->steps; i++)
        TRY(denoise_step(c, jobs, i, err));
    c->o->step = c->p->steps;
    observer_end_phase(c->o);
    return REFINE_OK;
}

static void copy_latents_out(pipeline_context *c, const refine_job *jobs)
{
    for (int i = 0; i < c->p->images; i++)
        if (jobs[i].latents_out)
            memcpy(jobs[i].latents_out, phases_latents(c->p, i),
                   latent_values(c->p) * sizeof *jobs[i].latents_out);
}

/* ---- latents to images ---- */

static refine_status decode_images(pipeline_context *c, const refine_job *jobs, refine_error *err)
{
    phases *p = c->p;
    const size_t values = 3 * (size_t)p->width * (size_t)p->height;
    observer_begin_phase(c->o, REFINE_DECODING, SEG_VAE_DECODE, SEG_VAE_DECODE, p->images);
    stream_drop_residents(c->s);
    for (int i = 0; i < p->images; i++) {
        c->o->image = i;
        begin_region(c, c->plan->phases.decode);
        const size_t bad = phases_decode(p, c->r, i, jobs[i].rgb_out);
        observer_judge(c->o, "the decoded image", i, bad, values);
        TRY(dev_result(c->r->d, err));
    }
    observer_end_phase(c->o);
    return REFINE_OK;
}

/* ---- all of it ---- */

refine_status pipeline_run(pipeline_context *c, const refine_job *jobs, refine_error *err)
{
    for (int i = 0; i < c->p->images; i++)
        TRY(tokenize_prompts(c, &jobs[i], i, err));
    TRY(prepare_latents(c, jobs, err));
    TRY(encode_prompts(c, jobs, err));
    TRY(denoise_latents(c, jobs, err));
    copy_latents_out(c, jobs);
    return c->p->decodes ? decode_images(c, jobs, err) : REFINE_OK;
}

refine_status pipeline_check_latents(const phases *p, const refine_job *j, refine_error *err)
{
    const size_t n = latent_values(p), bad = j->latents_in ? finite_bad(j->latents_in, n) : 0;
    return bad == 0
               ? REFINE_OK
               : refine_fail(err, REFINE_EINVAL,
                             "the latents given hold NaN or infinity in %zu of %zu values", bad, n);
}
