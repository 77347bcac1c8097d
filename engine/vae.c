/* engine/vae.c -- AutoencoderKL.
 *
 *     encode:  conv_in; down blocks: resnets, downsample; mid; conv_out(silu(norm)); quant_conv
 *     decode:  post_quant_conv; conv_in; mid; up blocks: resnets, upsample; conv_out(silu(norm))
 *     mid:     resnet; x += out(attention(norm(x))), one head; resnet
 *
 * Reference: diffusers AutoencoderKL with force_upcast.  GroupNorm eps is 1e-6 throughout.
 * The encoder's downsampling pads with zeros on the right and at the bottom only.
 *
 * Bands.  Every convolution runs over bands of r->band_rows output rows: what is
 * materialised is one band's input, what is held is one layer's weights.  Statistics of
 * a norm are taken over the whole tensor before any band reads it, so there are no
 * seams and nothing is computed twice; since operators compute BAND_UNIT rows in a way
 * that does not depend on their neighbours, every band height gives the same bits.
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
#include "engine/vae.h"

#include <math.h>
#include <stdio.h>

static const float EPS = 1e-6f;

/* ---- binding ---- */

static vae_mid bind_mid(const model *m, const char *half, int c, int groups)
{
    char at[LAYOUT_NAME];
    vae_mid mid;
    for (int j = 0; j < 2; j++) {
        snprintf(at, sizeof at, "vae.%s.mid_block.resnets.%d", half, j);
        mid.res[j] = resnet_bind(m, at, c, c, 0, groups, EPS);
    }
    mid.norm = run_bind(m, true, "vae.%s.mid_block.attentions.0.group_norm", half);
    mid.qkv = run_bind(m, true, "vae.%s.mid_block.attentions.0.qkv", half);
    mid.out = run_bind(m, true, "vae.%s.mid_block.attentions.0.to_out.0", half);
    return mid;
}

static int bind_level(vae_level *l, const model *m, const char *blocks, const char *sampler, int i,
                      int n, int c_in, int c_out, const vae_config *c)
{
    char at[LAYOUT_NAME];
    l->resnets = n;
    for (int j = 0; j < n; j++) {
        snprintf(at, sizeof at, "vae.%s.%d.resnets.%d", blocks, i, j);
        l->res[j] = resnet_bind(m, at, j ? c_out : c_in, c_out, 0, c->groups, EPS);
    }
    l->sample = (affine_ref){ NO_WEIGHT, NO_WEIGHT };
    if (i + 1 < c->levels)
        l->sample = run_bind(m, true, "vae.%s.%d.%s.0.conv", blocks, i, sampler);
    return c_out;
}

static void bind_ends(vae_half *h, const model *m, const char *half, const char *quant)
{
    h->conv_in = run_bind(m, true, "vae.%s.conv_in", half);
    h->norm_out = run_bind(m, true, "vae.%s.conv_norm_out", half);
    h->conv_out = run_bind(m, true, "vae.%s.conv_out", half);
    h->quant = run_bind(m, true, "vae.%s", quant);
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
    v->encoder.mid = bind_mid(m, "encoder", top, c->groups);
    v->decoder.mid = bind_mid(m, "decoder", top, c->groups);
    c_in = top;
    for (int i = 0; i < c->levels; i++)
        c_in = bind_level(&v->decoder.level[i], m, "decoder.up_blocks", "upsamplers", i,
                          c->resnets + 1, c_in, c->channels[c->levels - 1 - i], c);
}

/* ---- forward ---- */

static tensor take(run *r, int h, int w, int c)
{
    tensor t = scratch_take(&r->mem, r->vae_act, 1, h, w, c);
    t.exp2 = r->vae_exp2;
    return t;
}

static conv_input plain(tensor x) { return (conv_input){ .a = x, .h = x.h, .w = x.w }; }

static void conv3(run *r, tensor y, const conv_input *in, affine_ref w)
{
    run_conv(r, y, in, w, 1, 1, r->band_rows, (epilogue){ 0 });
}

/* x += out(attention(norm(x))): one head over all pixels. */
static void attend(run *r, const vae_mid *m, int groups, tensor x)
{
    const int c = x.c;
    tensor affine = run_groupnorm(r, x, (tensor){ 0 }, m->norm, groups, EPS);
    tensor n = scratch_take(&r->mem, DT_F32, 1, x.h, x.w, c);
    tensor qkv = scratch_take(&r->mem, DT_F32, 1, x.h, x.w, 3 * c);

    op_apply_norm(r->d, n, x, (tensor){ 0 }, affine, ACT_NONE);
    scratch_give(&r->mem, affine);
    run_linear(r, qkv, n, m->qkv, (epilogue){ 0 });
    op_attention(r->d, n, tensor_channels(qkv, 0, c), tensor_channels(qkv, c, c),
                 tensor_channels(qkv, 2 * c, c), 1, 1.0f / sqrtf((float)c), false);
    scratch_give(&r->mem, qkv);
    run_linear(r, x, n, m->out, (epilogue){ .residual = x });
    scratch_give(&r->mem, n);
}

static tensor mid_forward(run *r, const vae_mid *m, int groups, tensor x)
{
    x = resnet_forward_banded(r, &m->res[0], x);
    attend(r, m, groups, x);
    return resnet_forward_banded(r, &m->res[1], x);
}

/* y = conv_out(silu(norm_out(x))); x is consumed. */
static void end(run *r, const vae_half *v, int groups, tensor y, tensor x)
{
    conv_input in = plain(x);
    in.affine = run_groupnorm(r, x, (tensor){ 0 }, v->norm_out, groups, EPS);
    in.silu = true;
    conv3(r, y, &in, v->conv_out);
    scratch_give(&r->mem, in.affine);
    scratch_give(&r->mem, x);
}

/* Stride 2 without padding in front; x is consumed. */
static tensor downsample(run *r, tensor x, affine_ref w)
{
    tensor y = take(r, x.h / 2, x.w / 2, x.c);
    const conv_input in = plain(x);
    run_conv(r, y, &in, w, 2, 0, r->band_rows, (epilogue){ 0 });
    scratch_give(&r->mem, x);
    return y;
}

/* Nearest x2, then a convolution, placed above `floor`; x is consumed. */
static tensor upsample(run *r, tensor x, affine_ref w, size_t floor)
{
    tensor y = tensor_make(NULL, x.type, 1, 2 * x.h, 2 * x.w, x.c);
    y.exp2 = x.exp2;
    y.data = scratch_bytes_above(&r->mem, floor, tensor_bytes(y));
    conv_input in = plain(x);
    in.h = y.h;
    in.w = y.w;
    conv3(r, y, &in, w);
    scratch_give(&r->mem, x);
    return y;
}

void vae_encode(run *r, const vae *v, tensor moments, tensor pixels)
{
    const vae_half *e = &v->encoder;
    tensor x = take(r, pixels.h, pixels.w, v->c->channels[0]);
    conv_input in = plain(pixels);

    conv3(r, x, &in, e->conv_in);
    run_tap(r, x, "vae.encoder.conv_in");
    for (int i = 0; i < v->c->levels; i++) {
        for (int j = 0; j < e->level[i].resnets; j++)
            x = resnet_forward_banded(r, &e->level[i].res[j], x);
        if (e->level[i].sample.weight != NO_WEIGHT)
            x = downsample(r, x, e->level[i].sample);
        run_tap(r, x, "vae.encoder.down_blocks.%d", i);
    }
    x = mid_forward(r, &e->mid, v->c->groups, x);
    run_tap(r, x, "vae.encoder.mid_block");

    tensor raw = scratch_take(&r->mem, DT_F32, 1, moments.h, moments.w, moments.c);
    end(r, e, v->c->groups, raw, x);
    in = plain(raw);
    run_conv(r, moments, &in, e->quant, 1, 0, r->band_rows, (epilogue){ 0 });
    scratch_give(&r->mem, raw);
    run_tap(r, moments, "vae.moments");
}

/* Bytes of what the last upsampling gives, for the level before it to lie above. */
static size_t floor_of_level(const run *r, const vae *v, int level, tensor latents)
{
    const int last = v->c->levels - 2;
    if (level != last - 1)
        return 0;
    const int c = v->c->channels[v->c->levels - 1 - last];
    return tensor_bytes(
        tensor_make(NULL, r->vae_act, 1, latents.h * VAE_SCALE, latents.w * VAE_SCALE, c));
}

tensor vae_decode(run *r, const vae *v, tensor latents)
{
    const vae_half *d = &v->decoder;
    const int top = v->c->channels[v->c->levels - 1];

    tensor z = scratch_take(&r->mem, DT_F32, 1, latents.h, latents.w, latents.c);
    conv_input in = plain(latents);
    run_conv(r, z, &in, d->quant, 1, 0, r->band_rows, (epilogue){ 0 });
    scratch_give(&r->mem, latents);
    run_tap(r, z, "vae.post_quant_conv");

    tensor x = take(r, z.h, z.w, top);
    in = plain(z);
    conv3(r, x, &in, d->conv_in);
    scratch_give(&r->mem, z);
    run_tap(r, x, "vae.decoder.conv_in");
    x = mid_forward(r, &d->mid, v->c->groups, x);
    run_tap(r, x, "vae.decoder.mid_block");
    for (int i = 0; i < v->c->levels; i++) {
        for (int j = 0; j < d->level[i].resnets; j++)
            x = resnet_forward_banded(r, &d->level[i].res[j], x);
        if (d->level[i].sample.weight != NO_WEIGHT)
            x = upsample(r, x, d->level[i].sample, floor_of_level(r, v, i, latents));
        run_tap(r, x, "vae.decoder.up_blocks.%d", i);
    }
    tensor pixels = scratch_take(&r->mem, DT_F32, 1, x.h, x.w, 3);
    end(r, d, v->c->groups, pixels, x);
    run_tap(r, pixels, "vae.decoder.out");
    return pixels;
}
