/* tools/source/checkpoint.h -- a published checkpoint as a source of weights.
 *
 *   single file   sd_xl_refiner_1.0.safetensors: sgm's names; configuration from the shapes
 *   directory     as diffusers keeps it: unet/ vae/ text_encoder_2/, each with config.json and
 *                 fp16 or fp32 weights in one file or in shards
 *
 * Weights may be F16, F32, BF16 or F64, mixed, at any alignment.  After checkpoint_open
 * every tensor of the layout was found and has the right shape.
 */
#ifndef REFINE_CHECKPOINT_H
#define REFINE_CHECKPOINT_H

#include "tools/source/weight_source.h"

/* REFINE_EFORMAT: no refiner, or a damaged one: the text says what it is.  REFINE_EIO: not
 * readable.  Free with s->close(s). */
refine_status checkpoint_open(weight_source **out, const char *path, refine_error *err);

#endif
