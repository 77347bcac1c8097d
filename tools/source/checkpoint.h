/* tools/source/checkpoint.h -- a published checkpoint as a source of weights.
 *
 *   single file   sd_xl_base_1.0.safetensors, sd_xl_refiner_1.0.safetensors and what has their
 *                 shapes: sgm's names; configuration from the shapes
 *   directory     as diffusers keeps it: unet/ vae/ text_encoder_2/ and of a base text_encoder/,
 *                 each with config.json and weights in one file or in shards; or as the hub's
 *                 cache keeps that
 *
 * Weights may be F16, F32, BF16, F64, F8_E4M3 or F8_E5M2, mixed, at any alignment, and may have a
 * scale for the whole tensor (X.scale_weight or X.weight_scale of X.weight).  After checkpoint_open
 * every tensor of the layout was found and has the right shape.
 */
#ifndef REFINE_CHECKPOINT_H
#define REFINE_CHECKPOINT_H

#include "tools/source/schedule_choices.h"
#include "tools/source/weight_source.h"

typedef struct checkpoint_choices {
    const char *vae;     /* whose VAE takes the place of the checkpoint's; NULL: its own */
    const char *variant; /* of a directory's weights, such as "fp16"; NULL: see component_files.h */
    schedule_choices schedule;
} checkpoint_choices;

/* choices: NULL for none.
 * REFINE_EFORMAT: no base and no refiner, or a damaged one: the text says what it is.
 * REFINE_EIO: not readable.  Free with s->close(s). */
refine_status checkpoint_open(weight_source **out, const char *path,
                              const checkpoint_choices *choices, refine_error *err);

#endif
