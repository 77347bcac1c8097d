/* engine/model/conditioning.h -- everything the UNet is told besides the latents, once per image.
 *
 *     emb(t)  = silu(time2(silu(time1(sinusoid(t)))) + add2(silu(add1(vector))))
 *     vector  = [pooled prompt | sinusoid of each micro-conditioning number]
 *     table   = for every resnet: its projection of emb(t), for every step t
 *
 * The silu of emb belongs to each resnet in the reference; taken once here, it is the
 * same.  Keys and values of the prompt go to the transformers (transformer.h).
 * 8 % of the UNet's weights are thus read once per image instead of once per step.
 */
#ifndef REFINE_CONDITIONING_H
#define REFINE_CONDITIONING_H

#include "engine/model/unet.h"

/* [pooled | sinusoids of the ids], add_embed_dim floats. */
void conditioning_vector(const unet_config *c, float *out, const float *pooled,
                         const float *ids, int n_ids);

/* vectors: host, n * add_embed_dim floats.  sinusoids: host, n times the same `steps` rows of
 * channels[0] floats.  Returns the table, F32 (n,1,steps,emb_channels), taken from scratch;
 * so are the transformers' contexts.  text: F32 (n,1,77,context_dim). */
tensor conditioning_forward(forward_ctx *r, unet *u, tensor text, const float *vectors,
                            const float *sinusoids, int steps);

/* The row of one step, as unet_forward takes it. */
tensor conditioning_step(tensor table, int step);

#endif
