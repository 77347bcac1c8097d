/* engine/model/unet.h -- the refiner's UNet: eps(x, t | prompt, micro-conditioning). */
#ifndef REFINE_UNET_H
#define REFINE_UNET_H

#include "engine/model/resnet.h"
#include "engine/model/transformer.h"

enum { UNET_MAX_RESNETS = 9 }; /* of one up block: unet_config.resnets + 1 */

typedef struct unet_level {
    int resnets;
    bool attention;
    resnet res[UNET_MAX_RESNETS];
    transformer att[UNET_MAX_RESNETS];
    affine_ref sample; /* down- or upsampling convolution; NO_WEIGHT: none */
} unet_level;

typedef struct unet {
    const unet_config *c;
    affine_ref time1, time2, add1, add2;
    affine_ref conv_in, norm_out, conv_out;
    unet_level down[LEVELS_MAX], up[LEVELS_MAX];
    resnet mid[2];
    transformer mid_att;
    int emb_channels; /* of all resnets together: columns of the embedding table */
} unet;

void unet_bind(unet *u, const model *m);

/* Calls `each_resnet` and `each_transformer` for every block in the order a pass runs them. */
void unet_visit_layers(unet *u, void *context, void (*each_resnet)(void *, resnet *),
                       void (*each_transformer)(void *, transformer *));

/* One evaluation.  x: F32 (n,h,w,4), scaled by the sampler; eps: F32, the same shape.
 * table: F32 (n,1,1,emb_channels), this step's row (engine/model/conditioning.h).  The
 * transformers hold the prompt already (transformer_attend_prompt). */
void unet_forward(forward_ctx *r, const unet *u, tensor eps, tensor x, tensor table);

#endif
