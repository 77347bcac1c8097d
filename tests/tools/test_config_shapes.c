/* tests/tools/test_config_shapes.c -- the shapes of the published file say which model it is.
 *
 * The header is that of a file of real size; its data are a hole.
 */
#define _POSIX_C_SOURCE 200809L
#include "tools/source/config_shapes.h"

#include "engine/base/mem.h"
#include "tests/support/temp_file.h"
#include "tests/support/tensors_file.h"
#include "tests/support/vectors.h"
#include "tools/source/checkpoint.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { NAME = 0, SHAPE = 2, COLUMNS = 8 };

typedef struct listed {
    FILE *f;
    char *line, *column[COLUMNS];
    size_t room;
} listed;

static bool next_row(listed *l)
{
    if (getline(&l->line, &l->room, l->f) <= 0)
        return false;
    char *at = l->line;
    at[strcspn(at, "\n")] = 0;
    for (int i = 0; i < COLUMNS; i++) {
        l->column[i] = at;
        at += strcspn(at, "\t");
        if (*at)
            *at++ = 0;
    }
    return true;
}

static const char REFINER_LIST[] = "spec/refiner_tensors_ldm.tsv";
static const char BASE_LIST[] = "spec/base_tensors_ldm.tsv";

/* The published file's header; without the tensor `without`, with `other` as its shape, and with
 * an empty tensor `mark`. */
static bool write_published(const char *path, const char *of, const char *without,
                            const char *other, const char *mark)
{
    char list[VECTORS_PATH], dims[64];
    listed l = { 0 };
    tensors_file t = { 0 };

    if (!vectors_path(of, list))
        return false;
    l.f = fopen(list, "r");
    cr_assert(next_row(&l));
    while (next_row(&l)) {
        const bool it = without && strcmp(l.column[NAME], without) == 0;
        if (it && !other)
            continue;
        (void)snprintf(dims, sizeof dims, "%s", l.column[SHAPE] + 1);
        dims[strcspn(dims, "]")] = 0;
        tensors_file_add(&t, l.column[NAME], "F16", 2, it ? other : dims);
    }
    if (mark)
        tensors_file_add(&t, mark, "F16", 2, "0");
    (void)fclose(l.f);
    free(l.line);
    tensors_file_write(&t, path);
    return true;
}

Test(tools_config_shapes, the_published_single_file_is_the_refiner)
{
    char path[TEMP_NAME];
    weight_source *s;
    refine_error err = { 0 };
    temp_file(path, ".safetensors");
    if (!write_published(path, REFINER_LIST, NULL, NULL, NULL)) {
        (void)unlink(path);
        cr_skip_test("no list of tensors");
    }
    cr_assert_eq(checkpoint_open(&s, path, NULL, &err), REFINE_OK, "%s", err.text);
    char *have = model_config_dump(&s->list.config), *want = model_config_dump(&MODEL_REFINER);
    cr_assert_str_eq(have, want);
    cr_assert_gt(s->bytes, UINT64_C(6075680726));
    mem_free(have);
    mem_free(want);
    s->close(s);
    cr_assert_eq(mem_used().now, 0u);
    (void)unlink(path);
}

Test(tools_config_shapes, what_is_missing_or_misshapen_is_named)
{
    static const struct {
        const char *tensor, *shape, *says;
    } CHANGES[] = {
        { "model.diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_k.weight", NULL,
          "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight is missing" },
        { "model.diffusion_model.out.2.weight", NULL, "unet.conv_out.weight is missing" },
        { "model.diffusion_model.output_blocks.5.2.conv.bias", NULL,
          "unet.up_blocks.1.upsamplers.0.conv.bias is missing" },
        { "first_stage_model.quant_conv.weight", NULL, "vae.quant_conv.weight is missing" },
        { "conditioner.embedders.0.model.text_projection", NULL,
          "text.text_projection.weight is missing" },
        { "conditioner.embedders.0.model.text_projection", "1280", "is no matrix" },
        { "conditioner.embedders.0.model.transformer.resblocks.3.attn.in_proj_weight", "3841, 1280",
          "no query, key and value" },
        { "model.diffusion_model.input_blocks.0.0.weight", "384, 9, 3, 3", "inpainting" },
        { "model.diffusion_model.label_emb.0.0.weight", "1536, 2562", "add_embed_dim" },
        { "first_stage_model.decoder.conv_in.weight", "512, 4, 3, 4", "[512, 4, 3, 4]" },
        { "first_stage_model.decoder.conv_in.bias", "513", "[513]" },
        { "model.diffusion_model.out.2.weight", "4, 384, 3, 3, 1", "missing" },
    };
    char path[TEMP_NAME];
    temp_file(path, ".safetensors");
    for (size_t i = 0; i < sizeof CHANGES / sizeof CHANGES[0]; i++) {
        weight_source *s;
        refine_error err = { 0 };
        if (!write_published(path, REFINER_LIST, CHANGES[i].tensor, CHANGES[i].shape, NULL)) {
            (void)unlink(path);
            cr_skip_test("no list of tensors");
        }
        cr_assert_eq(checkpoint_open(&s, path, NULL, &err), REFINE_EFORMAT, "%s", CHANGES[i].says);
        cr_assert_not_null(strstr(err.text, CHANGES[i].says), "'%s' in: %s", CHANGES[i].says,
                           err.text);
        cr_assert_eq(mem_used().now, 0u);
    }
    (void)unlink(path);
}

Test(tools_config_shapes, projections_stored_as_1x1_convolutions_will_do)
{
    char path[TEMP_NAME];
    weight_source *s;
    refine_error err = { 0 };
    temp_file(path, ".safetensors");
    if (!write_published(path, REFINER_LIST, "model.diffusion_model.middle_block.1.proj_in.weight",
                         "1536, 1536, 1, 1", NULL)) {
        (void)unlink(path);
        cr_skip_test("no list of tensors");
    }
    cr_assert_eq(checkpoint_open(&s, path, NULL, &err), REFINE_OK, "%s", err.text);
    s->close(s);
    (void)unlink(path);
}

/* Opens the published base, changed, and compares its configuration. */
static void check_base(const char *without, const char *other, const char *mark,
                       const model_config *want, const char *says)
{
    char path[TEMP_NAME];
    weight_source *s;
    refine_error err = { 0 };
    temp_file(path, ".safetensors");
    if (!write_published(path, BASE_LIST, without, other, mark)) {
        (void)unlink(path);
        cr_skip_test("no list of tensors");
    }
    const refine_status st = checkpoint_open(&s, path, NULL, &err);
    (void)unlink(path);
    if (!want) {
        cr_assert_eq(st, REFINE_EFORMAT, "%s", says);
        cr_assert_not_null(strstr(err.text, says), "'%s' in: %s", says, err.text);
        return;
    }
    cr_assert_eq(st, REFINE_OK, "%s", err.text);
    char *have = model_config_dump(&s->list.config), *all = model_config_dump(want);
    cr_assert_str_eq(have, all);
    mem_free(have);
    mem_free(all);
    s->close(s);
    cr_assert_eq(mem_used().now, 0u);
}

Test(tools_config_shapes, the_published_base_is_the_base)
{
    check_base(NULL, NULL, NULL, &MODEL_BASE, NULL);
}

/* 1920 is 6 * 320 and 5 * 384. */
Test(tools_config_shapes, the_bases_numbers_are_six_where_five_would_do_as_well)
{
    model_config c = MODEL_BASE;
    c.unet.add_embed_dim = 1280 + 1920;
    c.unet.id_embed_dim = 320;
    check_base("model.diffusion_model.label_emb.0.0.weight", "1280, 3200", NULL, &c, NULL);
}

Test(tools_config_shapes, a_mark_says_that_the_unet_predicts_v)
{
    model_config c = MODEL_BASE;
    c.schedule.prediction = PREDICTS_V;
    check_base(NULL, NULL, "v_pred", &c, NULL);
    check_base(NULL, NULL, "ztsnr", NULL, "zero terminal SNR");
}

Test(tools_config_shapes, what_a_base_lacks_is_named)
{
#define L "conditioner.embedders.0.transformer.text_model."
    check_base(L "final_layer_norm.weight", NULL, NULL, NULL,
               "text_l.text_model.final_layer_norm.weight is missing");
    check_base(L "encoder.layers.10.mlp.fc2.bias", NULL, NULL, NULL,
               "text_l.text_model.encoder.layers.10.mlp.fc2.bias is missing");
    check_base(L "encoder.layers.11.mlp.fc2.bias", NULL, NULL, &MODEL_BASE, NULL);
    check_base(L "encoder.layers.3.mlp.fc2.bias", "769", NULL, NULL, "[769]");
    check_base("model.diffusion_model.label_emb.0.0.weight", "1280, 2817", NULL, NULL,
               "add_embed_dim");
    check_base("model.diffusion_model.input_blocks.0.0.weight", "320, 9, 3, 3", NULL, NULL,
               "an inpainting model");
#undef L
}
