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

static const float GROUP_EPS = 1e-6f, LAYER_EPS = 1e-5f;

static void declare_transformer_block(weight_builder *b, transformer_block *l, const char *at,
                                      int c, int c_text)
{
    static const char *const QKV[] = { "attn1.to_q", "attn1.to_k", "attn1.to_v" };
    static const char *const KV[] = { "attn2.to_k", "attn2.to_v" };

    l->norm1 = declare_norm(b, at, "norm1", c);
    l->qkv = declare_stack(b, SEG_UNET, at, "attn1.qkv", QKV, 3, false, c, c);
    l->out1 = declare_linear(b, SEG_UNET, at, "attn1.to_out.0", c, c);
    l->norm2 = declare_norm(b, at, "norm2", c);
    l->kv = declare_stack(b, SEG_ONCE, at, "attn2.kv", KV, 2, false, c, c_text);
    l->q = declare_matrix(b, SEG_UNET, at, "attn2.to_q", c, c);
    l->out2 = declare_linear(b, SEG_UNET, at, "attn2.to_out.0", c, c);
    l->norm3 = declare_norm(b, at, "norm3", c);
    l->ff1 = declare_gated(b, SEG_UNET, at, "ff.net.0.proj", 8 * c, c);
    l->ff2 = declare_linear(b, SEG_UNET, at, "ff.net.2", c, 4 * c);
}

void transformer_declare(weight_builder *b, transformer *t, const char *at, int c, int heads,
                         int depth, int groups, int c_text)
{
    char path[WEIGHT_NAME];
    assert(depth <= TRANSFORMER_MAX_DEPTH);
    *t = (transformer){ .c = c, .heads = heads, .depth = depth, .groups = groups };
    t->norm = declare_norm(b, at, "norm", c);
    t->proj_in = declare_linear(b, SEG_UNET, at, "proj_in", c, c);
    for (int i = 0; i < depth; i++) {
        format_path(path, "%s.transformer_blocks.%d", at, i);
        declare_transformer_block(b, &t->block[i], path, c, c_text);
    }
    t->proj_out = declare_linear(b, SEG_UNET, at, "proj_out", c, c);
}

void transformer_project_prompt(forward_ctx *r, transformer *t, tensor text)
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
