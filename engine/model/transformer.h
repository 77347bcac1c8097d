/* engine/model/transformer.h -- the UNet's Transformer2DModel: self- and cross-attention. */
#ifndef REFINE_TRANSFORMER_H
#define REFINE_TRANSFORMER_H

#include "engine/model/forward.h"

enum { TRANSFORMER_MAX_DEPTH = 16 };

typedef struct transformer_block {
    affine_ref norm1, qkv, out1;
    affine_ref norm2, kv, q, out2;
    affine_ref norm3, ff1, ff2;
    tensor context; /* keys | values of the prompt, (n,1,77,2c), once per image */
} transformer_block;

typedef struct transformer {
    int c, heads, depth, groups;
    affine_ref norm, proj_in, proj_out;
    transformer_block block[TRANSFORMER_MAX_DEPTH];
} transformer;

/* `at` is its path; c_text: channels of the prompt's states. */
void transformer_declare(weight_builder *b, transformer *t, const char *at, int c, int heads,
                         int depth, int groups, int c_text);

/* Once per image: keys and values of the prompt for every block, left in scratch. */
void transformer_project_prompt(forward_ctx *r, transformer *t, tensor text);

/* x += transformer(x), in place. */
void transformer_forward(forward_ctx *r, const transformer *t, tensor x);

#endif
