/* engine/model/text_encoder.c -- OpenCLIP ViT-bigG-14's text tower.
 *
 *     x  = token[id] + position
 *     x += out(attention(norm1(x)))      causal, heads of 64; 32 layers
 *     x += fc2(gelu(fc1(norm2(x))))      gelu by erf
 *     context = x before the last layer, without the final norm
 *     pooled  = projection(final_norm(x after the last layer)[eos])
 *
 * Reference: transformers CLIPTextModelWithProjection, hidden_states[-2] and text_embeds.
 * Everything is F32: 77 tokens weigh nothing.
 */
#include "engine/model/text_encoder.h"

#include "engine/base/mem.h"
#include "engine/base/try.h"
#include "quant/f16.h"

#include <assert.h>
#include <math.h>
#include <string.h>

static const float EPS = 1e-5f;

void text_bind(text_encoder *t, const model *m)
{
    t->c = &m->l.config.text;
    assert(t->c->layers <= TEXT_MAX_LAYERS);
    t->tokens = model_weight(m, "text.text_model.embeddings.token_embedding.weight");
    t->positions = model_weight(m, "text.text_model.embeddings.position_embedding.weight");
    t->norm = affine_bind(m, true, "text.text_model.final_layer_norm");
    t->projection = affine_bind(m, false, "text.text_projection");
    for (int i = 0; i < t->c->layers; i++) {
        text_layer *l = &t->layer[i];
        l->norm1 = affine_bind(m, true, "text.text_model.encoder.layers.%d.layer_norm1", i);
        l->qkv = affine_bind(m, true, "text.text_model.encoder.layers.%d.self_attn.qkv", i);
        l->out = affine_bind(m, true, "text.text_model.encoder.layers.%d.self_attn.out_proj", i);
        l->norm2 = affine_bind(m, true, "text.text_model.encoder.layers.%d.layer_norm2", i);
        l->fc1 = affine_bind(m, true, "text.text_model.encoder.layers.%d.mlp.fc1", i);
        l->fc2 = affine_bind(m, true, "text.text_model.encoder.layers.%d.mlp.fc2", i);
    }
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
        TRY(pack_read_row(m->p, t->tokens, ids[i], half, err));
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
    forward_linear(r, wide, n, l->fc1, (epilogue){ .act = ACT_GELU });
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

void text_forward(forward_ctx *r, const text_encoder *t, tensor embedded, const int *eos,
                  tensor pooled)
{
    for (int i = 0; i + 1 < t->c->layers; i++)
        layer_forward(r, t, &t->layer[i], embedded);
    forward_report(r, embedded, "text.hidden");

    tensor last = scratch_alloc(&r->mem, DT_F32, embedded.n, 1, embedded.w, t->c->width);
    tensor end = scratch_alloc(&r->mem, DT_F32, embedded.n, 1, 1, t->c->width);
    op_convert(r->d, last, embedded);
    layer_forward(r, t, &t->layer[t->c->layers - 1], last);
    for (int i = 0; i < last.n; i++)
        op_layernorm(r->d, tensor_images(end, i, 1), token_view(last, i, eos[i]),
                     forward_vector(r, t->norm.weight), forward_vector(r, t->norm.bias), EPS);
    forward_linear(r, pooled, end, t->projection, (epilogue){ 0 });
    forward_report(r, pooled, "text.pooled");
    scratch_free(&r->mem, end);
    scratch_free(&r->mem, last);
}
