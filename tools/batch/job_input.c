/* tools/batch/job_input.c -- reads the input, makes it fit, takes room for the output. */
#include "tools/batch/job_input.h"

#include "engine/base/mem.h"
#include "engine/base/try.h"
#include "tools/cli/interrupt.h"
#include "tools/files/input_file.h"
#include "tools/image/resample.h"

#include <string.h>
#include <xxhash.h>

static size_t latent_bytes(const latents *l)
{
    return (size_t)l->h * (size_t)l->w * LATENT_CHANNELS * sizeof(float);
}

/* Moves what is kept to where the image begins. */
static void cut_image(image *im, const size_fit *f)
{
    const size_t row = (size_t)im->width * 3, kept = (size_t)f->cut_width * 3;
    const uint8_t *from = im->rgb + (size_t)f->y * row + (size_t)f->x * 3;
    for (int y = 0; y < f->cut_height; y++)
        memmove(im->rgb + (size_t)y * kept, from + (size_t)y * row, kept);
    im->width = f->cut_width;
    im->height = f->cut_height;
}

static refine_status fit_image(job_input *in, const image_reading *how, const size_wish *wish,
                               const char *path, refine_error *err)
{
    image *im = &in->input_image;
    size_fit *f = &in->fit;
    in->from_width = im->width;
    in->from_height = im->height;
    if (!size_wish_apply(f, wish, im->width, im->height))
        return refine_fail(
            err, REFINE_EFORMAT, "%s: %d x %d pixels%s; at least %d x %d are needed: give %s", path,
            im->width, im->height,
            wish->kind == SIZE_OWN ? "" : ", and fewer at the size asked for", SIZE_SIDE_MIN,
            SIZE_SIDE_MIN,
            wish->kind == SIZE_OWN ? "a --size" : "a larger --size or another --fit");
    cut_image(im, f);
    if (f->width == im->width && f->height == im->height)
        return REFINE_OK;
    /* The result, and what is of its width already but not yet of its height. */
    TRY(image_check_memory(
        how, (uint64_t)f->width * 3 * ((uint64_t)f->height + (uint64_t)im->height), path, err));
    image fit = { f->width, f->height, mem_alloc((size_t)f->width * (size_t)f->height * 3) };
    if (!fit.rgb)
        return refine_fail(err, REFINE_ENOMEM, "out of memory");
    const refine_status st = resample_lanczos(fit.rgb, f->width, f->height, im->rgb, im->width,
                                              im->height, err);
    if (st != REFINE_OK) {
        image_free(&fit);
        return st;
    }
    image_free(im);
    *im = fit;
    return REFINE_OK;
}

static refine_status load_opened(job_input *in, refine_job *j, const input_file *f,
                                 const input_settings *how, refine_error *err)
{
    const char *const path = f->path;
    if (latents_recognise(path)) {
        if (how->size.kind != SIZE_OWN)
            return refine_fail(err, REFINE_EINVAL,
                               "%s: latents are not resized: leave the size out", path);
        TRY(latents_load(&in->l, path, how->scaling_factor, err));
        j->width = in->l.w * SIZE_UNIT;
        j->height = in->l.h * SIZE_UNIT;
        j->latents_in = in->l.v;
        return REFINE_OK;
    }
    image_reading reading = how->image;
    reading.memory -= f->bytes;
    TRY(image_read(&in->input_image, &reading, path, err));
    in->note = reading.note;
    TRY(fit_image(in, &reading, &how->size, path, err));
    j->width = in->input_image.width;
    j->height = in->input_image.height;
    j->rgb_in = in->input_image.rgb;
    return REFINE_OK;
}

static refine_status load_input(job_input *in, refine_job *j, const char *path,
                                const input_settings *how, refine_error *err)
{
    input_file f;
    const bool held = input_file_is_pipe(path) && interrupt_let_through();
    refine_status st = input_file_open(&f, path, how->image.memory, err);
    if (held)
        interrupt_hold();
    TRY(st);
    st = load_opened(in, j, &f, how, err);
    if (st != REFINE_OK)
        input_file_name_error(&f, err);
    input_file_close(&f);
    return st;
}

/* An image from text alone is square unless both sides are given. */
static void size_from_text(refine_job *j, const size_wish *wish)
{
    size_fit f;
    if (wish->kind == SIZE_OWN || !size_wish_apply(&f, wish, SIZE_SIDE_MIN, SIZE_SIDE_MIN))
        return;
    j->width = f.width;
    j->height = f.height;
}

/* Before a run, whose latents may replace those it was given. */
static void hash_input(job_input *in, const refine_job *j)
{
    const size_t pixels = (size_t)j->width * (size_t)j->height * 3;
    if (j->rgb_in)
        in->hash = XXH3_64bits(j->rgb_in, pixels);
    else if (j->latents_in)
        in->hash = XXH3_64bits(j->latents_in, latent_bytes(&in->l));
}

refine_status job_input_load(job_input *in, refine_job *j, const char *path, bool want_image,
                             bool want_latents, const input_settings *how, refine_error *err)
{
    *in = (job_input){ 0 };
    if (path)
        TRY(load_input(in, j, path, how, err));
    else
        size_from_text(j, &how->size);
    hash_input(in, j);
    if (want_image) {
        const size_t pixels = (size_t)j->width * (size_t)j->height * 3;
        in->out = (image){ j->width, j->height, mem_alloc(pixels) };
        if (!in->out.rgb)
            return refine_fail(err, REFINE_ENOMEM, "out of memory");
        memset(in->out.rgb, 0, pixels); /* the plan then sees it among what is taken already */
        j->rgb_out = in->out.rgb;
    }
    if (want_latents && !in->l.v) {
        in->l = (latents){ j->height / SIZE_UNIT, j->width / SIZE_UNIT, NULL };
        in->l.v = mem_alloc(latent_bytes(&in->l));
        if (!in->l.v)
            return refine_fail(err, REFINE_ENOMEM, "out of memory");
    }
    if (want_latents)
        j->latents_out = in->l.v;
    return REFINE_OK;
}

size_t job_input_later(const job_input *in)
{
    enum { ENCODER = 1 << 20 };
    const size_t pixels = (size_t)in->out.width * (size_t)in->out.height * 3;
    return in->out.rgb ? 2 * pixels + ENCODER : 0; /* its buffer doubles */
}

void job_input_free(job_input *in)
{
    image_free(&in->input_image);
    image_free(&in->out);
    latents_free(&in->l);
}
