/* tools/source/recognise.c -- models known by the names and shapes of their tensors.
 *
 * First by the names in the file: the first rule that fits names it.  A patch for a model is
 * looked for before the models, since its names contain theirs; parts are looked for after the
 * wholes.  What has all the names of a base or a refiner may be a relative of theirs still, which
 * the shapes and the marks tell once the tensors have their canonical names.
 */
#include "tools/source/recognise.h"

#include <stdio.h>
#include <string.h>

typedef enum where { BEGINS, CONTAINS } where;

typedef struct kind_rule {
    where at;
    const char *text, *is;
} kind_rule;

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static const char UNET[] = "model.diffusion_model.";
static const char VAE[] = "first_stage_model.";
static const char LABELS[] = "model.diffusion_model.label_emb.0.0.weight";

/* bigG stands first in the refiner, and second in the base, behind CLIP ViT-L. */
static const char REFINER_TEXT[] = "conditioner.embedders.0.model.";
static const char BASE_TEXT_L[] = "conditioner.embedders.0.transformer.";
static const char BASE_TEXT[] = "conditioner.embedders.1.model.";

static const kind_rule PATCHES[] = {
    { CONTAINS, "lora_", "a LoRA, a patch for a model" },
    { CONTAINS, ".lora.", "a LoRA, a patch for a model" },
    { CONTAINS, "lokr_", "a LoKr, a patch for a model" },
    { CONTAINS, "hada_w", "a LoHa, a patch for a model" },
    { BEGINS, "control_model.", "a ControlNet" },
    { CONTAINS, "controlnet_", "a ControlNet" },
    { BEGINS, "ip_adapter.", "an IP-Adapter" },
    { BEGINS, "emb_params", "a textual inversion" },
    { BEGINS, "clip_g", "a textual inversion" },
};

static const kind_rule WHOLES[] = {
    { BEGINS, "cond_stage_model.transformer.", "a Stable Diffusion 1 model" },
    { BEGINS, "cond_stage_model.model.", "a Stable Diffusion 2 model" },
    { CONTAINS, "joint_blocks.", "a Stable Diffusion 3 model" },
    { CONTAINS, "double_blocks.", "a FLUX model" },
};

static const kind_rule PARTS[] = {
    { BEGINS, UNET, "a UNet alone, without text encoder and VAE" },
    { BEGINS, "down_blocks.",
      "a UNet alone, in diffusers' layout: give the directory that "
      "holds unet/, vae/ and text_encoder_2/" },
    { BEGINS, "input_blocks.", "a UNet alone, without text encoder and VAE" },
    { BEGINS, VAE, "a VAE alone" },
    { BEGINS, "decoder.", "a VAE alone" },
    { BEGINS, "encoder.conv_in.", "a VAE alone" },
    { BEGINS, "conditioner.", "a text encoder alone" },
    { BEGINS, "text_model.", "a text encoder alone" },
    { BEGINS, "transformer.resblocks.", "a text encoder alone" },
};

static bool has_tensor_matching(const safetensors *f, const kind_rule *r)
{
    for (int i = 0; i < f->n; i++) {
        const char *found = strstr(f->tensor[i].name, r->text);
        if (found && (r->at == CONTAINS || found == f->tensor[i].name))
            return true;
    }
    return false;
}

static bool has_tensor_prefix(const safetensors *f, const char *prefix)
{
    const kind_rule r = { BEGINS, prefix, NULL };
    return has_tensor_matching(f, &r);
}

static const char *name_by(const safetensors *f, const kind_rule *rules, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (has_tensor_matching(f, &rules[i]))
            return rules[i].is;
    return NULL;
}

static bool has_any_encoder(const safetensors *f)
{
    return has_tensor_prefix(f, REFINER_TEXT) || has_tensor_prefix(f, BASE_TEXT_L) ||
           has_tensor_prefix(f, BASE_TEXT);
}

static bool has_every_encoder(const safetensors *f)
{
    return has_tensor_prefix(f, REFINER_TEXT) ||
           (has_tensor_prefix(f, BASE_TEXT_L) && has_tensor_prefix(f, BASE_TEXT));
}

/* A UNet without its text encoders: whose was it? */
static const char *whose_unet(const safetensors *f)
{
    const safetensor *labels = safetensors_find(f, LABELS);
    if (!has_tensor_prefix(f, UNET) || has_any_encoder(f) || !labels || labels->n_dims != 2)
        return NULL;
    if (labels->dim[1] == 2816)
        return "the SDXL base model's UNet alone, without text encoders and VAE";
    if (labels->dim[1] == 2560)
        return "the refiner's UNet alone, without text encoder and VAE";
    return NULL;
}

/* A UNet with some of what belongs to it. */
static const char *missing_component(const safetensors *f)
{
    if (!has_tensor_prefix(f, LABELS) || !has_any_encoder(f))
        return NULL;
    if (!has_every_encoder(f))
        return has_tensor_prefix(f, BASE_TEXT)
                   ? "the SDXL base model without its first text encoder, CLIP ViT-L"
                   : "the SDXL base model without its second text encoder, OpenCLIP bigG";
    if (!has_tensor_prefix(f, VAE))
        return has_tensor_prefix(f, REFINER_TEXT)
                   ? "a refiner without its VAE: get the complete sd_xl_refiner_1.0.safetensors, "
                     "or give a VAE with --vae"
                   : "the SDXL base model without its VAE: give one with --vae";
    return NULL;
}

refine_status recognise_checkpoint(const safetensors *f, bool with_vae, refine_error *err)
{
    char note[SAFETENSORS_NOTE];
    const char *is = name_by(f, PATCHES, COUNT(PATCHES));
    if (!is)
        is = name_by(f, WHOLES, COUNT(WHOLES));
    if (!is && has_tensor_prefix(f, LABELS) && has_every_encoder(f) &&
        (has_tensor_prefix(f, VAE) || with_vae))
        return REFINE_OK;
    if (!is)
        is = missing_component(f);
    if (!is)
        is = whose_unet(f);
    if (!is)
        is = name_by(f, PARTS, COUNT(PARTS));
    if (is)
        return refine_fail(err, REFINE_EFORMAT,
                           "%s: this is neither an SDXL base model nor the refiner but %s", f->path,
                           is);
    const char *called = safetensors_note(note, f, "modelspec.architecture");
    return refine_fail(err, REFINE_EFORMAT,
                       "%s: this is neither an SDXL base model nor the refiner: %s%s%snone of its "
                       "%d tensors is known%s%.100s",
                       f->path, called ? "it calls itself " : "", called ? called : "",
                       called ? ", and " : "", f->n, f->n ? ", such as " : "",
                       f->n ? f->tensor[0].name : "");
}

/* ---- relatives ---- */

static const struct {
    const char *mark, *is;
} MARKED[] = {
    { "edm_mean", "Playground v2.5, which needs EDM preconditioning (its tensor edm_mean)" },
    { "edm_std", "Playground v2.5, which needs EDM preconditioning (its tensor edm_std)" },
    { "edm_vpred.sigma_max", "CosXL, which needs EDM preconditioning (its tensor "
                             "edm_vpred.sigma_max)" },
    { "ztsnr", "a model trained with zero terminal SNR (its tensor ztsnr), which is not "
               "supported" },
    { "unet.time_embedding.cond_proj.weight",
      "an LCM-distilled UNet, which takes the guidance as an input" },
};

static const char *whose_channels(const tensor_index *ix)
{
    const tensor_part *in = tensor_index_find(ix, "unet.conv_in.weight");
    if (in && in->n_dims > 1 && in->dim[1] == 9)
        return "an inpainting model, whose UNet takes 9 channels";
    if (in && in->n_dims > 1 && in->dim[1] == 8)
        return "an instruct-pix2pix model, whose UNet takes 8 channels";
    return NULL;
}

static bool has_module(const tensor_index *ix, const char *norm, const char *product)
{
    return tensor_index_find(ix, norm) || tensor_index_find(ix, product);
}

/* UNets with blocks taken out.  One tensor that is missing makes none: it is missing. */
static const char *whose_blocks(const tensor_index *ix)
{
    if (!has_module(ix, "unet.down_blocks.0.resnets.1.norm1.weight",
                    "unet.down_blocks.0.resnets.1.conv1.weight"))
        return "a KOALA model, whose UNet has one resnet in each block";
    if (has_module(ix, "unet.mid_block.attentions.0.norm.weight",
                   "unet.mid_block.attentions.0.proj_in.weight"))
        return NULL;
    if (tensor_index_find(ix, "unet.down_blocks.2.attentions.0.transformer_blocks.2.norm1.weight"))
        return "SSD-1B, whose UNet has no attention in the middle";
    return "Segmind Vega, whose UNet has no attention in the middle";
}

refine_status recognise_relative(const tensor_index *ix, const char *path, refine_error *err)
{
    const char *is = NULL;

    for (size_t i = 0; !is && i < COUNT(MARKED); i++)
        if (tensor_index_find(ix, MARKED[i].mark))
            is = MARKED[i].is;
    if (!is)
        is = whose_channels(ix);
    if (!is)
        is = whose_blocks(ix);
    if (!is)
        return REFINE_OK;
    return refine_fail(err, REFINE_EFORMAT,
                       "%s: this is neither an SDXL base model nor the refiner but %s", path, is);
}

const char *recognise_config(const model_config *c)
{
    return c->text_l.layers > 0 ? "sdxl-base" : "sdxl-refiner";
}
