/* engine/model/text_encoder.c -- the text towers of OpenCLIP ViT-bigG-14 and CLIP ViT-L-14.
 *
 *     x  = token[id] + position
 *     x += out(attention(norm1(x)))      causal, heads of 64; 32 layers, or 12
 *     x += fc2(gelu(fc1(norm2(x))))      gelu by erf, or the quick one
 *     context = x before the last layer, or some layers earlier, without the final norm
 *     pooled  = projection(final_norm(x after the last layer)[eos])      bigG's alone
 *
 * Reference: transformers CLIPTextModelWithProjection and CLIPTextModel, hidden_states[-2 - skip]
 * and text_embeds.
 * Everything is F32: 77 tokens weigh nothing.
 */
#include "engine/model/text_encoder.h"

#include "engine/base/mem.h"
#include "engine/base/try.h"
#include "engine/model/model.h"
#include "quant/f16.h"

#include <assert.h>
#include <math.h>
#include <string.h>

static const float EPS = 1e-5f;

static void declare_text_layer(weight_builder *b, text_layer *l, const char *at,
                               const text_config *c)
{
    static const char *const QKV[] = { "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj" };
    const int width = c->width;

    l->norm1 = declare_norm(b, at, "layer_norm1", width);
    l->qkv = declare_stack(b, SEG_TEXT, at, "self_attn.qkv", QKV, 3, true, width, width);
    l->out = declare_linear(b, SEG_TEXT, at, "self_attn.out_proj", width, width);
    l->norm2 = declare_norm(b, at, "layer_norm2", width);
    l->fc1 = declare_linear(b, SEG_TEXT, at, "mlp.fc1", c->mlp, width);
    l->fc2 = declare_linear(b, SEG_TEXT, at, "mlp.fc2", width, c->mlp);
}

/* The context is what the layers before the last give; the last serves the projection. */
static int needed_layers(const text_config *c) { return c->projection ? c->layers : c->layers - 1; }

void text_declare(weight_builder *b, text_encoder *t, const char *at, const text_config *c)
{
    char path[WEIGHT_NAME];
    assert(c->layers <= TEXT_MAX_LAYERS);
    *t = (text_encoder){ .c = c, .at = at };

    format_path(path, "%s.text_model.embeddings", at);
    t->tokens = declare_matrix(b, SEG_TOKENS, path, "token_embedding", c->vocab, c->width).weight;
    t->positions = declare_vector(b, path, "position_embedding", c->context * c->width);
    for (int i = 0; i < needed_layers(c); i++) {
        format_path(path, "%s.text_model.encoder.layers.%d", at, i);
        declare_text_layer(b, &t->layer[i], path, c);
    }
    if (!c->projection)
        return;
    t->norm = declare_norm(b, at, "text_model.final_layer_norm", c->width);
    t->projection = declare_matrix(b, SEG_TEXT, at, "text_projection", c->projection, c->width);
}

refine_status text_embed(const text_encoder *t, const model *m, const float *positions,
                         const int ids[TEXT_TOKENS], float *out, refine_error *err)
{
    const size_t width = (size_t)t->c->width;
    uint16_t *half = (uint16_t *)(out + (TEXT_TOKENS - 1) * width); /* decoded last, in place */

    for (int i = 0; i < TEXT_TOKENS; i++) {
        float *row = out + (size_t)i * width;
        if (i > 0 && ids[i] == ids[i - 1]) {
            memcpy(row, row - width, width * sizeof *row);
            continue;
        }
        TRY(pack_read_row(m->p, weight_index(&m->l, t->tokens), ids[i], half, err));
        if (i + 1 < TEXT_TOKENS) {
            f16_decode(row, half, width);
            continue;
        }
        for (size_t k = width; k-- > 0;) /* in place: from the end */
            row[k] = f16_to_f32(half[k]);
    }
    for (size_t i = 0; i < TEXT_TOKENS * width; i++)
        out[i] += positions[i];
    return REFINE_OK;
}

int text_eos(const int ids[TEXT_TOKENS])
{
    int best = 0;
    for (int i = 1; i < TEXT_TOKENS; i++)
        if (ids[i] > ids[best])
            best = i;
    return best;
}

static void layer_forward(forward_ctx *r, const text_encoder *t, const text_layer *l, tensor x)
{
    const int c = t->c->width;
    tensor n = scratch_alloc(&r->mem, DT_F32, x.n, 1, x.w, c);
    tensor qkv = scratch_alloc(&r->mem, DT_F32, x.n, 1, x.w, 3 * c);

    /* x += out(attention(norm1(x))) */
    op_layernorm(r->d, n, x, forward_vector(r, l->norm1.weight), forward_vector(r, l->norm1.bias),
                 EPS);
    forward_linear(r, qkv, n, l->qkv, (epilogue){ 0 });
    op_attention(r->d, n, tensor_channels(qkv, 0, c), tensor_channels(qkv, c, c),
                 tensor_channels(qkv, 2 * c, c), t->c->heads,
                 1.0f / sqrtf((float)(c / t->c->heads)), true);
    scratch_free(&r->mem, qkv);
    forward_linear(r, x, n, l->out, (epilogue){ .residual = x });

    /* x += fc2(gelu(fc1(norm2(x)))) */
    tensor wide = scratch_alloc(&r->mem, DT_F32, x.n, 1, x.w, t->c->mlp);
    op_layernorm(r->d, n, x, forward_vector(r, l->norm2.weight), forward_vector(r, l->norm2.bias),
                 EPS);
    forward_linear(r, wide, n, l->fc1,
                   (epilogue){ .act = t->c->quick_gelu ? ACT_QUICK_GELU : ACT_GELU });
    forward_linear(r, x, wide, l->fc2, (epilogue){ .residual = x });
    scratch_free(&r->mem, wide);
    scratch_free(&r->mem, n);
}

/* Token `i` of prompt `n` alone. */
static tensor token_view(tensor x, int n, int i)
{
    tensor t = tensor_images(x, n, 1);
    t.data = (char *)t.data + (size_t)i * (size_t)t.stride * dtype_bytes(t.type);
    t.w = 1;
    return t;
}

/* Prompts whose context this is, with so many layers to come before the usual one. */
static void keep_early_states(forward_ctx *r, tensor x, const int *skip, int to_come, float *early)
{
    for (int i = 0; i < x.n; i++)
        if (to_come > 0 && skip[i] == to_come) {
            const tensor one = tensor_images(x, i, 1);
            dev_get(r->d, early + (size_t)i * tensor_bytes(one) / sizeof *early, one.data,
                    tensor_bytes(one));
        }
}

static void return_early_states(forward_ctx *r, tensor x, const int *skip, const float *early)
{
    for (int i = 0; i < x.n; i++)
        if (skip[i] > 0) {
            const tensor one = tensor_images(x, i, 1);
            dev_put(r->d, one.data, early + (size_t)i * tensor_bytes(one) / sizeof *early,
                    tensor_bytes(one));
        }
}

/* last: what the layers before the last gave; is consumed. */
static void pool_states(forward_ctx *r, const text_encoder *t, tensor last, const int *eos,
                        tensor pooled)
{
    tensor end = scratch_alloc(&r->mem, DT_F32, last.n, 1, 1, t->c->width);
    layer_forward(r, t, &t->layer[t->c->layers - 1], last);
    for (int i = 0; i < last.n; i++)
        op_layernorm(r->d, tensor_images(end, i, 1), token_view(last, i, eos[i]),
                     forward_vector(r, t->norm.weight), forward_vector(r, t->norm.bias), EPS);
    forward_linear(r, pooled, end, t->projection, (epilogue){ 0 });
    forward_report(r, pooled, "%s.pooled", t->at);
    scratch_free(&r->mem, end);
    scratch_free(&r->mem, last);
}

void text_forward(forward_ctx *r, const text_encoder *t, tensor embedded, const int *skip,
                  float *early, const int *eos, tensor pooled)
{
    tensor last = { 0 };
    for (int i = 0; i + 1 < t->c->layers; i++) {
        keep_early_states(r, embedded, skip, t->c->layers - 1 - i, early);
        layer_forward(r, t, &t->layer[i], embedded);
    }
    if (t->c->projection) { /* from the last layer, whatever the context is */
        last = scratch_alloc(&r->mem, DT_F32, embedded.n, 1, embedded.w, t->c->width);
        op_convert(r->d, last, embedded);
    }
    return_early_states(r, embedded, skip, early);
    forward_report(r, embedded, "%s.hidden", t->at);
    if (t->c->projection)
        pool_states(r, t, last, eos, pooled);
}
