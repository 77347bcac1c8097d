/* tests/tools/test_recognise.c -- each kind of file people have is called by its name. */
#include "tools/source/recognise.h"

#include "tests/support/temp_file.h"
#include "tests/support/tensors_file.h"

#include <criterion/criterion.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

enum { NAMES = 5 };

#define UNET   "model.diffusion_model.input_blocks.0.0.weight"
#define LABELS "model.diffusion_model.label_emb.0.0.weight"
#define TEXT0  "conditioner.embedders.0.model.ln_final.weight"
#define VAE    "first_stage_model.decoder.conv_in.weight"

/* A file with tensors of these names; labels have a second dimension of `labels`. */
static refine_status recognise_names(const char *const names[NAMES], const char *labels,
                                     refine_error *err)
{
    char path[TEMP_NAME];
    tensors_file t = { 0 };
    safetensors *f;
    temp_file(path, ".safetensors");
    for (int i = 0; i < NAMES && names[i]; i++)
        tensors_file_add(&t, names[i], "F16", 2, strcmp(names[i], LABELS) == 0 ? labels : "2");
    tensors_file_write(&t, path);
    cr_assert_eq(safetensors_open(&f, path, err), REFINE_OK, "%s", err->text);
    const refine_status st = recognise_refiner(f, err);
    safetensors_close(f);
    (void)unlink(path);
    return st;
}

Test(tools_recognise, the_refiner_is_recognised_with_whatever_else_lies_in_it)
{
    static const char *const PLAIN[NAMES] = { UNET, LABELS, TEXT0, VAE };
    static const char *const EXTRA[NAMES] = { "denoiser.sigmas", LABELS, TEXT0, VAE,
                                              "model_ema.decay" };
    refine_error err = { 0 };
    cr_assert_eq(recognise_names(PLAIN, "4, 2560", &err), REFINE_OK, "%s", err.text);
    cr_assert_eq(recognise_names(EXTRA, "4, 224", &err), REFINE_OK, "%s", err.text);
}

Test(tools_recognise, everything_else_is_called_by_its_name)
{
    static const struct {
        const char *names[NAMES], *labels, *is;
    } FILES[] = {
        { { UNET, LABELS, TEXT0, VAE, "conditioner.embedders.1.model.ln_final.weight" },
          "4, 2816",
          "the SDXL base model" },
        { { UNET, VAE, "cond_stage_model.transformer.text_model.x.weight" }, "4", "Diffusion 1" },
        { { UNET, VAE, "cond_stage_model.model.ln_final.weight" }, "4", "Diffusion 2" },
        { { "model.diffusion_model.joint_blocks.0.x.weight", VAE }, "4", "Diffusion 3" },
        { { "double_blocks.0.img_attn.qkv.weight" }, "4", "FLUX" },
        { { "lora_unet_x.lora_down.weight", "lora_unet_x.alpha" }, "4", "LoRA" },
        { { "unet.down_blocks.0.x.lora.up.weight" }, "4", "LoRA" },
        { { "lycoris_x.lokr_w1" }, "4", "LoKr" },
        { { "lycoris_x.hada_w1_a" }, "4", "LoHa" },
        { { "control_model.input_blocks.0.0.weight" }, "4", "ControlNet" },
        { { "controlnet_cond_embedding.conv_in.weight" }, "4", "ControlNet" },
        { { "emb_params" }, "4", "textual inversion" },
        { { UNET, LABELS, VAE }, "4, 2816", "the SDXL base model's UNet alone" },
        { { UNET, LABELS }, "4, 2560", "the refiner's UNet alone" },
        { { UNET, LABELS, TEXT0 }, "4, 2560", "a refiner without its VAE" },
        { { UNET }, "4", "a UNet alone" },
        { { "down_blocks.0.resnets.0.conv1.weight" }, "4", "give the directory" },
        { { VAE }, "4", "a VAE alone" },
        { { "decoder.conv_in.weight", "encoder.conv_in.weight" }, "4", "a VAE alone" },
        { { TEXT0 }, "4", "a text encoder alone" },
        { { "text_model.final_layer_norm.weight" }, "4", "a text encoder alone" },
        { { "something.else" }, "4", "such as something.else" },
    };
    for (size_t i = 0; i < sizeof FILES / sizeof FILES[0]; i++) {
        refine_error err = { 0 };
        cr_assert_eq(recognise_names(FILES[i].names, FILES[i].labels, &err), REFINE_EFORMAT, "%s",
                     FILES[i].is);
        cr_assert_not_null(strstr(err.text, FILES[i].is), "'%s' in: %s", FILES[i].is, err.text);
    }
}
