/* engine/model/transformer.c -- Transformer2DModel of the UNet.
 *
 *     y  = proj_in(norm(x))                       GroupNorm, pixels become tokens
 *     y += attn1(norm1(y))                        to itself
 *     y += attn2(norm2(y), text)                  to the prompt
 *     y += ff2(a * gelu(g)),  [a g] = ff1(norm3(y))
 *     x += proj_out(y)
 *
 * Reference: diffusers BasicTransformerBlock and Transformer2DModel with
 * use_linear_projection.  No bias in q, k, v; GELU by erf; GroupNorm eps 1e-6,
 * LayerNorm eps 1e-5.  q, k, v are one matrix; value and gate rows of ff1 alternate.
 * Keys and values of the prompt do not change between steps and are computed once.
 */
#include "engine/model/transformer.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>

static const float GROUP_EPS = 1e-6f, LAYER_EPS = 1e-5f;

static void block_bind(transformer_block *b, const model *m, const char *at, int i)
{
    char p[WEIGHT_NAME];
    snprintf(p, sizeof p, "%s.transformer_blocks.%d", at, i);
    b->norm1 = affine_bind(m, true, "%s.norm1", p);
    b->qkv = affine_bind(m, false, "%s.attn1.qkv", p);
    b->out1 = affine_bind(m, true, "%s.attn1.to_out.0", p);
    b->norm2 = affine_bind(m, true, "%s.norm2", p);
    b->kv = affine_bind(m, false, "%s.attn2.kv", p);
    b->q = affine_bind(m, false, "%s.attn2.to_q", p);
    b->out2 = affine_bind(m, true, "%s.attn2.to_out.0", p);
    b->norm3 = affine_bind(m, true, "%s.norm3", p);
    b->ff1 = affine_bind(m, true, "%s.ff.net.0.proj", p);
    b->ff2 = affine_bind(m, true, "%s.ff.net.2", p);
}

void transformer_bind(transformer *t, const model *m, const char *at, int c, int heads, int depth,
                      int groups)
{
    assert(depth <= TRANSFORMER_MAX_DEPTH);
    t->c = c;
    t->heads = heads;
    t->depth = depth;
    t->groups = groups;
    t->norm = affine_bind(m, true, "%s.norm", at);
    t->proj_in = affine_bind(m, true, "%s.proj_in", at);
    t->proj_out = affine_bind(m, true, "%s.proj_out", at);
    for (int i = 0; i < depth; i++)
        block_bind(&t->block[i], m, at, i);
}

void transformer_attend_prompt(forward_ctx *r, transformer *t, tensor text)
{
    for (int i = 0; i < t->depth; i++) {
        t->block[i].context = scratch_alloc(&r->mem, r->act, text.n, 1, text.w, 2 * t->c);
        forward_linear(r, t->block[i].context, text, t->block[i].kv, (epilogue){ 0 });
    }
}

static float head_scale(const transformer *t) { return 1.0f / sqrtf((float)(t->c / t->heads)); }

static tensor take_pixels_like(forward_ctx *r, tensor y, int c)
{
    return scratch_alloc(&r->mem, r->act, y.n, y.h, y.w, c);
}

static tensor take_layernorm(forward_ctx *r, tensor y, affine_ref norm)
{
    tensor t = take_pixels_like(r, y, y.c);
    op_layernorm(r->d, t, y, forward_vector(r, norm.weight), forward_vector(r, norm.bias),
                 LAYER_EPS);
    return t;
}

/* y += out1(softmax(q k^T) v) */
static void attend_self(forward_ctx *r, const transformer *t, const transformer_block *b, tensor y)
{
    tensor n = take_layernorm(r, y, b->norm1);
    tensor qkv = take_pixels_like(r, y, 3 * t->c);
    forward_linear(r, qkv, n, b->qkv, (epilogue){ 0 });

    /* The normalised copy is done with: its place takes the result. */
    op_attention(r->d, n, tensor_channels(qkv, 0, t->c), tensor_channels(qkv, t->c, t->c),
                 tensor_channels(qkv, 2 * t->c, t->c), t->heads, head_scale(t), false);
    scratch_free(&r->mem, qkv);
    forward_linear(r, y, n, b->out1, (epilogue){ .residual = y });
    scratch_free(&r->mem, n);
}

/* y += out2(softmax(q k^T) v), keys and values of the prompt */
static void attend_text(forward_ctx *r, const transformer *t, const transformer_block *b, tensor y)
{
    tensor n = take_layernorm(r, y, b->norm2);
    tensor q = take_pixels_like(r, y, t->c);
    forward_linear(r, q, n, b->q, (epilogue){ 0 });
    const tensor context = tensor_images(b->context, r->batch0, y.n);
    op_attention(r->d, n, q, tensor_channels(context, 0, t->c),
                 tensor_channels(context, t->c, t->c), t->heads, head_scale(t), false);
    scratch_free(&r->mem, q);
    forward_linear(r, y, n, b->out2, (epilogue){ .residual = y });
    scratch_free(&r->mem, n);
}

/* y += ff2(a * gelu(g)) */
static void feed_forward(forward_ctx *r, const transformer *t, const transformer_block *b, tensor y)
{
    tensor n = take_layernorm(r, y, b->norm3);
    tensor wide = take_pixels_like(r, y, 4 * t->c);
    forward_linear(r, wide, n, b->ff1, (epilogue){ .act = ACT_GEGLU });
    scratch_free(&r->mem, n);
    forward_linear(r, y, wide, b->ff2, (epilogue){ .residual = y });
    scratch_free(&r->mem, wide);
}

void transformer_forward(forward_ctx *r, const transformer *t, tensor x)
{
    tensor affine = forward_groupnorm(r, x, (tensor){ 0 }, t->norm, t->groups, GROUP_EPS);
    tensor n = take_pixels_like(r, x, t->c);
    op_apply_norm(r->d, n, x, (tensor){ 0 }, affine, ACT_NONE);
    scratch_free(&r->mem, affine);

    tensor y = take_pixels_like(r, x, t->c);
    forward_linear(r, y, n, t->proj_in, (epilogue){ 0 });
    scratch_free(&r->mem, n);
    for (int i = 0; i < t->depth; i++) {
        attend_self(r, t, &t->block[i], y);
        attend_text(r, t, &t->block[i], y);
        feed_forward(r, t, &t->block[i], y);
    }
    forward_linear(r, x, y, t->proj_out, (epilogue){ .residual = x });
    scratch_free(&r->mem, y);
}
