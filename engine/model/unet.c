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
#include <stdio.h>

static const float EPS = 1e-5f;

enum { SKIPS_MAX = 1 + LEVELS_MAX * UNET_MAX_RESNETS };

typedef struct skip_stack {
    tensor s[SKIPS_MAX];
    int n;
} skip_stack;

/* ---- binding ---- */

typedef struct binder {
    const model *m;
    const unet_config *c;
    unet *u;
} binder;

static resnet bind_resnet(binder *b, const char *at, int c_in, int c_out)
{
    resnet r = resnet_bind(b->m, at, c_in, c_out, 4 * b->c->channels[0], b->c->groups, EPS);
    r.emb_at = b->u->emb_channels;
    b->u->emb_channels += c_out;
    return r;
}

static void bind_attention(binder *b, unet_level *l, int j, const char *block, int i, int level)
{
    char at[WEIGHT_NAME];
    if (!b->c->attention[level])
        return;
    l->attention = true;
    snprintf(at, sizeof at, "unet.%s_blocks.%d.attentions.%d", block, i, j);
    transformer_bind(&l->att[j], b->m, at, b->c->channels[level], b->c->heads[level],
                     b->c->depth[level], b->c->groups);
}

static void bind_down(binder *b, int *skip, int *n_skips)
{
    const unet_config *c = b->c;
    int c_in = c->channels[0];
    char at[WEIGHT_NAME];

    skip[(*n_skips)++] = c_in;
    for (int i = 0; i < c->levels; i++) {
        unet_level *l = &b->u->down[i];
        l->resnets = c->resnets;
        for (int j = 0; j < l->resnets; j++) {
            snprintf(at, sizeof at, "unet.down_blocks.%d.resnets.%d", i, j);
            l->res[j] = bind_resnet(b, at, c_in, c->channels[i]);
            bind_attention(b, l, j, "down", i, i);
            c_in = c->channels[i];
            skip[(*n_skips)++] = c_in;
        }
        l->sample = (affine_ref){ NO_WEIGHT, NO_WEIGHT };
        if (i + 1 < c->levels) {
            l->sample = affine_bind(b->m, true, "unet.down_blocks.%d.downsamplers.0.conv", i);
            skip[(*n_skips)++] = c_in;
        }
    }
}

static void bind_unet_mid(binder *b)
{
    const unet_config *c = b->c;
    const int top = c->channels[c->levels - 1];
    b->u->mid[0] = bind_resnet(b, "unet.mid_block.resnets.0", top, top);
    transformer_bind(&b->u->mid_att, b->m, "unet.mid_block.attentions.0", top, c->mid_heads,
                     c->mid_depth, c->groups);
    b->u->mid[1] = bind_resnet(b, "unet.mid_block.resnets.1", top, top);
}

static void bind_up(binder *b, const int *skip, int n_skips)
{
    const unet_config *c = b->c;
    int c_in = c->channels[c->levels - 1];
    char at[WEIGHT_NAME];

    for (int i = 0; i < c->levels; i++) {
        const int level = c->levels - 1 - i;
        unet_level *l = &b->u->up[i];
        l->resnets = c->resnets + 1;
        for (int j = 0; j < l->resnets; j++) {
            snprintf(at, sizeof at, "unet.up_blocks.%d.resnets.%d", i, j);
            l->res[j] = bind_resnet(b, at, c_in + skip[--n_skips], c->channels[level]);
            bind_attention(b, l, j, "up", i, level);
            c_in = c->channels[level];
        }
        l->sample = (affine_ref){ NO_WEIGHT, NO_WEIGHT };
        if (level > 0)
            l->sample = affine_bind(b->m, true, "unet.up_blocks.%d.upsamplers.0.conv", i);
    }
    assert(n_skips == 0);
}

void unet_bind(unet *u, const model *m)
{
    int skip[SKIPS_MAX], n_skips = 0;
    *u = (unet){ .c = &m->l.config.unet };
    binder b = { m, u->c, u };

    u->time1 = affine_bind(m, true, "unet.time_embedding.linear_1");
    u->time2 = affine_bind(m, true, "unet.time_embedding.linear_2");
    u->add1 = affine_bind(m, true, "unet.add_embedding.linear_1");
    u->add2 = affine_bind(m, true, "unet.add_embedding.linear_2");
    u->conv_in = affine_bind(m, true, "unet.conv_in");
    u->norm_out = affine_bind(m, true, "unet.conv_norm_out");
    u->conv_out = affine_bind(m, true, "unet.conv_out");
    bind_down(&b, skip, &n_skips);
    bind_unet_mid(&b);
    bind_up(&b, skip, n_skips);
}

static void visit_unet_level(unet_level *l, void *context, void (*each_resnet)(void *, resnet *),
                             void (*each_transformer)(void *, transformer *))
{
    for (int j = 0; j < l->resnets; j++) {
        each_resnet(context, &l->res[j]);
        if (l->attention)
            each_transformer(context, &l->att[j]);
    }
}

void unet_visit_layers(unet *u, void *context, void (*each_resnet)(void *, resnet *),
                       void (*each_transformer)(void *, transformer *))
{
    for (int i = 0; i < u->c->levels; i++)
        visit_unet_level(&u->down[i], context, each_resnet, each_transformer);
    each_resnet(context, &u->mid[0]);
    each_transformer(context, &u->mid_att);
    each_resnet(context, &u->mid[1]);
    for (int i = 0; i < u->c->levels; i++)
        visit_unet_level(&u->up[i], context, each_resnet, each_transformer);
}

/* ---- forward ---- */

static tensor emb_of(const resnet *b, tensor table)
{
    return tensor_channels(table, b->emb_at, b->c_out);
}

static void push_skip(skip_stack *k, tensor t)
{
    assert(k->n < SKIPS_MAX);
    k->s[k->n++] = t;
}

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

static void down_forward(forward_ctx *r, const unet *u, skip_stack *k, tensor table)
{
    for (int i = 0; i < u->c->levels; i++) {
        const unet_level *l = &u->down[i];
        for (int j = 0; j < l->resnets; j++) {
            tensor h = resnet_forward(r, &l->res[j], k->s[k->n - 1], (tensor){ 0 },
                                      emb_of(&l->res[j], table), false);
            forward_report(r, h, "unet.down_blocks.%d.resnets.%d", i, j);
            if (l->attention) {
                transformer_forward(r, &l->att[j], h);
                forward_report(r, h, "unet.down_blocks.%d.attentions.%d", i, j);
            }
            push_skip(k, h);
        }
        if (l->sample.weight != NO_WEIGHT) {
            push_skip(k, unet_downsample(r, k->s[k->n - 1], l->sample));
            forward_report(r, k->s[k->n - 1], "unet.down_blocks.%d.downsamplers.0", i);
        }
    }
}

static tensor unet_mid_forward(forward_ctx *r, const unet *u, const skip_stack *k, tensor table)
{
    tensor h = resnet_forward(r, &u->mid[0], k->s[k->n - 1], (tensor){ 0 },
                              emb_of(&u->mid[0], table), false);
    forward_report(r, h, "unet.mid_block.resnets.0");
    transformer_forward(r, &u->mid_att, h);
    forward_report(r, h, "unet.mid_block.attentions.0");
    h = resnet_forward(r, &u->mid[1], h, (tensor){ 0 }, emb_of(&u->mid[1], table), true);
    forward_report(r, h, "unet.mid_block.resnets.1");
    return h;
}

static tensor up_forward(forward_ctx *r, const unet *u, skip_stack *k, tensor h, tensor table)
{
    for (int i = 0; i < u->c->levels; i++) {
        const unet_level *l = &u->up[i];
        for (int j = 0; j < l->resnets; j++) {
            h = resnet_forward(r, &l->res[j], h, k->s[--k->n], emb_of(&l->res[j], table), true);
            forward_report(r, h, "unet.up_blocks.%d.resnets.%d", i, j);
            if (l->attention) {
                transformer_forward(r, &l->att[j], h);
                forward_report(r, h, "unet.up_blocks.%d.attentions.%d", i, j);
            }
        }
        if (l->sample.weight != NO_WEIGHT) {
            h = unet_upsample(r, h, l->sample, k->s[k->n - 1]);
            forward_report(r, h, "unet.up_blocks.%d.upsamplers.0", i);
        }
    }
    return h;
}

void unet_forward(forward_ctx *r, const unet *u, tensor eps, tensor x, tensor table)
{
    skip_stack k = { .n = 0 };

    tensor s0 = scratch_alloc(&r->mem, r->act, x.n, x.h, x.w, u->c->channels[0]);
    const matrix_input in = { .a = x, .h = x.h, .w = x.w };
    forward_conv(r, s0, &in, u->conv_in, 1, 1, (epilogue){ 0 });
    forward_report(r, s0, "unet.conv_in");
    push_skip(&k, s0);

    down_forward(r, u, &k, table);
    tensor h = unet_mid_forward(r, u, &k, table);
    h = up_forward(r, u, &k, h, table);

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
