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

static const float EPS = 1e-6f;

/* ---- declaring ---- */

static vae_mid declare_vae_mid(weight_builder *b, segment seg, const char *at, int c, int groups)
{
    static const char *const QKV[] = { "to_q", "to_k", "to_v" };
    char path[WEIGHT_NAME];
    vae_mid mid;

    format_path(path, "%s.resnets.0", at);
    mid.res[0] = resnet_declare(b, seg, path, c, c, 0, groups, EPS);
    format_path(path, "%s.attentions.0", at);
    mid.norm = declare_norm(b, path, "group_norm", c);
    mid.qkv = declare_stack(b, seg, path, "qkv", QKV, 3, true, c, c);
    mid.out = declare_linear(b, seg, path, "to_out.0", c, c);
    format_path(path, "%s.resnets.1", at);
    mid.res[1] = resnet_declare(b, seg, path, c, c, 0, groups, EPS);
    return mid;
}

/* n resnets and, if it is named, a down- or upsampling convolution. */
static void declare_vae_level(weight_builder *b, segment seg, vae_level *l, const char *at, int n,
                              int c_in, int c_out, int groups, const char *sampler)
{
    char path[WEIGHT_NAME];
    l->resnets = n;
    for (int j = 0; j < n; j++) {
        format_path(path, "%s.resnets.%d", at, j);
        l->res[j] = resnet_declare(b, seg, path, j ? c_out : c_in, c_out, 0, groups, EPS);
    }
    if (sampler)
        l->sample = declare_conv(b, seg, at, sampler, c_out, 3, c_out);
}

void vae_declare_encoder(weight_builder *b, vae *v, const vae_config *c)
{
    const segment seg = SEG_VAE_ENCODE;
    vae_half *e = &v->encoder;
    int c_in = c->channels[0];
    char path[WEIGHT_NAME];

    v->c = c;
    *e = (vae_half){ 0 };
    e->conv_in = declare_conv(b, seg, "vae.encoder", "conv_in", c_in, 3, 3);
    for (int i = 0; i < c->levels; i++) {
        format_path(path, "vae.encoder.down_blocks.%d", i);
        declare_vae_level(b, seg, &e->level[i], path, c->resnets, c_in, c->channels[i], c->groups,
                          i + 1 < c->levels ? "downsamplers.0.conv" : NULL);
        c_in = c->channels[i];
    }
    e->mid = declare_vae_mid(b, seg, "vae.encoder.mid_block", c_in, c->groups);
    e->norm_out = declare_norm(b, "vae.encoder", "conv_norm_out", c_in);
    const int moments = 2 * c->latent_channels;
    e->conv_out = declare_conv(b, seg, "vae.encoder", "conv_out", moments, 3, c_in);
    e->quant = declare_conv(b, seg, "vae", "quant_conv", moments, 1, moments);
}

void vae_declare_decoder(weight_builder *b, vae *v, const vae_config *c)
{
    const segment seg = SEG_VAE_DECODE;
    const int latent = c->latent_channels;
    vae_half *d = &v->decoder;
    int c_in = c->channels[c->levels - 1];
    char path[WEIGHT_NAME];

    v->c = c;
    *d = (vae_half){ 0 };
    d->quant = declare_conv(b, seg, "vae", "post_quant_conv", latent, 1, latent);
    d->conv_in = declare_conv(b, seg, "vae.decoder", "conv_in", c_in, 3, latent);
    d->mid = declare_vae_mid(b, seg, "vae.decoder.mid_block", c_in, c->groups);
    for (int i = 0; i < c->levels; i++) {
        const int c_out = c->channels[c->levels - 1 - i];
        format_path(path, "vae.decoder.up_blocks.%d", i);
        declare_vae_level(b, seg, &d->level[i], path, c->resnets + 1, c_in, c_out, c->groups,
                          i + 1 < c->levels ? "upsamplers.0.conv" : NULL);
        c_in = c_out;
    }
    d->norm_out = declare_norm(b, "vae.decoder", "conv_norm_out", c_in);
    d->conv_out = declare_conv(b, seg, "vae.decoder", "conv_out", 3, 3, c_in);
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
        if (weight_present(e->level[i].sample.weight))
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
        if (weight_present(d->level[i].sample.weight))
            x = vae_upsample(r, x, d->level[i].sample, groups, floor_of_level(r, v, i, latents));
        report_vae_layer(r, &x, "decoder", "up_blocks", i);
    }
    tensor pixels = scratch_alloc(&r->mem, DT_F32, 1, x.t.h, x.t.w, 3);
    conv_out_forward(r, d, pixels, x);
    forward_report(r, pixels, "vae.decoder.out");
    return pixels;
}
