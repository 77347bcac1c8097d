/* engine/model/vae.h -- AutoencoderKL: pixels to latents and back, in exact row bands. */
#ifndef REFINE_VAE_H
#define REFINE_VAE_H

#include "engine/model/resnet.h"

enum { VAE_MAX_RESNETS = 9, VAE_SCALE = 8, VAE_EXP2 = 5 };

typedef struct vae_level {
    int resnets;
    resnet res[VAE_MAX_RESNETS];
    affine_ref sample; /* or absent */
} vae_level;

typedef struct vae_mid {
    resnet res[2];
    affine_ref norm, qkv, out;
} vae_mid;

/* In the order of the encoder; the decoder's is quant (post_quant_conv), conv_in, mid, level. */
typedef struct vae_half {
    affine_ref conv_in;
    vae_level level[LEVELS_MAX];
    vae_mid mid;
    affine_ref norm_out, conv_out, quant;
} vae_half;

typedef struct vae {
    const vae_config *c;
    vae_half encoder, decoder;
} vae;

/* Each half is declared where a run comes to it; `c` must outlive v. */
void vae_declare_encoder(weight_builder *b, vae *v, const vae_config *c);
void vae_declare_decoder(weight_builder *b, vae *v, const vae_config *c);

/* pixels: F32 (1,8h,8w,3) in [-1,1].  moments: F32 (1,h,w,8): means, then log variances. */
void vae_encode(forward_ctx *r, const vae *v, tensor moments, tensor pixels);

/* latents: F32 (1,h,w,4), already divided by the scaling factor, is given back to scratch.
 * Returns pixels from scratch: F32 (1,8h,8w,3), nominally in [-1,1]. */
tensor vae_decode(forward_ctx *r, const vae *v, tensor latents);

#endif
