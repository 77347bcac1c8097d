/* tools/source/ldm_names.h -- from the single file's tensor names to the canonical ones.
 *
 * Canonical names are diffusers' behind "unet.", "vae.", "text." (OpenCLIP bigG) or "text_l."
 * (CLIP ViT-L; engine/model/weight_list.h).  The few tensors that hold no weight and mark how a
 * model was trained ("v_pred", "ztsnr", "edm_mean", "edm_std", "edm_vpred.sigma_max") keep theirs.
 */
#ifndef REFINE_LDM_NAMES_H
#define REFINE_LDM_NAMES_H

#include "engine/model/weight_list.h"

#include <stdbool.h>

/* What must be known of the model before its blocks can be renumbered. */
typedef struct ldm_shape {
    int unet_resnets; /* per down block */
    int vae_levels;
} ldm_shape;

typedef enum ldm_view {
    LDM_WHOLE,     /* one name, the tensor as it is */
    LDM_THIRDS,    /* three names, a third of the rows each: q, k, v */
    LDM_TRANSPOSED /* one name, rows and columns swapped */
} ldm_view;

typedef struct ldm_name {
    ldm_view view;
    char name[3][WEIGHT_NAME];
} ldm_name;

/* False: no weight of a UNet, a text encoder or a VAE, and no mark. */
bool ldm_translate(ldm_name *out, const char *ldm, const ldm_shape *shape);

#endif
