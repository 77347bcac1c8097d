/* tools/source/config_diffusers.h -- the model's numbers out of a diffusers directory's JSON
 * files. */
#ifndef REFINE_CONFIG_DIFFUSERS_H
#define REFINE_CONFIG_DIFFUSERS_H

#include "engine/model/model_config.h"
#include "tools/source/schedule_choices.h"

/* Reads dir/unet/config.json, text_encoder_2/config.json, vae/config.json and, where they are,
 * text_encoder/config.json (of a base), scheduler/scheduler_config.json and model_index.json.
 * REFINE_EFORMAT when the directory is another model (the text says which) or asks for something
 * this engine does not do.  chosen, or NULL: what is not left to the scheduler's file, and not
 * refused for what that says of it. */
refine_status config_from_diffusers(model_config *out, const char *dir,
                                    const schedule_choices *chosen, refine_error *err);

/* Does what dir/config.json says of a VAE, beyond its shapes, fit a model of this configuration? */
refine_status config_check_vae(const char *dir, const vae_config *want, refine_error *err);

#endif
