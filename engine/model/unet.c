/* engine/model/unet.c -- the refiner's UNet.
 *
 *     s0 = conv_in(x)                                   every s is pushed
 *     down block i:  resnet [transformer] ... downsample
 *     mid:           resnet transformer resnet
 *     up block i:    resnet([h | pop s]) [transformer] ... upsample
 *     eps = conv_out(silu(norm_out(h)))
 *
 * Reference: diffusers UNet2DConditionModel.forward.  Time, pooled prompt and
 * micro-conditioning enter as the embedding table, the prompt as keys and values:
 * both are computed once per image (engine/model/conditioning.c).
 *
 * Odd sizes: a downsampling gives ceil(h/2); an upsampling goes to the size of the
 * skip connection it meets, not to 2h.
 */
#include "engine/model/unet.h"

#include <assert.h>
#include <string.h>

static const float EPS = 1e-5f;

enum { SKIPS_MAX = 1 + LEVELS_MAX * UNET_MAX_BLOCKS };

/* ---- declaring ---- */

/* How far the walk is: channels of the feature map there, and of the skips on the stack. */
typedef struct unet_walk {
    weight_builder *b;
    unet *u;
    int channels;
    int skip[SKIPS_MAX], n_skips;
} unet_walk;

static unet_level *next_level(unet_walk *w) { return &w->u->level[w->u->n_levels++]; }

static void push_channels(unet_walk *w)
{
    assert(w->n_skips < SKIPS_MAX);
    w->skip[w->n_skips++] = w->channels;
}

/* resnet [transformer], from c_in channels; depth 0: no transformer. */
static void declare_unet_block(unet_walk *w, unet_level *l, int c_in, int c_out, int heads,
                               int depth)
{
    const unet_config *c = w->u->c;
    unet_block *k = &l->block[l->n];
    char path[WEIGHT_NAME];

    format_path(path, "%s.resnets.%d", l->at, l->n);
    k->res = resnet_declare(w->b, SEG_UNET, path, c_in, c_out, 4 * c->channels[0], c->groups, EPS);
    k->res.emb_at = w->u->emb_channels;
    w->u->emb_channels += c_out;
    if (depth) {
        format_path(path, "%s.attentions.%d", l->at, l->n);
        transformer_declare(w->b, &k->att, path, c_out, heads, depth, c->groups, c->context_dim);
    }
    w->channels = c_out;
    l->n++;
}

static affine_ref declare_sampler(unet_walk *w, const unet_level *l, const char *name)
{
    return declare_conv(w->b, SEG_UNET, l->at, name, w->channels, 3, w->channels);
}

static int level_depth(const unet_config *c, int i) { return c->attention[i] ? c->depth[i] : 0; }

static void declare_down(unet_walk *w, const unet_config *c)
{
    for (int i = 0; i < c->levels; i++) {
        unet_level *l = next_level(w);
        format_path(l->at, "unet.down_blocks.%d", i);
        for (int j = 0; j < c->resnets; j++) {
            declare_unet_block(w, l, w->channels, c->channels[i], c->heads[i], level_depth(c, i));
            push_channels(w);
        }
        if (i + 1 < c->levels) {
            l->sample = declare_sampler(w, l, "downsamplers.0.conv");
            push_channels(w);
        }
    }
}

static void declare_unet_mid(unet_walk *w, const unet_config *c)
{
    unet_level *l = next_level(w);
    format_path(l->at, "unet.mid_block");
    declare_unet_block(w, l, w->channels, w->channels, c->mid_heads, c->mid_depth);
    declare_unet_block(w, l, w->channels, w->channels, 0, 0);
}

static void declare_up(unet_walk *w, const unet_config *c)
{
    for (int i = c->levels - 1; i >= 0; i--) {
        unet_level *l = next_level(w);
        format_path(l->at, "unet.up_blocks.%d", c->levels - 1 - i);
        for (int j = 0; j <= c->resnets; j++) {
            const int c_in = w->channels + w->skip[--w->n_skips];
            declare_unet_block(w, l, c_in, c->channels[i], c->heads[i], level_depth(c, i));
        }
        if (i > 0)
            l->sample = declare_sampler(w, l, "upsamplers.0.conv");
    }
    assert(w->n_skips == 0);
}

void unet_declare(weight_builder *b, unet *u, const unet_config *c)
{
    const int base = c->channels[0], c_emb = 4 * base;
    unet_walk w = { .b = b, .u = u, .channels = base };

    memset(u, 0, sizeof *u);
    u->c = c;
    u->add1 = declare_linear(b, SEG_ONCE, "unet", "add_embedding.linear_1", c_emb,
                             c->add_embed_dim);
    u->add2 = declare_linear(b, SEG_ONCE, "unet", "add_embedding.linear_2", c_emb, c_emb);
    u->time1 = declare_linear(b, SEG_ONCE, "unet", "time_embedding.linear_1", c_emb, base);
    u->time2 = declare_linear(b, SEG_ONCE, "unet", "time_embedding.linear_2", c_emb, c_emb);

    u->conv_in = declare_conv(b, SEG_UNET, "unet", "conv_in", base, 3, c->in_channels);
    push_channels(&w);
    declare_down(&w, c);
    declare_unet_mid(&w, c);
    declare_up(&w, c);
    u->norm_out = declare_norm(b, "unet", "conv_norm_out", base);
    u->conv_out = declare_conv(b, SEG_UNET, "unet", "conv_out", c->in_channels, 3, base);
}

/* ---- forward ---- */

typedef struct skip_stack {
    tensor s[SKIPS_MAX];
    int n;
} skip_stack;

static void push_skip(skip_stack *k, tensor t)
{
    assert(k->n < SKIPS_MAX);
    k->s[k->n++] = t;
}

static tensor top_skip(const skip_stack *k) { return k->s[k->n - 1]; }

/* Stride 2, padded by one in front; past the end there are zeros. */
static tensor unet_downsample(forward_ctx *r, tensor x, affine_ref w)
{
    tensor y = scratch_alloc(&r->mem, r->act, x.n, (x.h + 1) / 2, (x.w + 1) / 2, x.c);
    const matrix_input in = { .a = x, .h = x.h, .w = x.w };
    forward_conv(r, y, &in, w, 2, 1, (epilogue){ 0 });
    return y;
}

/* Nearest to the size of the skip that comes next, then a convolution; x is consumed. */
static tensor unet_upsample(forward_ctx *r, tensor x, affine_ref w, tensor next)
{
    tensor y = scratch_alloc(&r->mem, r->act, x.n, next.h, next.w, x.c);
    const matrix_input in = { .a = x, .h = next.h, .w = next.w };
    forward_conv(r, y, &in, w, 1, 1, (epilogue){ 0 });
    scratch_free(&r->mem, x);
    return y;
}

/* Block j of a level over [x | skip]; with `consume`, both are given back. */
static tensor block_forward(forward_ctx *r, const unet_level *l, int j, tensor x, tensor skip,
                            tensor table, bool consume)
{
    const unet_block *b = &l->block[j];
    const tensor emb = tensor_channels(table, b->res.emb_at, b->res.c_out);
    tensor h = resnet_forward(r, &b->res, x, skip, emb, consume);
    forward_report(r, h, "%s.resnets.%d", l->at, j);
    if (b->att.depth) {
        transformer_forward(r, &b->att, h);
        forward_report(r, h, "%s.attentions.%d", l->at, j);
    }
    return h;
}

static void down_forward(forward_ctx *r, const unet_level *l, skip_stack *k, tensor table)
{
    for (int j = 0; j < l->n; j++)
        push_skip(k, block_forward(r, l, j, top_skip(k), (tensor){ 0 }, table, false));
    if (weight_present(l->sample.weight)) {
        push_skip(k, unet_downsample(r, top_skip(k), l->sample));
        forward_report(r, top_skip(k), "%s.downsamplers.0", l->at);
    }
}

static tensor unet_mid_forward(forward_ctx *r, const unet_level *l, tensor x, tensor table)
{
    tensor h = block_forward(r, l, 0, x, (tensor){ 0 }, table, false);
    return block_forward(r, l, 1, h, (tensor){ 0 }, table, true);
}

static tensor up_forward(forward_ctx *r, const unet_level *l, skip_stack *k, tensor h, tensor table)
{
    for (int j = 0; j < l->n; j++)
        h = block_forward(r, l, j, h, k->s[--k->n], table, true);
    if (weight_present(l->sample.weight)) {
        h = unet_upsample(r, h, l->sample, top_skip(k));
        forward_report(r, h, "%s.upsamplers.0", l->at);
    }
    return h;
}

void unet_forward(forward_ctx *r, const unet *u, tensor eps, tensor x, tensor table)
{
    const unet_level *l = u->level;
    skip_stack k = { .n = 0 };

    tensor s0 = scratch_alloc(&r->mem, r->act, x.n, x.h, x.w, u->c->channels[0]);
    const matrix_input in = { .a = x, .h = x.h, .w = x.w };
    forward_conv(r, s0, &in, u->conv_in, 1, 1, (epilogue){ 0 });
    forward_report(r, s0, "unet.conv_in");
    push_skip(&k, s0);

    for (int i = 0; i < u->c->levels; i++)
        down_forward(r, l++, &k, table);
    tensor h = unet_mid_forward(r, l++, top_skip(&k), table);
    for (int i = 0; i < u->c->levels; i++)
        h = up_forward(r, l++, &k, h, table);

    const matrix_input out = { .a = h,
                               .silu = true,
                               .h = h.h,
                               .w = h.w,
                               .affine = forward_groupnorm(r, h, (tensor){ 0 }, u->norm_out,
                                                           u->c->groups, EPS) };
    forward_conv(r, eps, &out, u->conv_out, 1, 1, (epilogue){ 0 });
    forward_report(r, eps, "unet.out");
    scratch_free(&r->mem, out.affine);
    scratch_free(&r->mem, h);
}
