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
#include "engine/model/micro_ids.h"
#include "engine/model/model.h"
#include "engine/sampling/euler.h"
#include "engine/sampling/rng.h"
#include <refine/refine.h>

/* Text encoders, in the order in which their states lie beside each other in the context: CLIP
 * ViT-L where there is one, then OpenCLIP bigG, which also pools. */
enum { ENCODERS_MAX = 2 };
typedef struct prompt_encoder {
    text_encoder text;
    float *positions; /* host: 77 * width */
    float *embedded;  /* host: batch * 77 * width; then the prompts' states */
} prompt_encoder;

typedef struct phases {
    const model *m;
    prompt_encoder encoder[ENCODERS_MAX];
    int n_encoders;
    unet *unet; /* the model's; its transformers hold the prompt of the run */
    vae vae;
    euler sampler;

    int width, height, h, w; /* pixels; latents */
    int images;              /* that go together */
    int branches;            /* 2 with guidance: [negative, positive]; else 1 */
    int batch;        /* inputs of the UNet in a step: branches of image 0, of image 1, ... */
    int per_pass;     /* of them, through the weights together: set by the opener */
    int first, steps; /* of the schedule that are run */
    bool encodes, decodes;
    bool from_noise; /* text to image: nothing is given */
    dtype act;       /* activations of the UNet: set by the opener */

    /* Host buffers, the phases'; shapes in floats. */
    float *pooled;             /* batch * projection */
    float *zeros;              /* 77 * width of the context, where the model wants them; or NULL */
    float *vectors;            /* batch * add_embed_dim */
    float *sinusoids;          /* batch * steps * channels[0] */
    float *latents;            /* images * [4][h][w] */
    float *noise;              /* [4][h][w] */
    float *drawn;              /* [4][h][w], of a sampler that adds noise; or NULL */
    float *unet_in, *unet_out; /* batch * h * w * 4, NHWC */
    float *moments;            /* h * w * 8, NHWC */
    float *pixel_rows;         /* 8 rows of pixels */
    int *eos;                  /* batch */
    int *n_tokens;             /* images * [negative, prompt]: before truncation */
    bool *zeroed;              /* batch: the prompt is absent, and so zeros */
    int *skip;                 /* batch: layers that the text encoders leave out of the context */
    rng *generator;            /* images */

    tensor table; /* device; between once and the last step */
} phases;

enum { IMAGES_MAX = 64 };

/* Steps [first, end) of a schedule. */
typedef struct step_range {
    int first, end;
} step_range;

/* Those that a job runs; none where end is not behind first. */
step_range phases_steps(const euler *s, const refine_job *j);

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
/* Copies what the host needs of a chunk of vectors: the text towers' positions. */
void phases_keep_vectors(phases *p, int chunk, const char *vectors);

/* Of one encoder and one element of the batch. */
refine_status phases_set_prompt(phases *p, prompt_encoder *e, int batch_index,
                                const int ids[TEXT_TOKENS], refine_error *err);
/* The encoder whose last state is pooled. */
static inline prompt_encoder *phases_pooling(phases *p) { return &p->encoder[p->n_encoders - 1]; }

float *phases_latents(phases *p, int image);
void phases_sample_moments(phases *p, int image); /* latents = scale * (mean + std * noise) */
void phases_scale_input(phases *p, int step);     /* latents -> unet_in, for every item */
void phases_advance(phases *p, int step, int image, float guidance); /* unet_out -> latents */

#endif
