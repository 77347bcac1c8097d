/* engine/model/weight_list.c -- the list of weights, written as a walk through the model.
 *
 * Every block lists its weights in the order its forward function touches them
 * (engine/model/unet.c, engine/model/text_encoder.c, engine/model/vae.c).  The walk tags each with
 * its segment; a stable sort by segment then gives the order of the pack.
 */
#include "engine/model/weight_list.h"

#include "engine/base/mem.h"
#include "engine/base/try.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A growing layout and the first failure, so that the walk reads as a list. */
typedef struct walk {
    weight_list *l;
    refine_status st;
} walk;

static weight_entry *append_weight_entry(walk *w)
{
    weight_list *l = w->l;
    if (w->st != REFINE_OK)
        return NULL;
    if (l->n == l->cap) {
        const int cap = l->cap ? 2 * l->cap : 512;
        weight_entry *e = mem_realloc(l->entry, (size_t)cap * sizeof *e);
        if (!e) {
            w->st = REFINE_ENOMEM;
            return NULL;
        }
        l->entry = e;
        l->cap = cap;
    }
    weight_entry *e = &l->entry[l->n++];
    memset(e, 0, sizeof *e);
    return e;
}

/* "prefix.name", asserting that it fits: names are ours, only depths come from a file. */
static void weight_join_name(char out[WEIGHT_NAME], const char *prefix, const char *name)
{
    const int n = snprintf(out, WEIGHT_NAME, "%s.%s", prefix, name);
    assert(n > 0 && n < WEIGHT_NAME);
    (void)n;
}

static void format_module_path(char out[WEIGHT_NAME], const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    const int n = vsnprintf(out, WEIGHT_NAME, fmt, ap);
    va_end(ap);
    assert(n > 0 && n < WEIGHT_NAME);
    (void)n;
}

static void list_weight(walk *w, segment seg, weight_op op, const char *prefix, const char *name,
                        const char *const *sources, int n_sources, const int shape[4])
{
    weight_entry *e = append_weight_entry(w);
    if (!e)
        return;
    weight_join_name(e->name, prefix, name);
    e->seg = seg;
    e->op = op;
    e->rows = shape[0];
    e->kh = shape[1];
    e->kw = shape[2];
    e->c_in = shape[3];
    e->n_sources = n_sources;
    for (int i = 0; i < n_sources; i++)
        weight_join_name(e->source[i], prefix, sources[i]);
}

static void list_vector(walk *w, const char *prefix, const char *name, int n)
{
    const int shape[4] = { 1, 1, 1, n };
    list_weight(w, SEG_VECTORS, WEIGHT_COPY, prefix, name, &name, 1, shape);
}

static void list_matrix(walk *w, segment seg, const char *prefix, const char *name, int rows, int k,
                        int c_in)
{
    const int shape[4] = { rows, k, k, c_in };
    list_weight(w, seg, WEIGHT_COPY, prefix, name, &name, 1, shape);
}

static void list_norm(walk *w, const char *prefix, const char *name, int c)
{
    char at[WEIGHT_NAME];
    weight_join_name(at, prefix, name);
    list_vector(w, at, "weight", c);
    list_vector(w, at, "bias", c);
}

static void list_linear(walk *w, segment seg, const char *prefix, const char *name, int rows,
                        int c_in)
{
    char at[WEIGHT_NAME];
    weight_join_name(at, prefix, name);
    list_matrix(w, seg, at, "weight", rows, 1, c_in);
    list_vector(w, at, "bias", rows);
}

static void list_conv(walk *w, segment seg, const char *prefix, const char *name, int rows, int k,
                      int c_in)
{
    char at[WEIGHT_NAME];
    weight_join_name(at, prefix, name);
    list_matrix(w, seg, at, "weight", rows, k, c_in);
    list_vector(w, at, "bias", rows);
}

/* q, k and v of one self-attention as one matrix of 3C rows. */
static void stack_qkv(walk *w, segment seg, const char *prefix, const char *const weight[3],
                      const char *const bias[3], int c)
{
    const int shape[4] = { 3 * c, 1, 1, c }, bias_shape[4] = { 1, 1, 1, 3 * c };
    list_weight(w, seg, WEIGHT_STACK, prefix, "qkv.weight", weight, 3, shape);
    if (bias)
        list_weight(w, SEG_VECTORS, WEIGHT_STACK, prefix, "qkv.bias", bias, 3, bias_shape);
}

/* ---- text encoder ---- */

static void list_text_encoder(walk *w, const text_config *c)
{
    static const char *const QKV_W[3] = { "q_proj.weight", "k_proj.weight", "v_proj.weight" };
    static const char *const QKV_B[3] = { "q_proj.bias", "k_proj.bias", "v_proj.bias" };
    char at[WEIGHT_NAME], attn[WEIGHT_NAME], mlp[WEIGHT_NAME];

    list_matrix(w, SEG_TOKENS, "text.text_model.embeddings.token_embedding", "weight", c->vocab, 1,
                c->width);
    list_vector(w, "text.text_model.embeddings.position_embedding", "weight",
                c->context * c->width);
    for (int i = 0; i < c->layers; i++) {
        format_module_path(at, "text.text_model.encoder.layers.%d", i);
        weight_join_name(attn, at, "self_attn");
        weight_join_name(mlp, at, "mlp");
        list_norm(w, at, "layer_norm1", c->width);
        stack_qkv(w, SEG_TEXT, attn, QKV_W, QKV_B, c->width);
        list_linear(w, SEG_TEXT, attn, "out_proj", c->width, c->width);
        list_norm(w, at, "layer_norm2", c->width);
        list_linear(w, SEG_TEXT, mlp, "fc1", c->mlp, c->width);
        list_linear(w, SEG_TEXT, mlp, "fc2", c->width, c->mlp);
    }
    list_norm(w, "text.text_model", "final_layer_norm", c->width);
    list_matrix(w, SEG_TEXT, "text.text_projection", "weight", c->projection, 1, c->width);
}

/* ---- blocks shared by UNet and VAE ---- */

/* c_emb == 0: a VAE block, which takes no embedding. */
static void list_resnet(walk *w, segment seg, const char *at, int c_in, int c_out, int c_emb)
{
    list_norm(w, at, "norm1", c_in);
    list_conv(w, seg, at, "conv1", c_out, 3, c_in);
    if (c_emb)
        list_linear(w, SEG_ONCE, at, "time_emb_proj", c_out, c_emb);
    list_norm(w, at, "norm2", c_out);
    if (c_in != c_out)
        list_conv(w, seg, at, "conv_shortcut", c_out, 1, c_in);
    list_conv(w, seg, at, "conv2", c_out, 3, c_out);
}

/* ---- UNet ---- */

static void list_transformer(walk *w, const char *at, int c, int depth, int context)
{
    static const char *const QKV[3] = { "to_q.weight", "to_k.weight", "to_v.weight" };
    static const char *const KV[2] = { "to_k.weight", "to_v.weight" };
    static const char *const FF_W[1] = { "proj.weight" }, *const FF_B[1] = { "proj.bias" };
    char block[WEIGHT_NAME], sub[WEIGHT_NAME];
    const int kv_shape[4] = { 2 * c, 1, 1, context };
    const int ff_shape[4] = { 8 * c, 1, 1, c }, ff_bias[4] = { 1, 1, 1, 8 * c };

    list_norm(w, at, "norm", c);
    list_linear(w, SEG_UNET, at, "proj_in", c, c);
    for (int i = 0; i < depth; i++) {
        format_module_path(block, "%s.transformer_blocks.%d", at, i);
        list_norm(w, block, "norm1", c);
        weight_join_name(sub, block, "attn1");
        stack_qkv(w, SEG_UNET, sub, QKV, NULL, c);
        list_linear(w, SEG_UNET, sub, "to_out.0", c, c);
        list_norm(w, block, "norm2", c);
        weight_join_name(sub, block, "attn2");
        list_weight(w, SEG_ONCE, WEIGHT_STACK, sub, "kv.weight", KV, 2, kv_shape);
        list_matrix(w, SEG_UNET, sub, "to_q.weight", c, 1, c);
        list_linear(w, SEG_UNET, sub, "to_out.0", c, c);
        list_norm(w, block, "norm3", c);
        weight_join_name(sub, block, "ff.net.0");
        list_weight(w, SEG_UNET, WEIGHT_INTERLEAVE, sub, "proj.weight", FF_W, 1, ff_shape);
        list_weight(w, SEG_VECTORS, WEIGHT_INTERLEAVE, sub, "proj.bias", FF_B, 1, ff_bias);
        list_linear(w, SEG_UNET, block, "ff.net.2", c, 4 * c);
    }
    list_linear(w, SEG_UNET, at, "proj_out", c, c);
}

/* Channels of the skip connections in the order they are pushed. */
static int unet_skips(const unet_config *c, int skip[])
{
    int n = 0;
    skip[n++] = c->channels[0];
    for (int i = 0; i < c->levels; i++) {
        for (int j = 0; j < c->resnets; j++)
            skip[n++] = c->channels[i];
        if (i + 1 < c->levels)
            skip[n++] = c->channels[i];
    }
    return n;
}

static void list_unet_down(walk *w, const unet_config *c, int c_emb)
{
    char at[WEIGHT_NAME];
    int c_in = c->channels[0];
    for (int i = 0; i < c->levels; i++) {
        for (int j = 0; j < c->resnets; j++) {
            format_module_path(at, "unet.down_blocks.%d.resnets.%d", i, j);
            list_resnet(w, SEG_UNET, at, c_in, c->channels[i], c_emb);
            c_in = c->channels[i];
            if (c->attention[i]) {
                format_module_path(at, "unet.down_blocks.%d.attentions.%d", i, j);
                list_transformer(w, at, c_in, c->depth[i], c->context_dim);
            }
        }
        if (i + 1 < c->levels) {
            format_module_path(at, "unet.down_blocks.%d.downsamplers.0", i);
            list_conv(w, SEG_UNET, at, "conv", c_in, 3, c_in);
        }
    }
}

static void list_unet_mid(walk *w, const unet_config *c, int c_emb)
{
    const int top = c->channels[c->levels - 1];
    list_resnet(w, SEG_UNET, "unet.mid_block.resnets.0", top, top, c_emb);
    list_transformer(w, "unet.mid_block.attentions.0", top, c->mid_depth, c->context_dim);
    list_resnet(w, SEG_UNET, "unet.mid_block.resnets.1", top, top, c_emb);
}

static void list_unet_up(walk *w, const unet_config *c, int c_emb)
{
    int skip[1 + LEVELS_MAX * 16];
    int n_skips = unet_skips(c, skip);
    int c_in = c->channels[c->levels - 1];
    char at[WEIGHT_NAME];

    for (int i = 0; i < c->levels; i++) {
        const int level = c->levels - 1 - i;
        for (int j = 0; j <= c->resnets; j++) {
            format_module_path(at, "unet.up_blocks.%d.resnets.%d", i, j);
            list_resnet(w, SEG_UNET, at, c_in + skip[--n_skips], c->channels[level], c_emb);
            c_in = c->channels[level];
            if (c->attention[level]) {
                format_module_path(at, "unet.up_blocks.%d.attentions.%d", i, j);
                list_transformer(w, at, c_in, c->depth[level], c->context_dim);
            }
        }
        if (level > 0) {
            format_module_path(at, "unet.up_blocks.%d.upsamplers.0", i);
            list_conv(w, SEG_UNET, at, "conv", c_in, 3, c_in);
        }
    }
    assert(n_skips == 0);
}

static void list_unet(walk *w, const unet_config *c)
{
    const int base = c->channels[0], c_emb = 4 * base;
    list_linear(w, SEG_ONCE, "unet.add_embedding", "linear_1", c_emb, c->add_embed_dim);
    list_linear(w, SEG_ONCE, "unet.add_embedding", "linear_2", c_emb, c_emb);
    list_linear(w, SEG_ONCE, "unet.time_embedding", "linear_1", c_emb, base);
    list_linear(w, SEG_ONCE, "unet.time_embedding", "linear_2", c_emb, c_emb);
    list_conv(w, SEG_UNET, "unet", "conv_in", base, 3, c->in_channels);
    list_unet_down(w, c, c_emb);
    list_unet_mid(w, c, c_emb);
    list_unet_up(w, c, c_emb);
    list_norm(w, "unet", "conv_norm_out", base);
    list_conv(w, SEG_UNET, "unet", "conv_out", c->in_channels, 3, base);
}

/* ---- VAE ---- */

static void list_vae_mid(walk *w, segment seg, const char *at, int c)
{
    static const char *const QKV_W[3] = { "to_q.weight", "to_k.weight", "to_v.weight" };
    static const char *const QKV_B[3] = { "to_q.bias", "to_k.bias", "to_v.bias" };
    char sub[WEIGHT_NAME];

    weight_join_name(sub, at, "resnets.0");
    list_resnet(w, seg, sub, c, c, 0);
    weight_join_name(sub, at, "attentions.0");
    list_norm(w, sub, "group_norm", c);
    stack_qkv(w, seg, sub, QKV_W, QKV_B, c);
    list_linear(w, seg, sub, "to_out.0", c, c);
    weight_join_name(sub, at, "resnets.1");
    list_resnet(w, seg, sub, c, c, 0);
}

static void list_vae_encoder(walk *w, const vae_config *c)
{
    const segment seg = SEG_VAE_ENCODE;
    char at[WEIGHT_NAME];
    int c_in = c->channels[0];

    list_conv(w, seg, "vae.encoder", "conv_in", c_in, 3, 3);
    for (int i = 0; i < c->levels; i++) {
        for (int j = 0; j < c->resnets; j++) {
            format_module_path(at, "vae.encoder.down_blocks.%d.resnets.%d", i, j);
            list_resnet(w, seg, at, c_in, c->channels[i], 0);
            c_in = c->channels[i];
        }
        if (i + 1 < c->levels) {
            format_module_path(at, "vae.encoder.down_blocks.%d.downsamplers.0", i);
            list_conv(w, seg, at, "conv", c_in, 3, c_in);
        }
    }
    list_vae_mid(w, seg, "vae.encoder.mid_block", c_in);
    list_norm(w, "vae.encoder", "conv_norm_out", c_in);
    list_conv(w, seg, "vae.encoder", "conv_out", 2 * c->latent_channels, 3, c_in);
    list_conv(w, seg, "vae", "quant_conv", 2 * c->latent_channels, 1, 2 * c->latent_channels);
}

static void list_vae_decoder(walk *w, const vae_config *c)
{
    const segment seg = SEG_VAE_DECODE;
    char at[WEIGHT_NAME];
    int c_in = c->channels[c->levels - 1];

    list_conv(w, seg, "vae", "post_quant_conv", c->latent_channels, 1, c->latent_channels);
    list_conv(w, seg, "vae.decoder", "conv_in", c_in, 3, c->latent_channels);
    list_vae_mid(w, seg, "vae.decoder.mid_block", c_in);
    for (int i = 0; i < c->levels; i++) {
        const int c_out = c->channels[c->levels - 1 - i];
        for (int j = 0; j <= c->resnets; j++) {
            format_module_path(at, "vae.decoder.up_blocks.%d.resnets.%d", i, j);
            list_resnet(w, seg, at, c_in, c_out, 0);
            c_in = c_out;
        }
        if (i + 1 < c->levels) {
            format_module_path(at, "vae.decoder.up_blocks.%d.upsamplers.0", i);
            list_conv(w, seg, at, "conv", c_in, 3, c_in);
        }
    }
    list_norm(w, "vae.decoder", "conv_norm_out", c_in);
    list_conv(w, seg, "vae.decoder", "conv_out", 3, 3, c_in);
}

/* ---- */

/* Stable: a counting sort by segment. */
static refine_status sort_by_segment(weight_list *l)
{
    weight_entry *sorted = mem_alloc((size_t)l->n * sizeof *sorted);
    if (!sorted)
        return REFINE_ENOMEM;
    int at = 0;
    for (int s = 0; s < N_SEGMENTS; s++)
        for (int i = 0; i < l->n; i++)
            if (l->entry[i].seg == (segment)s)
                sorted[at++] = l->entry[i];
    assert(at == l->n);
    mem_free(l->entry);
    l->entry = sorted;
    l->cap = l->n;
    return REFINE_OK;
}

refine_status weight_list_build(weight_list *out, const model_config *c)
{
    *out = (weight_list){ .config = *c };
    walk w = { out, REFINE_OK };

    list_text_encoder(&w, &c->text);
    list_vae_encoder(&w, &c->vae);
    list_unet(&w, &c->unet);
    list_vae_decoder(&w, &c->vae);
    if (w.st == REFINE_OK)
        w.st = sort_by_segment(out);
    if (w.st != REFINE_OK)
        weight_list_free(out);
    return w.st;
}

void weight_list_free(weight_list *l)
{
    mem_free(l->entry);
    l->entry = NULL;
    l->n = l->cap = 0;
}

int weight_list_find(const weight_list *l, const char *name)
{
    for (int i = 0; i < l->n; i++)
        if (strcmp(l->entry[i].name, name) == 0)
            return i;
    return -1;
}

void weight_list_segment(const weight_list *l, segment s, int *first, int *end)
{
    int i = 0;
    while (i < l->n && l->entry[i].seg < s)
        i++;
    *first = i;
    while (i < l->n && l->entry[i].seg == s)
        i++;
    *end = i;
}
