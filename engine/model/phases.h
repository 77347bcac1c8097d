/* engine/model/phases.h -- the phases of one image, on whatever device `run` has.
 *
 * The same functions serve a run and its plan: a replay on the plan device gives no
 * pixels in, wants none out, and leaves the sizes behind.
 *
 *     encode   pixels -> moments                 SEG_VAE_ENCODE   (not for latents)
 *     text     ids -> prompt states, pooled      SEG_TEXT
 *     once     -> embedding table, keys, values  SEG_ONCE
 *     step     latents -> guided noise           SEG_UNET, every step
 *     decode   latents -> pixels                 SEG_VAE_DECODE   (not if only latents are wanted)
 *
 * Between phases everything is on the host: latents are small.  Their order is that of
 * engine/pipeline.c.
 */
#ifndef REFINE_PHASES_H
#define REFINE_PHASES_H

#include "engine/model/conditioning.h"
#include "engine/model/model.h"
#include "engine/sampling/euler.h"
#include <refine/refine.h>

typedef struct phases {
    const model *m;
    text_encoder text; /* the model's parts; the transformers also hold the prompt */
    unet unet;
    vae vae;
    euler sampler;

    int width, height, h, w; /* pixels; latents */
    int images;              /* that go together */
    int branches;            /* 2 with guidance: [negative, positive]; else 1 */
    int batch;               /* inputs of the UNet in a step: halves of image 0, of image 1, ... */
    int per_pass;            /* items that go through the weights together: set by the opener */
    int first, steps;        /* of the schedule that are run */
    bool encodes, decodes;
    dtype act; /* activations of the UNet: set by the opener */

    /* Host buffers, the pipeline's; shapes in floats. */
    float *positions;          /* 77 * width of the text tower */
    float *embedded;           /* items * 77 * width; then the prompt's states */
    float *pooled;             /* items * projection */
    float *vectors;            /* items * add_embed_dim */
    float *sinusoids;          /* items * steps * channels[0] */
    float *latents;            /* images * [4][h][w] */
    float *noise;              /* [4][h][w] */
    float *unet_in, *unet_out; /* items * h * w * 4, NHWC */
    float *moments;            /* h * w * 8, NHWC */
    float *pixel_rows;         /* 8 rows of pixels */
    int *eos;                  /* items */

    tensor table; /* device; between once and the last step */
} phases;

enum { IMAGES_MAX = 64 };

/* Takes every host buffer; `m` must outlive the pipeline.  `j` is checked: REFINE_EINVAL. */
refine_status phases_open(phases **out, const model *m, const refine_job *j, int images,
                          refine_error *err);
void phases_close(phases *p); /* NULL is fine */

/* Whether `j` has the shape the pipeline was opened for. */
bool phases_fits(const phases *p, const refine_job *j);

/* The device of a run and the types of its activations. */
void phases_precision(forward_ctx *r, dev *d, dtype type);

/* Passes over the UNet's weights in a step; of so many items, so many a pass. */
int phases_passes(const phases *p);
int phases_passes_of(int batch, int per_pass);

void phases_encode(phases *p, forward_ctx *r, const uint8_t *rgb);
void phases_text(phases *p, forward_ctx *r, const refine_job *j); /* one an image; NULL: plan */
void phases_pass(phases *p, forward_ctx *r, int step, int pass);  /* p->unet_in -> p->unet_out */
/* Says how many values of the image were NaN or infinite. */
size_t phases_decode(phases *p, forward_ctx *r, int image, uint8_t *rgb);

/* Host mathematics between the phases. */
refine_status phases_set_prompt(phases *p, int batch_index, const int ids[TEXT_TOKENS],
                                refine_error *err);
float *phases_latents(phases *p, int image);
void phases_sample_moments(phases *p, int image); /* latents = scale * (mean + std * noise) */
void phases_scale_input(phases *p, int step);     /* latents -> unet_in, for every item */
void phases_advance(phases *p, int step, int image, float guidance); /* unet_out -> latents */

#endif
