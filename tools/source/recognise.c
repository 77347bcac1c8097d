/* tools/source/recognise.c -- models known by the names of their tensors.
 *
 * The first rule that fits names the file.  A patch for a model is looked for before the
 * models, since its names contain theirs; parts are looked for after the wholes.
 */
#include "tools/source/recognise.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

typedef enum where { BEGINS, CONTAINS } where;

typedef struct kind_rule {
    where at;
    const char *text, *is;
} kind_rule;

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static const char UNET[] = "model.diffusion_model.";
static const char TEXT[] = "conditioner.embedders.0.model.";
static const char VAE[] = "first_stage_model.";
static const char LABELS[] = "model.diffusion_model.label_emb.0.0.weight";

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
    { BEGINS, "conditioner.embedders.1.", "the SDXL base model" },
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

/* A UNet without its text encoder: whose was it? */
static const char *whose_unet(const safetensors *f)
{
    const safetensor *labels = safetensors_find(f, LABELS);
    if (!has_tensor_prefix(f, UNET) || has_tensor_prefix(f, TEXT) || !labels || labels->n_dims != 2)
        return NULL;
    if (labels->dim[1] == 2816)
        return "the SDXL base model's UNet alone";
    if (labels->dim[1] == 2560)
        return "the refiner's UNet alone, without text encoder and VAE";
    return NULL;
}

static const char *missing_component(const safetensors *f)
{
    if (!has_tensor_prefix(f, TEXT))
        return NULL;
    if (has_tensor_prefix(f, UNET) && has_tensor_prefix(f, LABELS) && !has_tensor_prefix(f, VAE))
        return "a refiner without its VAE: get the complete sd_xl_refiner_1.0.safetensors";
    return NULL;
}

refine_status recognise_refiner(const safetensors *f, refine_error *err)
{
    const char *is = name_by(f, PATCHES, COUNT(PATCHES));
    if (!is)
        is = name_by(f, WHOLES, COUNT(WHOLES));
    if (!is && has_tensor_prefix(f, LABELS) && has_tensor_prefix(f, TEXT) &&
        has_tensor_prefix(f, VAE))
        return REFINE_OK;
    if (!is)
        is = missing_component(f);
    if (!is)
        is = whose_unet(f);
    if (!is)
        is = name_by(f, PARTS, COUNT(PARTS));
    if (is)
        return refine_fail(err, REFINE_EFORMAT, "%s: this is not the SDXL refiner but %s", f->path,
                           is);
    return refine_fail(err, REFINE_EFORMAT,
                       "%s: this is not the SDXL refiner: none of its %d tensors is known%s%.100s",
                       f->path, f->n, f->n ? ", such as " : "", f->n ? f->tensor[0].name : "");
}
