/* tests/tools/test_tensor_index.c -- other spellings of the same names, and two of one. */
#define _POSIX_C_SOURCE 200809L
#include "tools/source/tensor_index.h"

#include "engine/base/mem.h"
#include "tests/support/temp_file.h"
#include "tests/support/tensors_file.h"

#include <criterion/criterion.h>
#include <string.h>
#include <unistd.h>

/* One file with tensors of these names and shapes, NULL-terminated. */
static safetensors *open_indexed_file(const char *const pairs[])
{
    char path[TEMP_NAME];
    tensors_file t = { 0 };
    safetensors *f;
    refine_error err = { 0 };
    temp_file(path, ".safetensors");
    for (; *pairs; pairs += 2)
        tensors_file_add(&t, pairs[0], "F16", 2, pairs[1]);
    tensors_file_write(&t, path);
    cr_assert_eq(safetensors_open(&f, path, &err), REFINE_OK, "%s", err.text);
    (void)unlink(path);
    return f;
}

static void expect_index_entry(const tensor_index *ix, const char *name, const char *stored)
{
    const tensor_part *p = tensor_index_find(ix, name);
    cr_assert_not_null(p, "%s", name);
    cr_assert_str_eq(p->tensor->name, stored);
}

Test(tools_tensor_index, old_and_new_spellings_of_diffusers_are_one)
{
    static const char *const VAE[] = { "encoder.mid_block.attentions.0.query.weight",
                                       "4, 4",
                                       "encoder.mid_block.attentions.0.key.bias",
                                       "4",
                                       "encoder.mid_block.attentions.0.value.weight",
                                       "4, 4, 1, 1",
                                       "decoder.mid_block.attentions.0.proj_attn.bias",
                                       "4",
                                       "decoder.mid_block.attentions.0.to_q.weight",
                                       "4, 4",
                                       NULL };
    static const char *const TEXT[] = { "encoder.layers.0.mlp.fc1.weight",
                                        "8, 4",
                                        "text_model.final_layer_norm.bias",
                                        "4",
                                        "text_projection.weight",
                                        "4, 4",
                                        NULL };
    safetensors *vae = open_indexed_file(VAE), *text = open_indexed_file(TEXT);
    tensor_index ix = { 0 };
    cr_assert_eq(tensor_index_diffusers(&ix, vae, "vae.", NULL), REFINE_OK);
    cr_assert_eq(tensor_index_diffusers(&ix, text, "text.", NULL), REFINE_OK);
    cr_assert_eq(tensor_index_seal(&ix, NULL), REFINE_OK);
    expect_index_entry(&ix, "vae.encoder.mid_block.attentions.0.to_q.weight", VAE[0]);
    expect_index_entry(&ix, "vae.encoder.mid_block.attentions.0.to_k.bias", VAE[2]);
    expect_index_entry(&ix, "vae.encoder.mid_block.attentions.0.to_v.weight", VAE[4]);
    expect_index_entry(&ix, "vae.decoder.mid_block.attentions.0.to_out.0.bias", VAE[6]);
    expect_index_entry(&ix, "vae.decoder.mid_block.attentions.0.to_q.weight", VAE[8]);
    expect_index_entry(&ix, "text.text_model.encoder.layers.0.mlp.fc1.weight", TEXT[0]);
    expect_index_entry(&ix, "text.text_model.final_layer_norm.bias", TEXT[2]);
    expect_index_entry(&ix, "text.text_projection.weight", TEXT[4]);
    cr_assert_null(tensor_index_find(&ix, "vae.encoder.mid_block.attentions.0.query.weight"));
    tensor_index_free(&ix);
    safetensors_close(vae);
    safetensors_close(text);
    cr_assert_eq(mem_used().now, 0u);
}

Test(tools_tensor_index, one_weight_under_two_spellings_is_refused)
{
    static const char *const VAE[] = { "encoder.mid_block.attentions.0.query.weight", "4, 4",
                                       "encoder.mid_block.attentions.0.to_q.weight", "4, 4", NULL };
    safetensors *f = open_indexed_file(VAE);
    tensor_index ix = { 0 };
    refine_error err = { 0 };
    cr_assert_eq(tensor_index_diffusers(&ix, f, "vae.", NULL), REFINE_OK);
    cr_assert_eq(tensor_index_seal(&ix, &err), REFINE_EFORMAT);
    cr_assert_not_null(strstr(err.text, "query.weight"), "%s", err.text);
    tensor_index_free(&ix);
    safetensors_close(f);
}

Test(tools_tensor_index, views_of_the_single_file_have_their_own_shapes)
{
#define T "conditioner.embedders.0.model."
    static const char *const FILE_NAMES[] = {
        T "transformer.resblocks.0.attn.in_proj_weight",
        "12, 4",
        T "transformer.resblocks.0.attn.in_proj_bias",
        "12",
        T "text_projection",
        "4, 6",
        T "logit_scale",
        "1",
        "first_stage_model.encoder.down.0.block.0.conv1.weight",
        "2, 2, 3, 3",
        "first_stage_model.encoder.down.1.block.0.conv1.weight",
        "2, 2, 3, 3",
        "first_stage_model.decoder.up.0.block.0.conv1.weight",
        "2, 2, 3, 3",
        "model.diffusion_model.input_blocks.2.0.op.weight",
        "2, 2, 3, 3",
        "model.diffusion_model.input_blocks.3.0.in_layers.0.weight",
        "2",
        NULL
    };
#undef T
    safetensors *f = open_indexed_file(FILE_NAMES);
    tensor_index ix = { 0 };
    cr_assert_eq(tensor_index_ldm(&ix, f, NULL), REFINE_OK);
    cr_assert_eq(tensor_index_seal(&ix, NULL), REFINE_OK);
    const tensor_part *v = tensor_index_find(
        &ix, "text.text_model.encoder.layers.0.self_attn.v_proj.weight");
    cr_assert_eq(v->dim[0], 4u);
    cr_assert_eq(v->dim[1], 4u);
    cr_assert_eq(v->elements, 16u);
    cr_assert_eq(v->skip, 32u);
    const tensor_part *b = tensor_index_find(
        &ix, "text.text_model.encoder.layers.0.self_attn.k_proj.bias");
    cr_assert_eq(b->elements, 4u);
    cr_assert_eq(b->skip, 4u);
    const tensor_part *p = tensor_index_find(&ix, "text.text_projection.weight");
    cr_assert(p->transposed);
    cr_assert_eq(p->dim[0], 6u);
    cr_assert_eq(p->dim[1], 4u);
    /* One resnet per level and two levels of the VAE, as the names tell. */
    cr_assert_not_null(tensor_index_find(&ix, "unet.down_blocks.1.resnets.0.norm1.weight"));
    cr_assert_not_null(tensor_index_find(&ix, "unet.down_blocks.0.downsamplers.0.conv.weight"));
    cr_assert_not_null(tensor_index_find(&ix, "vae.decoder.up_blocks.1.resnets.0.conv1.weight"));
    tensor_index_free(&ix);
    safetensors_close(f);
}

Test(tools_tensor_index, clip_l_with_and_without_its_prefix_is_one)
{
    static const char *const NAMES[] = { "embeddings.token_embedding.weight",
                                         "8, 4",
                                         "text_model.final_layer_norm.bias",
                                         "4",
                                         "encoder.layers.0.mlp.fc1.bias",
                                         "4",
                                         NULL };
    safetensors *f = open_indexed_file(NAMES);
    tensor_index ix = { 0 };
    cr_assert_eq(tensor_index_diffusers(&ix, f, "text_l.", NULL), REFINE_OK);
    cr_assert_eq(tensor_index_seal(&ix, NULL), REFINE_OK);
    expect_index_entry(&ix, "text_l.text_model.embeddings.token_embedding.weight", NAMES[0]);
    expect_index_entry(&ix, "text_l.text_model.final_layer_norm.bias", NAMES[2]);
    expect_index_entry(&ix, "text_l.text_model.encoder.layers.0.mlp.fc1.bias", NAMES[4]);
    tensor_index_free(&ix);
    safetensors_close(f);
}

Test(tools_tensor_index, a_vae_is_found_in_a_checkpoint_alone_and_in_either_layout)
{
    static const char *const FILES[3][7] = {
        { "first_stage_model.encoder.down.0.block.0.conv1.weight", "2, 2, 3, 3",
          "first_stage_model.decoder.up.0.block.0.conv1.weight", "2, 2, 3, 3",
          "model.diffusion_model.out.0.weight", "2", NULL },
        { "encoder.down.0.block.0.conv1.weight", "2, 2, 3, 3", "decoder.up.0.block.0.conv1.weight",
          "2, 2, 3, 3", "loss.logvar", "1", NULL },
        { "encoder.down_blocks.0.resnets.0.conv1.weight", "2, 2, 3, 3",
          "decoder.up_blocks.0.resnets.0.conv1.weight", "2, 2, 3, 3", NULL },
    };
    for (int i = 0; i < 3; i++) {
        safetensors *f = open_indexed_file(FILES[i]);
        tensor_index ix = { 0 };
        cr_assert_eq(tensor_index_vae(&ix, f, NULL), REFINE_OK);
        cr_assert_eq(tensor_index_seal(&ix, NULL), REFINE_OK);
        cr_expect_eq(ix.n, 2, "%d", i);
        expect_index_entry(&ix, "vae.encoder.down_blocks.0.resnets.0.conv1.weight", FILES[i][0]);
        expect_index_entry(&ix, "vae.decoder.up_blocks.0.resnets.0.conv1.weight", FILES[i][2]);
        cr_expect(tensor_index_has(&ix, "vae.decoder."));
        tensor_index_drop(&ix, "vae.decoder.");
        cr_expect(ix.n == 1 && !tensor_index_has(&ix, "vae.decoder."));
        tensor_index_free(&ix);
        safetensors_close(f);
    }
}
