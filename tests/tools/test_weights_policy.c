/* tests/tools/test_weights_policy.c -- which weights become int8. */
#include "tools/packer/weights_policy.h"

#include "quant/int8.h"

#include <criterion/criterion.h>
#include <string.h>

static weight_list build_policy_list(const model_config *c)
{
    weight_list l;
    cr_assert_eq(weight_list_build(&l, c), REFINE_OK);
    return l;
}

static dtype find_weight_type(const weight_list *l, weights_kind kind, const char *name)
{
    const int i = weight_list_find(l, name);
    cr_assert_geq(i, 0, "%s", name);
    return weights_type(kind, &l->entry[i]);
}

Test(tools_weights_policy, kinds_have_the_names_of_the_command_line)
{
    cr_expect_str_eq(weights_names[WEIGHTS_FP16], "fp16");
    cr_expect_str_eq(weights_names[WEIGHTS_INT8], "int8");
    cr_expect_null(weights_names[N_WEIGHTS_KINDS]);
    cr_expect_str_eq(weights_name(WEIGHTS_INT8), "int8");
}

Test(tools_weights_policy, fp16_keeps_every_matrix_in_16_bits)
{
    weight_list l = build_policy_list(&MODEL_REFINER);
    for (int i = 0; i < l.n; i++)
        cr_assert_eq(weights_type(WEIGHTS_FP16, &l.entry[i]),
                     l.entry[i].seg == SEG_VECTORS ? DT_F32 : DT_F16);
    weight_list_free(&l);
}

Test(tools_weights_policy, ends_embeddings_and_tokens_of_the_refiner_stay_in_16_bits)
{
    static const char *const SIXTEEN[] = {
        "unet.conv_in.weight",
        "unet.conv_out.weight",
        "vae.encoder.conv_in.weight",
        "vae.encoder.conv_out.weight",
        "vae.decoder.conv_in.weight",
        "vae.decoder.conv_out.weight",
        "vae.quant_conv.weight",
        "vae.post_quant_conv.weight",
        "unet.time_embedding.linear_1.weight",
        "unet.time_embedding.linear_2.weight",
        "unet.add_embedding.linear_1.weight",
        "unet.add_embedding.linear_2.weight",
        "text.text_model.embeddings.token_embedding.weight",
    };
    static const int LISTED = sizeof SIXTEEN / sizeof SIXTEEN[0];
    weight_list l = build_policy_list(&MODEL_REFINER);
    int sixteen = 0, embeddings = 0;
    for (int i = 0; i < LISTED; i++)
        cr_expect_eq(find_weight_type(&l, WEIGHTS_INT8, SIXTEEN[i]), DT_F16, "%s", SIXTEEN[i]);
    for (int i = 0; i < l.n; i++) {
        const dtype t = weights_type(WEIGHTS_INT8, &l.entry[i]);
        const bool embedding = strstr(l.entry[i].name, ".time_emb_proj.weight") != NULL;
        cr_assert_eq(t == DT_F32, l.entry[i].seg == SEG_VECTORS);
        cr_assert(!embedding || t == DT_F16);
        embeddings += embedding;
        sixteen += t == DT_F16;
    }
    cr_expect_eq(embeddings, 22);
    cr_expect_eq(sixteen, LISTED + embeddings, "nothing else");
    weight_list_free(&l);
}

Test(tools_weights_policy, every_part_has_int8_also_in_the_tiny_model)
{
    static const char *const INT8[] = {
        "unet.mid_block.resnets.0.conv1.weight",
        "unet.mid_block.attentions.0.proj_in.weight",
        "unet.up_blocks.1.upsamplers.0.conv.weight",
        "unet.up_blocks.0.resnets.0.conv_shortcut.weight",
        "text.text_model.encoder.layers.0.self_attn.qkv.weight",
        "text.text_projection.weight",
        "vae.encoder.mid_block.resnets.0.conv1.weight",
        "vae.decoder.mid_block.attentions.0.qkv.weight",
    };
    const model_config *const models[] = { &MODEL_TINY, &MODEL_REFINER };
    for (int m = 0; m < 2; m++) {
        weight_list l = build_policy_list(models[m]);
        for (size_t i = 0; i < sizeof INT8 / sizeof INT8[0]; i++)
            cr_expect_eq(find_weight_type(&l, WEIGHTS_INT8, INT8[i]), DT_I8G64, "%s", INT8[i]);
        weight_list_free(&l);
    }
}

Test(tools_weights_policy, int8_is_never_larger)
{
    weight_entry e = { .name = "unet.mid_block.x.weight", .seg = SEG_UNET, .rows = 64 };
    e.kh = e.kw = 3;
    e.c_in = 33;
    cr_expect_eq(weights_type(WEIGHTS_INT8, &e), DT_F16, "66 bytes are not less than 66");
    e.c_in = 34;
    cr_expect_eq(weights_type(WEIGHTS_INT8, &e), DT_I8G64);
    e.rows = 4; /* stored as eight */
    e.c_in = 64;
    cr_expect_eq(weights_type(WEIGHTS_INT8, &e), DT_F16);
}

Test(tools_weights_policy, both_token_tables_of_the_base_stay_in_16_bits)
{
    weight_list l = build_policy_list(&MODEL_BASE);
    int tables = 0;
    for (int i = 0; i < l.n; i++)
        if (l.entry[i].seg == SEG_TOKENS) {
            cr_expect_eq(weights_type(WEIGHTS_INT8, &l.entry[i]), DT_F16, "%s", l.entry[i].name);
            tables++;
        }
    cr_expect_eq(tables, 2);
    cr_expect_eq(
        find_weight_type(&l, WEIGHTS_INT8, "text_l.text_model.encoder.layers.10.mlp.fc1.weight"),
        DT_I8G64);
    weight_list_free(&l);
}
