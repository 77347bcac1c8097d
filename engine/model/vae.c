/* engine/model/vae.c -- AutoencoderKL.
 *
 *     encode:  conv_in; down blocks: resnets, downsample; mid; conv_out(silu(norm)); quant_conv
 *     decode:  post_quant_conv; conv_in; mid; up blocks: resnets, upsample; conv_out(silu(norm))
 *     mid:     resnet; x += out(attention(norm(x))), one head; resnet
 *
 * Reference: diffusers AutoencoderKL with force_upcast.  GroupNorm eps is 1e-6 throughout.
 * The encoder's downsampling pads with zeros on the right and at the bottom only.
 *
 * Bands.  Every convolution runs over bands of r->band_rows output rows: what is
 * materialised is one band's input, what is held is one layer's weights.  The sums of a norm
 * are taken as the rows of a feature map are stored, and folded before any band reads it, so
 * there are no seams and nothing is computed twice; since operators compute BAND_UNIT rows
 * in a way that does not depend on their neighbours, every band height gives the same bits.
 * Where feature maps are too large for the device they lie elsewhere (engine/model/feature_map.h).
 *
 * Placement.  A level's tensors are dead once it has been upsampled, but first fit would
 * leave their hole below the larger result, too small for the next tensor.  So the last but
 * one upsampling puts its result above where the last one's will lie: at the widest level
 * the two live tensors then lie side by side, and the peak is their sum.
 *
 * Range.  Activations exceed fp16's 65504, so in 16 bits they are stored divided by
 * 2^VAE_EXP2 (tensor.exp2): a power of two costs no precision, and values below
 * 2^(VAE_EXP2-14) lose some, which is far below what a norm then divides by.  q, k and v
 * of the one attention are F32.
 */
#include "engine/model/vae.h"

#include <math.h>
#include <stdio.h>

static const float EPS = 1e-6f;

/* ---- binding ---- */

static vae_mid bind_vae_mid(const model *m, const char *half, int c, int groups)
{
    char at[WEIGHT_NAME];
    vae_mid mid;
    for (int j = 0; j < 2; j++) {
        snprintf(at, sizeof at, "vae.%s.mid_block.resnets.%d", half, j);
        mid.res[j] = resnet_bind(m, at, c, c, 0, groups, EPS);
    }
    mid.norm = affine_bind(m, true, "vae.%s.mid_block.attentions.0.group_norm", half);
    mid.qkv = affine_bind(m, true, "vae.%s.mid_block.attentions.0.qkv", half);
    mid.out = affine_bind(m, true, "vae.%s.mid_block.attentions.0.to_out.0", half);
    return mid;
}

static int bind_level(vae_level *l, const model *m, const char *blocks, const char *sampler, int i,
                      int n, int c_in, int c_out, const vae_config *c)
{
    char at[WEIGHT_NAME];
    l->resnets = n;
    for (int j = 0; j < n; j++) {
        snprintf(at, sizeof at, "vae.%s.%d.resnets.%d", blocks, i, j);
        l->res[j] = resnet_bind(m, at, j ? c_out : c_in, c_out, 0, c->groups, EPS);
    }
    l->sample = (affine_ref){ NO_WEIGHT, NO_WEIGHT };
    if (i + 1 < c->levels)
        l->sample = affine_bind(m, true, "vae.%s.%d.%s.0.conv", blocks, i, sampler);
    return c_out;
}

static void bind_ends(vae_half *h, const model *m, const char *half, const char *quant)
{
    h->conv_in = affine_bind(m, true, "vae.%s.conv_in", half);
    h->norm_out = affine_bind(m, true, "vae.%s.conv_norm_out", half);
    h->conv_out = affine_bind(m, true, "vae.%s.conv_out", half);
    h->quant = affine_bind(m, true, "vae.%s", quant);
}

void vae_bind(vae *v, const model *m)
{
    const vae_config *c = v->c = &m->l.config.vae;
    const int top = c->channels[c->levels - 1];
    int c_in = c->channels[0];

    bind_ends(&v->encoder, m, "encoder", "quant_conv");
    bind_ends(&v->decoder, m, "decoder", "post_quant_conv");
    for (int i = 0; i < c->levels; i++)
        c_in = bind_level(&v->encoder.level[i], m, "encoder.down_blocks", "downsamplers", i,
                          c->resnets, c_in, c->channels[i], c);
    v->encoder.mid = bind_vae_mid(m, "encoder", top, c->groups);
    v->decoder.mid = bind_vae_mid(m, "decoder", top, c->groups);
    c_in = top;
    for (int i = 0; i < c->levels; i++)
        c_in = bind_level(&v->decoder.level[i], m, "decoder.up_blocks", "upsamplers", i,
                          c->resnets + 1, c_in, c->channels[c->levels - 1 - i], c);
}

/* ---- forward ---- */

/* x += out(attention(norm(x))): one head over all pixels. */
static void attend_pixels(forward_ctx *r, const vae_mid *m, feature_map *x)
{
    const int c = x->t.c, h = x->t.h, w = x->t.w, band = r->band_rows;
    tensor affine = feature_map_affine(r, x, m->norm, EPS);
    tensor n = scratch_alloc(&r->mem, DT_F32, 1, h, w, c);
    tensor qkv = scratch_alloc(&r->mem, DT_F32, 1, h, w, 3 * c);
    void *window = feature_map_window(r, x, band);

    for (int row = 0; row < h; row += band) {
        const int rows = h - row < band ? h - row : band;
        const tensor v = feature_map_load(r, x, window, row, rows);
        op_apply_norm(r->d, tensor_row_band(n, row, rows), tensor_row_band(v, row, rows),
                      (tensor){ 0 }, affine, ACT_NONE);
    }
    forward_linear(r, qkv, n, m->qkv, (epilogue){ 0 });
    op_attention(r->d, n, tensor_channels(qkv, 0, c), tensor_channels(qkv, c, c),
                 tensor_channels(qkv, 2 * c, c), 1, 1.0f / sqrtf((float)c), false);

    /* The projection as a 1x1 convolution: a band of it is a thing of its own. */
    const matrix_input in = { .a = n, .h = h, .w = w };
    const hold out = hold_acquire(r, m->out.weight);
    for (int row = 0; row < h; row += band) {
        const int rows = h - row < band ? h - row : band;
        const tensor v = feature_map_load(r, x, window, row, rows);
        forward_conv_band(r, v, &in, &out, m->out, 1, 0, row, rows, (epilogue){ .residual = v });
        feature_map_store(r, x, v, row, rows);
    }
    hold_release(r, &out);
    scratch_free_bytes(&r->mem, window);
    scratch_free(&r->mem, qkv);
    scratch_free(&r->mem, n);
    scratch_free(&r->mem, affine);
}

static feature_map vae_mid_forward(forward_ctx *r, const vae_mid *m, feature_map x)
{
    x = resnet_forward_banded(r, &m->res[0], x);
    attend_pixels(r, m, &x);
    return resnet_forward_banded(r, &m->res[1], x);
}

static matrix_input plain_input(const feature_map *x)
{
    return (matrix_input){ .h = x->t.h, .w = x->t.w };
}

/* y = conv_out(silu(norm_out(x))); x is consumed. */
static void conv_out_forward(forward_ctx *r, const vae_half *v, tensor y, feature_map x)
{
    feature_map out = feature_map_of(y);
    matrix_input in = plain_input(&x);
    in.affine = feature_map_affine(r, &x, v->norm_out, EPS);
    in.silu = true;
    feature_map_conv(r, &out, &x, in, v->conv_out, 1, 1);
    scratch_free(&r->mem, in.affine);
    feature_map_free(r, x);
}

/* conv_in of either half. */
static feature_map conv_in_forward(forward_ctx *r, const vae_half *v, tensor x, int c, int groups)
{
    feature_map y = feature_map_alloc(r, x.h, x.w, c, groups, 0);
    const feature_map from = feature_map_of(x);
    feature_map_conv(r, &y, &from, plain_input(&from), v->conv_in, 1, 1);
    return y;
}

/* quant_conv and post_quant_conv. */
static void quant_conv_forward(forward_ctx *r, tensor y, tensor x, affine_ref w)
{
    const matrix_input in = { .a = x, .h = x.h, .w = x.w };
    forward_conv(r, y, &in, w, 1, 0, (epilogue){ 0 });
}

/* Stride 2 without padding in front; x is consumed. */
static feature_map vae_downsample(forward_ctx *r, feature_map x, affine_ref w, int groups)
{
    feature_map y = feature_map_alloc(r, x.t.h / 2, x.t.w / 2, x.t.c, groups, 0);
    feature_map_conv(r, &y, &x, plain_input(&x), w, 2, 0);
    feature_map_free(r, x);
    return y;
}

/* Nearest x2, then a convolution, placed above `floor`; x is consumed. */
static feature_map vae_upsample(forward_ctx *r, feature_map x, affine_ref w, int groups,
                                size_t floor)
{
    feature_map y = feature_map_alloc(r, 2 * x.t.h, 2 * x.t.w, x.t.c, groups, floor);
    feature_map_conv(r, &y, &x, plain_input(&y), w, 1, 1);
    feature_map_free(r, x);
    return y;
}

/* Only feature maps that are on the device can be looked at. */
static void report_vae_layer(forward_ctx *r, const feature_map *x, const char *half,
                             const char *what, int i)
{
    if (!x->spilled && i < 0)
        forward_report(r, x->t, "vae.%s.%s", half, what);
    else if (!x->spilled)
        forward_report(r, x->t, "vae.%s.%s.%d", half, what, i);
}

void vae_encode(forward_ctx *r, const vae *v, tensor moments, tensor pixels)
{
    const vae_half *e = &v->encoder;
    const int groups = v->c->groups;
    feature_map x = conv_in_forward(r, e, pixels, v->c->channels[0], groups);

    report_vae_layer(r, &x, "encoder", "conv_in", -1);
    for (int i = 0; i < v->c->levels; i++) {
        for (int j = 0; j < e->level[i].resnets; j++)
            x = resnet_forward_banded(r, &e->level[i].res[j], x);
        if (e->level[i].sample.weight != NO_WEIGHT)
            x = vae_downsample(r, x, e->level[i].sample, groups);
        report_vae_layer(r, &x, "encoder", "down_blocks", i);
    }
    x = vae_mid_forward(r, &e->mid, x);
    report_vae_layer(r, &x, "encoder", "mid_block", -1);

    tensor raw = scratch_alloc(&r->mem, DT_F32, 1, moments.h, moments.w, moments.c);
    conv_out_forward(r, e, raw, x);
    quant_conv_forward(r, moments, raw, e->quant);
    scratch_free(&r->mem, raw);
    forward_report(r, moments, "vae.moments");
}

/* Bytes of what the last upsampling gives, for the level before it to lie above. */
static size_t floor_of_level(const forward_ctx *r, const vae *v, int level, tensor latents)
{
    const int last = v->c->levels - 2;
    if (level != last - 1)
        return 0;
    const int c = v->c->channels[v->c->levels - 1 - last];
    const size_t bytes = tensor_bytes(
        tensor_make(NULL, r->vae_act, 1, latents.h * VAE_SCALE, latents.w * VAE_SCALE, c));
    return bytes < r->spill_from ? bytes : 0;
}

tensor vae_decode(forward_ctx *r, const vae *v, tensor latents)
{
    const vae_half *d = &v->decoder;
    const int groups = v->c->groups;

    tensor z = scratch_alloc(&r->mem, DT_F32, 1, latents.h, latents.w, latents.c);
    quant_conv_forward(r, z, latents, d->quant);
    scratch_free(&r->mem, latents);
    forward_report(r, z, "vae.post_quant_conv");

    feature_map x = conv_in_forward(r, d, z, v->c->channels[v->c->levels - 1], groups);
    scratch_free(&r->mem, z);
    report_vae_layer(r, &x, "decoder", "conv_in", -1);
    x = vae_mid_forward(r, &d->mid, x);
    report_vae_layer(r, &x, "decoder", "mid_block", -1);
    for (int i = 0; i < v->c->levels; i++) {
        for (int j = 0; j < d->level[i].resnets; j++)
            x = resnet_forward_banded(r, &d->level[i].res[j], x);
        if (d->level[i].sample.weight != NO_WEIGHT)
            x = vae_upsample(r, x, d->level[i].sample, groups, floor_of_level(r, v, i, latents));
        report_vae_layer(r, &x, "decoder", "up_blocks", i);
    }
    tensor pixels = scratch_alloc(&r->mem, DT_F32, 1, x.t.h, x.t.w, 3);
    conv_out_forward(r, d, pixels, x);
    forward_report(r, pixels, "vae.decoder.out");
    return pixels;
}
