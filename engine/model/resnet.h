/* engine/model/resnet.h -- the residual block of UNet and VAE. */
#ifndef REFINE_RESNET_H
#define REFINE_RESNET_H

#include "engine/model/feature_map.h"

typedef struct resnet {
    int c_in, c_out, groups;
    int emb_at; /* its channels in the embedding table (engine/model/conditioning.h) */
    float eps;
    affine_ref norm1, conv1, emb, norm2, shortcut, conv2; /* shortcut iff c_in != c_out */
} resnet;

/* `at` is the block's path; c_emb == 0: a block without embedding (the VAE's). */
resnet resnet_declare(weight_builder *b, segment seg, const char *at, int c_in, int c_out,
                      int c_emb, int groups, float eps);

/* The UNet's block over [x | skip] (skip may be absent).  emb: (n,1,1,c_out), already
 * projected.  With `consume`, x and skip are given back to scratch (the result may lie in
 * x's place). */
tensor resnet_forward(forward_ctx *r, const resnet *b, tensor x, tensor skip, tensor emb,
                      bool consume);

/* The VAE's block, in bands; x is consumed and the result may lie in its place. */
feature_map resnet_forward_banded(forward_ctx *r, const resnet *b, feature_map x);

#endif
