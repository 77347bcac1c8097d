/* tools/source/config_shapes.h -- the model's numbers out of its tensors' shapes. */
#ifndef REFINE_CONFIG_SHAPES_H
#define REFINE_CONFIG_SHAPES_H

#include "engine/model/model_config.h"
#include "tools/source/tensor_index.h"

/* For a single file, which carries no configuration.  What no shape tells is assumed to be
 * as published: 32 groups, the VAE's scale, the noise schedule, heads 64 wide (one head
 * where there are fewer than 64 channels) and, with a CLIP ViT-L, its activation and the base's
 * zeros for an absent negative prompt.  A tensor v_pred says that the UNet predicts v.  `path` is
 * for the error: REFINE_EFORMAT names the first tensor that is missing. */
refine_status config_from_shapes(model_config *out, const tensor_index *ix, const char *path,
                                 refine_error *err);

#endif
