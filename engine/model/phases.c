/* engine/model/phases.c -- the phases of one image.
 *
 * Reference: diffusers StableDiffusionXLPipeline and StableDiffusionXLImg2ImgPipeline.__call__, the
 * latter also with requires_aesthetics_score; the CFG branches are [negative, positive].
 */
#include "engine/model/phases.h"

#include "engine/base/mem.h"
#include "engine/base/num.h"
#include "engine/base/try.h"
#include "engine/model/finite.h"
#include "engine/model/sinusoid.h"

#include <math.h>
#include <string.h>

enum { SIDE_MAX = 16384, PIXEL_ROWS = 8 };

/* ---- opening ---- */

static bool starts_from_noise(const refine_job *j) { return !j->rgb_in && !j->latents_in; }

static refine_status check_job(const refine_job *j, refine_error *err)
{
    const char *bad = micro_ids_fault(j);
    if (j->width < 64 || j->height < 64 || j->width > SIDE_MAX || j->height > SIDE_MAX)
        bad = "width and height must be between 64 and 16384";
    else if (j->width % VAE_SCALE || j->height % VAE_SCALE)
        bad = "width and height must be multiples of 8";
    else if (j->rgb_in && j->latents_in)
        bad = "give either pixels or latents";
    else if (!j->rgb_out && !j->latents_out)
        bad = "neither pixels nor latents are wanted";
    else if (j->steps < 1 || j->steps > 1000)
        bad = "steps must be between 1 and 1000";
    else if (!(j->strength >= 0 && j->strength <= 1))
        bad = "strength must be between 0 and 1";
    else if (!(j->denoising_start >= 0 && j->denoising_start < 1))
        bad = "denoising start must be between 0 and 1";
    else if (!(j->denoising_end >= 0 && j->denoising_end < 1))
        bad = "denoising end must be between 0 and 1";
    else if (j->denoising_start > 0 && starts_from_noise(j))
        bad = "a denoising start needs pixels or latents";
    else if (!isfinite(j->guidance) || !isfinite(j->aesthetic_score) ||
             !isfinite(j->negative_aesthetic_score))
        bad = "guidance and scores must be finite numbers";
    return bad ? refine_fail(err, REFINE_EINVAL, "%s", bad) : REFINE_OK;
}

static float *alloc_floats(size_t a, size_t b, size_t c)
{
    return mem_calloc(a * b * c, sizeof(float));
}

static bool take_buffers(phases *p)
{
    const model_config *c = &p->m->l.config;
    const size_t n = (size_t)p->batch, hw = (size_t)p->h * (size_t)p->w;
    const size_t steps = (size_t)p->steps;
    bool taken = true;

    for (int i = 0; i < p->n_encoders; i++) {
        prompt_encoder *e = &p->encoder[i];
        const size_t width = (size_t)e->text.c->width;
        e->positions = alloc_floats(TEXT_TOKENS, width, 1);
        e->embedded = alloc_floats(n, TEXT_TOKENS, width);
        taken = taken && e->positions && e->embedded;
    }
    if (c->prompt.zero_negative) {
        p->zeros = alloc_floats(TEXT_TOKENS, (size_t)c->unet.context_dim, 1);
        taken = taken && p->zeros;
    }
    if (p->sampler.ancestral) {
        p->drawn = alloc_floats(LATENT_CHANNELS, hw, 1);
        taken = taken && p->drawn;
    }
    p->pooled = alloc_floats(n, (size_t)c->text.projection, 1);
    p->vectors = alloc_floats(n, (size_t)c->unet.add_embed_dim, 1);
    p->sinusoids = alloc_floats(n, steps, (size_t)c->unet.channels[0]);
    p->latents = alloc_floats((size_t)p->images, LATENT_CHANNELS, hw);
    p->noise = alloc_floats(LATENT_CHANNELS, hw, 1);
    p->unet_in = alloc_floats(n, hw, LATENT_CHANNELS);
    p->unet_out = alloc_floats(n, hw, LATENT_CHANNELS);
    p->moments = alloc_floats(hw, 2 * LATENT_CHANNELS, 1);
    p->pixel_rows = alloc_floats(PIXEL_ROWS, (size_t)p->width, 3);
    p->eos = mem_calloc(n, sizeof *p->eos);
    p->n_tokens = mem_calloc((size_t)p->images, 2 * sizeof *p->n_tokens);
    p->zeroed = mem_calloc(n, sizeof *p->zeroed);
    p->skip = mem_calloc(n, sizeof *p->skip);
    p->generator = mem_calloc((size_t)p->images, sizeof *p->generator);
    return taken && p->eos && p->n_tokens && p->zeroed && p->skip && p->generator && p->pooled &&
           p->vectors && p->sinusoids && p->latents && p->noise && p->unet_in && p->unet_out &&
           p->moments && p->pixel_rows;
}

step_range phases_steps(const euler *s, const refine_job *j)
{
    return (step_range){
        starts_from_noise(j) ? 0 : euler_first(s, j->strength, j->denoising_start),
        euler_end(s, j->denoising_end),
    };
}

static void set_schedule(phases *p, const refine_job *j)
{
    const step_range steps = phases_steps(&p->sampler, j);
    p->first = steps.first;
    p->steps = steps.end - steps.first;
}

static void set_encoders(phases *p, const model *m)
{
    if (m->l.config.text_l.layers)
        p->encoder[p->n_encoders++].text = m->text_l;
    p->encoder[p->n_encoders++].text = m->text;
}

/* The shortest encoder's. */
static int text_layers(const phases *p)
{
    int least = TEXT_MAX_LAYERS;
    for (int i = 0; i < p->n_encoders; i++)
        least = (int)num_min((size_t)least, (size_t)p->encoder[i].text.c->layers);
    return least;
}

/* At most all of them, which leaves the embedding. */
static bool can_skip_layers(const phases *p, const refine_job *j)
{
    return j->clip_skip >= 0 && j->clip_skip < text_layers(p);
}

static int cfg_branches(const refine_job *j) { return j->guidance > 1.0f ? 2 : 1; }

static void fill_sinusoids(phases *p)
{
    const int base = p->m->l.config.unet.channels[0];
    for (int n = 0; n < p->batch; n++)
        for (int s = 0; s < p->steps; s++)
            embed_sinusoid(p->sinusoids + ((size_t)n * (size_t)p->steps + (size_t)s) * (size_t)base,
                           p->sampler.timestep[p->first + s], base);
}

static refine_status fail_without_steps(const refine_job *j, refine_error *err)
{
    const double end = j->denoising_end > 0 ? j->denoising_end : 1;
    if (j->denoising_start > 0 || starts_from_noise(j))
        return refine_fail(err, REFINE_EINVAL,
                           "none of %d steps lies between %g and %g of the schedule; take more "
                           "steps, or another share",
                           j->steps, j->denoising_start, end);
    if (j->denoising_end > 0)
        return refine_fail(err, REFINE_EINVAL,
                           "strength %g of %d steps begins after %g of the schedule; raise one of "
                           "them",
                           j->strength, j->steps, end);
    return refine_fail(err, REFINE_EINVAL,
                       "strength %g of %d steps runs no step at all; raise one of them",
                       j->strength, j->steps);
}

refine_status phases_open(phases **out, const model *m, const refine_job *j, int images,
                          refine_error *err)
{
    refine_status st;
    *out = NULL;
    TRY(check_job(j, err));
    if (images < 1 || images > IMAGES_MAX)
        return refine_fail(err, REFINE_EINVAL, "between 1 and %d images can go together",
                           IMAGES_MAX);
    if (m->l.config.unet.in_channels != LATENT_CHANNELS)
        return refine_fail(err, REFINE_EFORMAT, "%s: latents of %d channels are not supported",
                           pack_path(m->p), m->l.config.unet.in_channels);

    if (starts_from_noise(j) && model_config_ids(&m->l.config) != MICRO_IDS_MAX)
        return refine_fail(err, REFINE_EINVAL,
                           "%s: a refiner needs an image or a base's latents: give -i INPUT",
                           pack_path(m->p));

    phases *p = mem_calloc(1, sizeof *p);
    if (!p)
        return refine_fail(err, REFINE_ENOMEM, "out of memory");
    p->m = m;
    p->width = j->width;
    p->height = j->height;
    p->h = j->height / VAE_SCALE;
    p->w = j->width / VAE_SCALE;
    p->images = images;
    p->branches = cfg_branches(j);
    p->batch = p->per_pass = images * p->branches;
    p->encodes = j->rgb_in != NULL;
    p->decodes = j->rgb_out != NULL;
    p->from_noise = starts_from_noise(j);
    st = euler_open(&p->sampler, &m->l.config.schedule, j->steps);
    if (st != REFINE_OK) {
        refine_fail(err, st, "a schedule of %d steps is not supported", j->steps);
        goto fail;
    }
    set_schedule(p, j);
    if (p->steps < 1) {
        st = fail_without_steps(j, err);
        goto fail;
    }
    set_encoders(p, m);
    if (!can_skip_layers(p, j)) {
        st = refine_fail(err, REFINE_EINVAL,
                         "%s: clip skip must be between 0 and %d, its text encoders being of %d "
                         "layers",
                         pack_path(m->p), text_layers(p) - 1, text_layers(p));
        goto fail;
    }
    p->unet = m->unet;
    p->vae = m->vae;
    if (!take_buffers(p)) {
        st = refine_fail(err, REFINE_ENOMEM, "out of memory");
        goto fail;
    }
    fill_sinusoids(p);
    *out = p;
    return REFINE_OK;

fail:
    phases_close(p);
    return st;
}

void phases_close(phases *p)
{
    if (!p)
        return;
    float *const buffers[] = { p->pooled,   p->zeros,   p->vectors,   p->sinusoids,
                               p->latents,  p->noise,   p->drawn,     p->unet_in,
                               p->unet_out, p->moments, p->pixel_rows };
    for (size_t i = 0; i < sizeof buffers / sizeof buffers[0]; i++)
        mem_free(buffers[i]);
    for (int i = 0; i < p->n_encoders; i++) {
        mem_free(p->encoder[i].positions);
        mem_free(p->encoder[i].embedded);
    }
    mem_free(p->eos);
    mem_free(p->n_tokens);
    mem_free(p->zeroed);
    mem_free(p->skip);
    mem_free(p->generator);
    mem_free(p);
}

static bool has_steps(const phases *p, const refine_job *j)
{
    const step_range steps = phases_steps(&p->sampler, j);
    return steps.first == p->first && steps.end == p->first + p->steps;
}

bool phases_fits(const phases *p, const refine_job *j)
{
    return check_job(j, NULL) == REFINE_OK && j->width == p->width && j->height == p->height &&
           j->steps == p->sampler.steps && cfg_branches(j) == p->branches && has_steps(p, j) &&
           can_skip_layers(p, j) && starts_from_noise(j) == p->from_noise &&
           (j->rgb_in != NULL) == p->encodes && (j->rgb_out != NULL) == p->decodes;
}

/* ---- pixels ---- */

static int rows_from(const phases *p, int row)
{
    return (int)num_min(PIXEL_ROWS, (size_t)(p->height - row));
}

/* x = u8 / 255 * 2 - 1, as diffusers' VaeImageProcessor rounds it. */
static void set_pixels(phases *p, forward_ctx *r, tensor pixels, const uint8_t *rgb)
{
    for (int row = 0; row < p->height; row += PIXEL_ROWS) {
        const tensor band = tensor_row_band(pixels, row, rows_from(p, row));
        const size_t n = tensor_bytes(band) / sizeof(float);
        const uint8_t *src = rgb + (size_t)row * (size_t)p->width * 3;
        for (size_t i = 0; i < n; i++)
            p->pixel_rows[i] = 2.0f * ((float)src[i] / 255.0f) - 1.0f;
        dev_put(r->d, band.data, p->pixel_rows, tensor_bytes(band));
    }
}

/* u8 = round_half_even(255 * clamp(y / 2 + 0.5)) */
static uint8_t convert_pixel(float y)
{
    const float v = y * 0.5f + 0.5f;
    if (!(v > 0.0f))
        return 0;
    return v >= 1.0f ? 255 : (uint8_t)nearbyintf(v * 255.0f);
}

/* Says how many values are not finite. */
static size_t get_pixels(phases *p, forward_ctx *r, tensor pixels, uint8_t *rgb)
{
    size_t bad = 0;
    for (int row = 0; row < p->height; row += PIXEL_ROWS) {
        const tensor band = tensor_row_band(pixels, row, rows_from(p, row));
        const size_t n = tensor_bytes(band) / sizeof(float);
        uint8_t *dst = rgb + (size_t)row * (size_t)p->width * 3;
        dev_get(r->d, p->pixel_rows, band.data, tensor_bytes(band));
        if (dev_status(r->d) != REFINE_OK)
            break;
        bad += finite_bad(p->pixel_rows, n);
        for (size_t i = 0; i < n; i++)
            dst[i] = convert_pixel(p->pixel_rows[i]);
    }
    return bad;
}

/* ---- phases ---- */

void phases_precision(forward_ctx *r, dev *d, dtype type)
{
    r->d = d;
    r->act = type;
    r->vae_act = type == DT_F32 ? DT_F32 : DT_F16;
    r->vae_exp2 = type == DT_F32 ? 0 : VAE_EXP2;
}

void phases_encode(phases *p, forward_ctx *r, const uint8_t *rgb)
{
    tensor pixels = scratch_alloc(&r->mem, DT_F32, 1, p->height, p->width, 3);
    tensor moments = scratch_alloc(&r->mem, DT_F32, 1, p->h, p->w, 2 * LATENT_CHANNELS);
    if (rgb)
        set_pixels(p, r, pixels, rgb);
    vae_encode(r, &p->vae, moments, pixels);
    dev_get(r->d, p->moments, moments.data, tensor_bytes(moments));
    scratch_free(&r->mem, moments);
    scratch_free(&r->mem, pixels);
}

void phases_keep_vectors(phases *p, int chunk, const char *vectors)
{
    for (int i = 0; i < p->n_encoders; i++) {
        const prompt_encoder *e = &p->encoder[i];
        const pack_tensor *t = model_tensor(p->m, e->text.positions);
        if ((int)t->first_chunk == chunk)
            memcpy(e->positions, vectors + t->at, (size_t)t->c_in * sizeof(float));
    }
}

refine_status phases_set_prompt(phases *p, prompt_encoder *e, int batch_index,
                                const int ids[TEXT_TOKENS], refine_error *err)
{
    float *out = e->embedded + (size_t)batch_index * TEXT_TOKENS * (size_t)e->text.c->width;
    if (e == phases_pooling(p))
        p->eos[batch_index] = text_eos(ids);
    return text_embed(&e->text, p->m, e->positions, ids, out, err);
}

static void set_vectors(phases *p, const refine_job *jobs)
{
    const unet_config *c = p->unet->c;
    const int n_ids = model_config_ids(&p->m->l.config);
    for (int n = 0; n < p->batch; n++) {
        const refine_job *j = &jobs[n / p->branches];
        float ids[MICRO_IDS_MAX];
        fill_micro_ids(ids, n_ids, j, p->from_noise, n % p->branches + 1 < p->branches);
        conditioning_vector(c, p->vectors + (size_t)n * (size_t)c->add_embed_dim,
                            p->pooled + (size_t)n * (size_t)phases_pooling(p)->text.c->projection,
                            ids, n_ids);
    }
}

/* One encoder's states of all prompts: on the device, and copied to the host. */
static tensor encode_prompts_by(phases *p, forward_ctx *r, prompt_encoder *e)
{
    const bool pools = e == phases_pooling(p);
    tensor text = scratch_alloc(&r->mem, DT_F32, p->batch, 1, TEXT_TOKENS, e->text.c->width);
    tensor pooled = { 0 };

    if (pools)
        pooled = scratch_alloc(&r->mem, DT_F32, p->batch, 1, 1, e->text.c->projection);
    dev_put(r->d, text.data, e->embedded, tensor_bytes(text));
    text_forward(r, &e->text, text, p->skip, e->embedded, p->eos, pooled);
    dev_get(r->d, e->embedded, text.data, tensor_bytes(text));
    if (pools) {
        dev_get(r->d, p->pooled, pooled.data, tensor_bytes(pooled));
        scratch_free(&r->mem, pooled);
    }
    return text;
}

/* An absent prompt has zeros for states, of each encoder and pooled. */
static void zero_absent_prompts(phases *p, forward_ctx *r, tensor context)
{
    const size_t projection = (size_t)phases_pooling(p)->text.c->projection;
    for (int n = 0; n < p->batch; n++)
        if (p->zeroed[n]) {
            const tensor one = tensor_images(context, n, 1);
            dev_put(r->d, one.data, p->zeros, tensor_bytes(one));
            memset(p->pooled + (size_t)n * projection, 0, projection * sizeof *p->pooled);
        }
}

/* The states of all encoders, side by side. */
static tensor encode_context(phases *p, forward_ctx *r)
{
    if (p->n_encoders == 1)
        return encode_prompts_by(p, r, &p->encoder[0]);
    tensor context = scratch_alloc(&r->mem, DT_F32, p->batch, 1, TEXT_TOKENS,
                                   p->unet->c->context_dim);
    for (int i = 0, at = 0; i < p->n_encoders; i++) {
        const tensor part = encode_prompts_by(p, r, &p->encoder[i]);
        op_convert(r->d, tensor_channels(context, at, part.c), part);
        at += part.c;
        scratch_free(&r->mem, part);
    }
    return context;
}

void phases_text(phases *p, forward_ctx *r, const refine_job *j)
{
    tensor context = encode_context(p, r);
    if (j) {
        zero_absent_prompts(p, r, context);
        set_vectors(p, j);
    }
    p->table = conditioning_forward(r, p->unet, context, p->vectors, p->sinusoids, p->steps);
    scratch_free(&r->mem, context);
}

int phases_passes_of(int batch, int per_pass) { return (batch + per_pass - 1) / per_pass; }

int phases_passes(const phases *p) { return phases_passes_of(p->batch, p->per_pass); }

void phases_pass(phases *p, forward_ctx *r, int step, int pass)
{
    const int first = pass * p->per_pass;
    const int n = (int)num_min((size_t)p->per_pass, (size_t)(p->batch - first));
    const size_t at = (size_t)first * (size_t)p->h * (size_t)p->w * LATENT_CHANNELS;
    tensor x = scratch_alloc(&r->mem, DT_F32, n, p->h, p->w, LATENT_CHANNELS);
    tensor eps = scratch_alloc(&r->mem, DT_F32, n, p->h, p->w, LATENT_CHANNELS);

    r->batch0 = first;
    dev_put(r->d, x.data, p->unet_in + at, tensor_bytes(x));
    unet_forward(r, p->unet, eps, x, tensor_images(conditioning_step(p->table, step), first, n));
    dev_get(r->d, p->unet_out + at, eps.data, tensor_bytes(eps));
    scratch_free(&r->mem, eps);
    scratch_free(&r->mem, x);
}

float *phases_latents(phases *p, int image)
{
    return p->latents + (size_t)image * LATENT_CHANNELS * (size_t)p->h * (size_t)p->w;
}

/* Latents as the device wants them: NHWC in unet_in, divided by the scaling factor. */
static void unscale_latents(phases *p, const float *latents)
{
    const size_t hw = (size_t)p->h * (size_t)p->w;
    const float scale = p->vae.c->scaling_factor;
    for (size_t c = 0; c < LATENT_CHANNELS; c++)
        for (size_t i = 0; i < hw; i++)
            p->unet_in[i * LATENT_CHANNELS + c] = latents[c * hw + i] / scale;
}

size_t phases_decode(phases *p, forward_ctx *r, int image, uint8_t *rgb)
{
    size_t bad = 0;
    tensor z = scratch_alloc(&r->mem, DT_F32, 1, p->h, p->w, LATENT_CHANNELS);
    unscale_latents(p, phases_latents(p, image));
    dev_put(r->d, z.data, p->unet_in, tensor_bytes(z));
    tensor pixels = vae_decode(r, &p->vae, z);
    if (rgb)
        bad = get_pixels(p, r, pixels, rgb);
    scratch_free(&r->mem, pixels);
    return bad;
}

/* ---- between the phases ---- */

void phases_sample_moments(phases *p, int image)
{
    const size_t hw = (size_t)p->h * (size_t)p->w;
    const float scale = p->vae.c->scaling_factor;
    float *latents = phases_latents(p, image);
    for (size_t c = 0; c < LATENT_CHANNELS; c++)
        for (size_t i = 0; i < hw; i++) {
            const float *m = p->moments + i * 2 * LATENT_CHANNELS;
            const float logvar = fminf(fmaxf(m[LATENT_CHANNELS + c], -30.0f), 20.0f);
            const float std = expf(0.5f * logvar);
            latents[c * hw + i] = (m[c] + std * p->noise[c * hw + i]) * scale;
        }
}

void phases_scale_input(phases *p, int step)
{
    const size_t hw = (size_t)p->h * (size_t)p->w;
    const float scale = euler_input_scale(&p->sampler, p->first + step);
    for (int n = 0; n < p->batch; n++) {
        const float *latents = phases_latents(p, n / p->branches);
        float *in = p->unet_in + (size_t)n * hw * LATENT_CHANNELS;
        for (size_t c = 0; c < LATENT_CHANNELS; c++)
            for (size_t i = 0; i < hw; i++)
                in[i * LATENT_CHANNELS + c] = latents[c * hw + i] / scale;
    }
}

void phases_advance(phases *p, int step, int image, float guidance)
{
    const size_t hw = (size_t)p->h * (size_t)p->w, values = hw * LATENT_CHANNELS;
    const float *negative = p->unet_out + (size_t)(image * p->branches) * values;
    const float *positive = negative + (size_t)(p->branches - 1) * values;

    /* The guided noise takes the place of the noise buffer, [4][h][w]. */
    for (size_t c = 0; c < LATENT_CHANNELS; c++)
        for (size_t i = 0; i < hw; i++) {
            const size_t at = i * LATENT_CHANNELS + c;
            float eps = positive[at];
            if (p->branches == 2)
                eps = negative[at] + guidance * (positive[at] - negative[at]);
            p->noise[c * hw + i] = eps;
        }
    if (p->drawn)
        rng_randn(&p->generator[image], p->drawn, values);
    euler_step(&p->sampler, p->first + step, phases_latents(p, image), p->noise, p->drawn, values);
}
