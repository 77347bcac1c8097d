/* tools/source/ldm_names.h -- from the single file's tensor names to the canonical ones.
 *
 * Canonical names are diffusers' behind "unet.", "vae." or "text." (engine/model/weight_list.h).
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

/* False: no weight of the refiner's UNet, text encoder or VAE. */
bool ldm_translate(ldm_name *out, const char *ldm, const ldm_shape *shape);

#endif
