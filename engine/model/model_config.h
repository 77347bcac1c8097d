/* engine/model/model_config.h -- the model as numbers: every width and depth of a checkpoint.
 *
 * The real refiner is one configuration; tests use tiny ones.  It travels inside
 * the pack as JSON and is validated on reading: every value bounded, so that the
 * layout computed from it cannot overflow.
 */
#ifndef REFINE_MODEL_CONFIG_H
#define REFINE_MODEL_CONFIG_H

#include "engine/sampling/noise_schedule.h"

#include <refine/status.h>

#include <stdbool.h>
#include <stddef.h>

enum { LEVELS_MAX = 6, LATENT_CHANNELS = 4 /* of every supported model */ };

typedef struct unet_config {
    int levels;                 /* 4 */
    int channels[LEVELS_MAX];   /* 384, 768, 1536, 1536 */
    bool attention[LEVELS_MAX]; /* no, yes, yes, no: down block i and up block levels-1-i */
    int depth[LEVELS_MAX];      /* transformer blocks per Transformer2D at level i: 4 */
    int heads[LEVELS_MAX];      /* 6, 12, 24, 24 */
    int mid_depth, mid_heads;   /* 4, 24 */
    int resnets;                /* per down block: 2 (up blocks have one more) */
    int context_dim;            /* 1280 */
    int add_embed_dim;          /* 2560 = pooled + n_ids * id_embed_dim */
    int id_embed_dim;           /* 256, sinusoid of one micro-conditioning number */
    int groups;                 /* 32 */
    int in_channels;            /* 4 */
} unet_config;

typedef struct text_config {
    int vocab, context;       /* 49408, 77 */
    int width, layers, heads; /* 1280, 32, 20 */
    int mlp, projection;      /* 5120, 1280; 0: no pooled state is projected */
    int quick_gelu;           /* 0: the exact gelu */
} text_config;

typedef struct vae_config {
    int levels;               /* 4 */
    int channels[LEVELS_MAX]; /* 128, 256, 512, 512 */
    int resnets;              /* per encoder block: 2 (decoder blocks have one more) */
    int latent_channels;      /* 4 */
    int groups;               /* 32 */
    float scaling_factor;     /* 0.13025 */
} vae_config;

typedef struct prompt_config {
    int zero_negative; /* an absent negative prompt is zeros, and not an empty prompt's states */
} prompt_config;

/* The UNet's context is the states of `text_l`, if there is one, beside those of `text`. */
typedef struct model_config {
    unet_config unet;
    text_config text;   /* OpenCLIP bigG, which also gives the pooled prompt */
    text_config text_l; /* CLIP ViT-L, of the base; of 0 layers: absent */
    prompt_config prompt;
    vae_config vae;
    schedule_config schedule;
} model_config;

extern const model_config MODEL_REFINER;   /* the published refiner 1.0 */
extern const model_config MODEL_BASE;      /* the published base 1.0 */
extern const model_config MODEL_TINY;      /* the refiner's structure, seconds for minutes */
extern const model_config MODEL_TINY_BASE; /* the base's, likewise */

/* Micro-conditioning numbers: 5 (with an aesthetic score), or 6 (with a target size). */
int model_config_ids(const model_config *c);

/* Bounds and divisibility: REFINE_EFORMAT names the first value that is off. */
refine_status model_config_check(const model_config *c, refine_error *err);

/* To and from the pack's JSON object (member "model").  `dump` returns text to be
 * freed with mem_free, NULL when out of memory. */
char *model_config_dump(const model_config *c);
refine_status model_config_parse(model_config *c, const char *json, size_t len, refine_error *err);

#endif
