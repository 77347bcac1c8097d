/* engine/model/unet.h -- the refiner's UNet: eps(x, t | prompt, micro-conditioning). */
#ifndef REFINE_UNET_H
#define REFINE_UNET_H

#include "engine/model/resnet.h"
#include "engine/model/transformer.h"

enum { UNET_MAX_BLOCKS = 9 }; /* of one level: unet_config.resnets + 1 */

typedef struct unet_block {
    resnet res;
    transformer att; /* depth 0: none */
} unet_block;

typedef struct unet_level {
    char at[WEIGHT_NAME]; /* "unet.down_blocks.0" */
    int n;
    unet_block block[UNET_MAX_BLOCKS];
    affine_ref sample; /* down- or upsampling convolution; or absent */
} unet_level;

typedef struct unet {
    const unet_config *c;
    affine_ref add1, add2, time1, time2;
    affine_ref conv_in, norm_out, conv_out;
    unet_level level[2 * LEVELS_MAX + 1]; /* down, mid, up, in the order of a pass */
    int n_levels;
    int emb_channels; /* of all resnets together: columns of the embedding table */
} unet;

/* `c` must outlive u. */
void unet_declare(weight_builder *b, unet *u, const unet_config *c);

/* One evaluation.  x: F32 (n,h,w,4), scaled by the sampler; eps: F32, the same shape.
 * table: F32 (n,1,1,emb_channels), this step's row (engine/model/conditioning.h).  The
 * transformers hold the prompt already (transformer_project_prompt). */
void unet_forward(forward_ctx *r, const unet *u, tensor eps, tensor x, tensor table);

#endif
