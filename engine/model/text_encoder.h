/* engine/model/text_encoder.h -- a CLIP text tower: token ids to the prompt's states. */
#ifndef REFINE_TEXT_ENCODER_H
#define REFINE_TEXT_ENCODER_H

#include "engine/model/forward.h"

enum { TEXT_TOKENS = 77, TEXT_MAX_LAYERS = 128, TEXT_EOS = 49407 };

typedef struct text_layer {
    affine_ref norm1, qkv, out, norm2, fc1, fc2;
} text_layer;

typedef struct text_encoder {
    const text_config *c;
    const char *at; /* "text": how its names begin */
    wref tokens, positions;
    affine_ref norm, projection;
    text_layer layer[TEXT_MAX_LAYERS];
} text_encoder;

/* `at` is the component's prefix, "text"; it and `c` must outlive t.  Without a projection the last
 * layer is of no use to anybody, and is not declared. */
void text_declare(weight_builder *b, text_encoder *t, const char *at, const text_config *c);

/* Token embeddings of `ids` from the pack plus `positions`: TEXT_TOKENS * width floats. */
refine_status text_embed(const text_encoder *t, const struct model *m, const float *positions,
                         const int ids[TEXT_TOKENS], float *out, refine_error *err);

/* embedded: F32 (n,1,77,width), is overwritten with the context of the UNet: the output of the
 * last layer but one, or of prompt i of skip[i] layers before that.  early: host, as large as
 * embedded; keeps such prompts until the later layers are done.  pooled: F32 (n,1,1,projection),
 * the projection of the final state at eos[i], the prompt's first end token.  A tower without a
 * projection uses neither eos nor pooled. */
void text_forward(forward_ctx *r, const text_encoder *t, tensor embedded, const int *skip,
                  float *early, const int *eos, tensor pooled);

/* Index of the first largest id: the first end token, since no id is larger. */
int text_eos(const int ids[TEXT_TOKENS]);

#endif
