/* tools/source/ldm_names.c -- the renaming, written as tables of prefixes.
 *
 * In a pattern '#' stands for a number.  What follows a matched pattern (".weight",
 * "transformer_blocks.0.attn1.to_q.weight") keeps its name unless a second table says
 * otherwise.
 */
#include "tools/source/ldm_names.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { NUMBER_MAX = 9999 };

/* The rest of `s` behind `pattern`, its numbers in n[]; NULL when it does not begin so. */
static const char *match_pattern(const char *s, const char *pattern, int n[2])
{
    int k = 0;
    for (; *pattern; pattern++) {
        if (*pattern != '#') {
            if (*s++ != *pattern)
                return NULL;
            continue;
        }
        if (*s < '0' || *s > '9')
            return NULL;
        for (n[k] = 0; *s >= '0' && *s <= '9'; s++)
            if ((n[k] = 10 * n[k] + (*s - '0')) > NUMBER_MAX)
                return NULL;
        k++;
    }
    return s;
}

#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
static bool
format_ldm_name(char out[WEIGHT_NAME], const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    const int n = vsnprintf(out, WEIGHT_NAME, fmt, ap);
    va_end(ap);
    return n > 0 && n < WEIGHT_NAME;
}

typedef struct respelling {
    const char *from, *to;
} respelling;

/* The first rule that fits, or the name unchanged. */
static bool format_renamed(char out[WEIGHT_NAME], const char *prefix, const char *rest,
                           const respelling *rules, size_t n_rules)
{
    for (size_t i = 0; i < n_rules; i++) {
        const size_t len = strlen(rules[i].from);
        if (strncmp(rest, rules[i].from, len) == 0)
            return format_ldm_name(out, "%s%s%s", prefix, rules[i].to, rest + len);
    }
    return format_ldm_name(out, "%s%s", prefix, rest);
}

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* ---- UNet ---- */

static const respelling UNET_RESNET[] = {
    { "in_layers.0.", "norm1." },          { "in_layers.2.", "conv1." },
    { "emb_layers.1.", "time_emb_proj." }, { "out_layers.0.", "norm2." },
    { "out_layers.3.", "conv2." },         { "skip_connection.", "conv_shortcut." },
};

static const respelling UNET_ENDS[] = {
    { "time_embed.0.", "unet.time_embedding.linear_1." },
    { "time_embed.2.", "unet.time_embedding.linear_2." },
    { "time_embed.cond_proj.", "unet.time_embedding.cond_proj." },
    { "label_emb.0.0.", "unet.add_embedding.linear_1." },
    { "label_emb.0.2.", "unet.add_embedding.linear_2." },
    { "input_blocks.0.0.", "unet.conv_in." },
    { "out.0.", "unet.conv_norm_out." },
    { "out.2.", "unet.conv_out." },
};

static bool unet_resnet(char out[WEIGHT_NAME], const char *at, const char *rest)
{
    return format_renamed(out, at, rest, UNET_RESNET, COUNT(UNET_RESNET));
}

/* input_blocks count from 1: per level its resnets, then the downsampler. */
static bool unet_down(char out[WEIGHT_NAME], const char *s, int resnets)
{
    char at[WEIGHT_NAME];
    const char *rest;
    int n[2];

    if (!match_pattern(s, "input_blocks.#.", n) || n[0] == 0)
        return false;
    const int level = (n[0] - 1) / (resnets + 1), j = (n[0] - 1) % (resnets + 1);
    if ((rest = match_pattern(s, "input_blocks.#.0.op.", n)))
        return format_ldm_name(out, "unet.down_blocks.%d.downsamplers.0.conv.%s", level, rest);
    if ((rest = match_pattern(s, "input_blocks.#.0.", n)))
        return format_ldm_name(at, "unet.down_blocks.%d.resnets.%d.", level, j) &&
               unet_resnet(out, at, rest);
    if ((rest = match_pattern(s, "input_blocks.#.1.", n)))
        return format_ldm_name(out, "unet.down_blocks.%d.attentions.%d.%s", level, j, rest);
    return false;
}

static bool unet_mid(char out[WEIGHT_NAME], const char *s)
{
    const char *rest;
    int n[2];

    if ((rest = match_pattern(s, "middle_block.0.", n)))
        return unet_resnet(out, "unet.mid_block.resnets.0.", rest);
    if ((rest = match_pattern(s, "middle_block.1.", n)))
        return format_ldm_name(out, "unet.mid_block.attentions.0.%s", rest);
    if ((rest = match_pattern(s, "middle_block.2.", n)))
        return unet_resnet(out, "unet.mid_block.resnets.1.", rest);
    return false;
}

/* output_blocks: one more resnet per level; the upsampler shares the last one's number. */
static bool unet_up(char out[WEIGHT_NAME], const char *s, int resnets)
{
    char at[WEIGHT_NAME];
    const char *rest;
    int n[2];

    if (!match_pattern(s, "output_blocks.#.", n))
        return false;
    const int block = n[0] / (resnets + 1), j = n[0] % (resnets + 1);
    if ((rest = match_pattern(s, "output_blocks.#.0.", n)))
        return format_ldm_name(at, "unet.up_blocks.%d.resnets.%d.", block, j) &&
               unet_resnet(out, at, rest);
    if ((rest = match_pattern(s, "output_blocks.#.#.conv.", n)))
        return format_ldm_name(out, "unet.up_blocks.%d.upsamplers.0.conv.%s", block, rest);
    if ((rest = match_pattern(s, "output_blocks.#.1.", n)))
        return format_ldm_name(out, "unet.up_blocks.%d.attentions.%d.%s", block, j, rest);
    return false;
}

static bool unet_translate(char out[WEIGHT_NAME], const char *s, int resnets)
{
    for (size_t i = 0; i < COUNT(UNET_ENDS); i++) {
        int n[2];
        const char *rest = match_pattern(s, UNET_ENDS[i].from, n);
        if (rest)
            return format_ldm_name(out, "%s%s", UNET_ENDS[i].to, rest);
    }
    return unet_down(out, s, resnets) || unet_mid(out, s) || unet_up(out, s, resnets);
}

/* ---- VAE ---- */

static const respelling VAE_RESNET[] = { { "nin_shortcut.", "conv_shortcut." } };

static const respelling VAE_ATTENTION[] = {
    { "norm.", "group_norm." },   { "q.", "to_q." }, { "k.", "to_k." }, { "v.", "to_v." },
    { "proj_out.", "to_out.0." },
};

static const respelling VAE_ENDS[] = { { "norm_out.", "conv_norm_out." } };

static bool vae_resnet(char out[WEIGHT_NAME], const char *at, const char *rest)
{
    return format_renamed(out, at, rest, VAE_RESNET, COUNT(VAE_RESNET));
}

static bool format_vae_mid(char out[WEIGHT_NAME], const char *half, const char *s)
{
    char at[WEIGHT_NAME];
    const char *rest;
    int n[2];

    if ((rest = match_pattern(s, "mid.block_#.", n)))
        return format_ldm_name(at, "vae.%s.mid_block.resnets.%d.", half, n[0] - 1) &&
               vae_resnet(out, at, rest);
    if ((rest = match_pattern(s, "mid.attn_1.", n)))
        return format_ldm_name(at, "vae.%s.mid_block.attentions.0.", half) &&
               format_renamed(out, at, rest, VAE_ATTENTION, COUNT(VAE_ATTENTION));
    return format_ldm_name(at, "vae.%s.", half) &&
           format_renamed(out, at, s, VAE_ENDS, COUNT(VAE_ENDS));
}

static bool vae_encoder(char out[WEIGHT_NAME], const char *s)
{
    char at[WEIGHT_NAME];
    const char *rest;
    int n[2];

    if ((rest = match_pattern(s, "down.#.block.#.", n)))
        return format_ldm_name(at, "vae.encoder.down_blocks.%d.resnets.%d.", n[0], n[1]) &&
               vae_resnet(out, at, rest);
    if ((rest = match_pattern(s, "down.#.downsample.", n)))
        return format_ldm_name(out, "vae.encoder.down_blocks.%d.downsamplers.0.%s", n[0], rest);
    return format_vae_mid(out, "encoder", s);
}

/* The single file counts levels from the finest, diffusers in the order they run. */
static bool vae_decoder(char out[WEIGHT_NAME], const char *s, int levels)
{
    char at[WEIGHT_NAME];
    const char *rest;
    int n[2];

    if ((rest = match_pattern(s, "up.#.block.#.", n)))
        return format_ldm_name(at, "vae.decoder.up_blocks.%d.resnets.%d.", levels - 1 - n[0],
                               n[1]) &&
               vae_resnet(out, at, rest);
    if ((rest = match_pattern(s, "up.#.upsample.", n)))
        return format_ldm_name(out, "vae.decoder.up_blocks.%d.upsamplers.0.%s", levels - 1 - n[0],
                               rest);
    return format_vae_mid(out, "decoder", s);
}

static bool vae_translate(char out[WEIGHT_NAME], const char *s, int levels)
{
    const char *rest;
    int n[2];

    if ((rest = match_pattern(s, "encoder.", n)))
        return vae_encoder(out, rest);
    if ((rest = match_pattern(s, "decoder.", n)))
        return vae_decoder(out, rest, levels);
    if (match_pattern(s, "quant_conv.", n) || match_pattern(s, "post_quant_conv.", n))
        return format_ldm_name(out, "vae.%s", s);
    return false;
}

/* ---- text encoders ---- */

static const respelling TEXT_LAYER[] = {
    { "ln_1.", "layer_norm1." },   { "ln_2.", "layer_norm2." }, { "mlp.c_fc.", "mlp.fc1." },
    { "mlp.c_proj.", "mlp.fc2." }, { "attn.", "self_attn." },
};

static const respelling TEXT_ENDS[] = {
    { "token_embedding.", "text.text_model.embeddings.token_embedding." },
    { "positional_embedding", "text.text_model.embeddings.position_embedding.weight" },
    { "ln_final.", "text.text_model.final_layer_norm." },
};

static bool text_qkv(ldm_name *out, int layer, const char *what)
{
    static const char *const PROJ[3] = { "q_proj", "k_proj", "v_proj" };
    out->view = LDM_THIRDS;
    for (int i = 0; i < 3; i++)
        if (!format_ldm_name(out->name[i], "text.text_model.encoder.layers.%d.self_attn.%s.%s",
                             layer, PROJ[i], what))
            return false;
    return true;
}

static bool text_translate(ldm_name *out, const char *s)
{
    char at[WEIGHT_NAME];
    const char *rest;
    int n[2];

    if ((rest = match_pattern(s, "transformer.resblocks.#.attn.in_proj_", n)))
        return text_qkv(out, n[0], rest);
    if ((rest = match_pattern(s, "transformer.resblocks.#.", n)))
        return format_ldm_name(at, "text.text_model.encoder.layers.%d.", n[0]) &&
               format_renamed(out->name[0], at, rest, TEXT_LAYER, COUNT(TEXT_LAYER));
    /* open_clip multiplies by the parameter from the right; a linear's weight is its transpose. */
    const bool parameter = strcmp(s, "text_projection") == 0;
    if (parameter || strcmp(s, "text_projection.weight") == 0) {
        out->view = parameter ? LDM_TRANSPOSED : LDM_WHOLE;
        return format_ldm_name(out->name[0], "text.text_projection.weight");
    }
    for (size_t i = 0; i < COUNT(TEXT_ENDS); i++)
        if ((rest = match_pattern(s, TEXT_ENDS[i].from, n)))
            return format_ldm_name(out->name[0], "%s%s", TEXT_ENDS[i].to, rest);
    return false;
}

/* CLIP ViT-L has transformers' names.  Beside its weights lie position_ids. */
static bool text_l_translate(char out[WEIGHT_NAME], const char *s)
{
    static const char *const WEIGHTS[] = { "embeddings.token_embedding.",
                                           "embeddings.position_embedding.", "encoder.layers.#.",
                                           "final_layer_norm." };
    int n[2];
    for (size_t i = 0; i < COUNT(WEIGHTS); i++)
        if (match_pattern(s, WEIGHTS[i], n))
            return format_ldm_name(out, "text_l.text_model.%s", s);
    return false;
}

/* ---- */

/* No weights: with them somebody tells how the model was trained. */
static const char *const MARKS[] = { "v_pred", "ztsnr", "edm_mean", "edm_std",
                                     "edm_vpred.sigma_max" };

static bool translate_mark(char out[WEIGHT_NAME], const char *s)
{
    for (size_t i = 0; i < COUNT(MARKS); i++)
        if (strcmp(s, MARKS[i]) == 0)
            return format_ldm_name(out, "%s", s);
    return false;
}

bool ldm_translate(ldm_name *out, const char *ldm, const ldm_shape *shape)
{
    const char *rest;
    int n[2];

    out->view = LDM_WHOLE;
    if ((rest = match_pattern(ldm, "model.diffusion_model.", n)))
        return unet_translate(out->name[0], rest, shape->unet_resnets);
    if ((rest = match_pattern(ldm, "first_stage_model.", n)))
        return vae_translate(out->name[0], rest, shape->vae_levels);
    if ((rest = match_pattern(ldm, "conditioner.embedders.0.transformer.text_model.", n)))
        return text_l_translate(out->name[0], rest);
    /* bigG stands alone in the refiner, and behind CLIP ViT-L in the base. */
    if ((rest = match_pattern(ldm, "conditioner.embedders.0.model.", n)) ||
        (rest = match_pattern(ldm, "conditioner.embedders.1.model.", n)))
        return text_translate(out, rest);
    return translate_mark(out->name[0], ldm);
}
