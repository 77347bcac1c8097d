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
#define BASE_L "conditioner.embedders.0.transformer.text_model.final_layer_norm.weight"
#define BASE_G "conditioner.embedders.1.model.ln_final.weight"
#define VAE    "first_stage_model.decoder.conv_in.weight"

/* A file with tensors of these names; labels have a second dimension of `labels`. */
static refine_status recognise_names(const char *const names[NAMES], const char *labels,
                                     bool with_vae, refine_error *err)
{
    char path[TEMP_NAME];
    tensors_file t = { 0 };
    safetensors *f;
    temp_file(path, ".safetensors");
    for (int i = 0; i < NAMES && names[i]; i++)
        tensors_file_add(&t, names[i], "F16", 2, strcmp(names[i], LABELS) == 0 ? labels : "2");
    tensors_file_write(&t, path);
    cr_assert_eq(safetensors_open(&f, path, err), REFINE_OK, "%s", err->text);
    const refine_status st = recognise_checkpoint(f, with_vae, err);
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
    cr_assert_eq(recognise_names(PLAIN, "4, 2560", false, &err), REFINE_OK, "%s", err.text);
    cr_assert_eq(recognise_names(PLAIN, "4, 2560", true, &err), REFINE_OK, "%s", err.text);
    cr_assert_eq(recognise_names(EXTRA, "4, 224", false, &err), REFINE_OK, "%s", err.text);
}

Test(tools_recognise, the_base_is_recognised_by_its_two_encoders)
{
    static const char *const BASE[NAMES] = { UNET, LABELS, BASE_L, BASE_G, VAE };
    static const char *const NO_VAE[NAMES] = { UNET, LABELS, BASE_L, BASE_G };
    refine_error err = { 0 };
    cr_assert_eq(recognise_names(BASE, "4, 2816", false, &err), REFINE_OK, "%s", err.text);
    cr_assert_eq(recognise_names(NO_VAE, "4, 2816", true, &err), REFINE_OK, "%s", err.text);
}

Test(tools_recognise, everything_else_is_called_by_its_name)
{
    static const struct {
        const char *names[NAMES], *labels, *is;
    } FILES[] = {
        { { UNET, LABELS, BASE_L, BASE_G }, "4, 2816", "give one with --vae" },
        { { UNET, LABELS, BASE_L, VAE }, "4, 2816", "without its second text encoder" },
        { { UNET, LABELS, BASE_G, VAE }, "4, 2816", "without its first text encoder" },
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
        { { BASE_L, BASE_G }, "4", "a text encoder alone" },
        { { TEXT0 }, "4", "a text encoder alone" },
        { { "text_model.final_layer_norm.weight" }, "4", "a text encoder alone" },
        { { "something.else" }, "4", "such as something.else" },
    };
    for (size_t i = 0; i < sizeof FILES / sizeof FILES[0]; i++) {
        refine_error err = { 0 };
        cr_assert_eq(recognise_names(FILES[i].names, FILES[i].labels, false, &err), REFINE_EFORMAT,
                     "%s", FILES[i].is);
        cr_assert_not_null(strstr(err.text, FILES[i].is), "'%s' in: %s", FILES[i].is, err.text);
    }
}

/* Tensors of a base's UNet under their published names, NULL behind the last. */
static refine_status recognise_tensors(const char *const pairs[], refine_error *err)
{
    char path[TEMP_NAME];
    tensors_file t = { 0 };
    tensor_index ix = { 0 };
    safetensors *f;
    temp_file(path, ".safetensors");
    for (; *pairs; pairs += 2)
        tensors_file_add(&t, pairs[0], "F16", 2, pairs[1]);
    tensors_file_write(&t, path);
    cr_assert_eq(safetensors_open(&f, path, err), REFINE_OK, "%s", err->text);
    cr_assert_eq(tensor_index_ldm(&ix, f, err), REFINE_OK);
    cr_assert_eq(tensor_index_seal(&ix, err), REFINE_OK);
    const refine_status st = recognise_relative(&ix, path, err);
    tensor_index_free(&ix);
    safetensors_close(f);
    (void)unlink(path);
    return st;
}

Test(tools_recognise, relatives_are_told_by_their_shapes_and_marks)
{
#define U    "model.diffusion_model."
#define IN   U "input_blocks.0.0.weight"
#define DOWN U "input_blocks.3.0.op.weight", "2, 2, 3, 3"
#define TWO  U "input_blocks.2.0.in_layers.0.weight", "2"
#define MID  U "middle_block.1.norm.weight", "2"
#define DEEP U "input_blocks.7.1.transformer_blocks.2.norm1.weight", "2"
    static const struct {
        const char *pairs[13], *is;
    } FILES[] = {
        { { IN, "320, 4, 3, 3", DOWN, TWO, MID, NULL }, NULL },
        { { IN, "320, 4, 3, 3", DOWN, TWO, MID, "v_pred", "0", NULL }, NULL },
        { { IN, "320, 9, 3, 3", DOWN, TWO, MID, NULL }, "an inpainting model" },
        { { IN, "320, 8, 3, 3", DOWN, TWO, MID, NULL }, "an instruct-pix2pix model" },
        { { IN, "320, 4, 3, 3", DOWN, TWO, DEEP, NULL }, "SSD-1B" },
        { { IN, "320, 4, 3, 3", DOWN, TWO, NULL }, "Segmind Vega" },
        { { IN, "320, 4, 3, 3", U "input_blocks.2.0.op.weight", "2, 2, 3, 3", NULL }, "KOALA" },
        { { IN, "320, 4, 3, 3", DOWN, TWO, MID, U "time_embed.cond_proj.weight", "320, 256", NULL },
          "LCM-distilled" },
        { { IN, "320, 4, 3, 3", DOWN, TWO, MID, "edm_mean", "4", NULL }, "Playground v2.5" },
        { { IN, "320, 4, 3, 3", DOWN, TWO, MID, "edm_std", "4", NULL }, "Playground v2.5" },
        { { IN, "320, 4, 3, 3", DOWN, TWO, MID, "edm_vpred.sigma_max", "1", NULL }, "CosXL" },
        { { IN, "320, 4, 3, 3", DOWN, TWO, MID, "ztsnr", "0", NULL }, "zero terminal SNR" },
    };
#undef U
#undef IN
#undef DOWN
#undef TWO
#undef MID
#undef DEEP
    for (size_t i = 0; i < sizeof FILES / sizeof FILES[0]; i++) {
        refine_error err = { 0 };
        const refine_status st = recognise_tensors(FILES[i].pairs, &err);
        cr_assert_eq(st, FILES[i].is ? REFINE_EFORMAT : REFINE_OK, "%zu: %s", i, err.text);
        cr_assert(!FILES[i].is || strstr(err.text, FILES[i].is), "'%s' in: %s", FILES[i].is,
                  err.text);
    }
}

Test(tools_recognise, a_configuration_has_the_name_of_its_structure)
{
    cr_expect_str_eq(recognise_config(&MODEL_BASE), "sdxl-base");
    cr_expect_str_eq(recognise_config(&MODEL_TINY_BASE), "sdxl-base");
    cr_expect_str_eq(recognise_config(&MODEL_REFINER), "sdxl-refiner");
}
