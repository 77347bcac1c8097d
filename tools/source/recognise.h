/* tools/source/recognise.h -- what a checkpoint is, also when it cannot be packed. */
#ifndef REFINE_RECOGNISE_H
#define REFINE_RECOGNISE_H

#include "engine/model/model_config.h"
#include "tools/files/safetensors.h"
#include "tools/source/tensor_index.h"

#include <stdbool.h>

/* REFINE_OK: has the names of a complete base or refiner in the single-file layout; with_vae: the
 * VAE comes from elsewhere.  REFINE_EFORMAT: the text says what it is and what to give instead. */
refine_status recognise_checkpoint(const safetensors *f, bool with_vae, refine_error *err);

/* The same of the tensors under their canonical names: REFINE_EFORMAT for a model that only looks
 * like one of the two. */
refine_status recognise_relative(const tensor_index *ix, const char *path, refine_error *err);

/* "sdxl-base" or "sdxl-refiner": what has the structure of one, fine-tunes and tiny ones too. */
const char *recognise_config(const model_config *c);

#endif
