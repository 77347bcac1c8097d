/* tests/tools/test_ldm_names.c -- every name of the published single file has its place. */
#define _POSIX_C_SOURCE 200809L
#include "engine/base/mem.h"
#include "tests/support/vectors.h"
#include "tools/source/ldm_names.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const ldm_shape PUBLISHED = { 2, 4 };

static void expect_ldm_translation(const char *ldm, ldm_view view, const char *canonical)
{
    ldm_name n;
    cr_assert(ldm_translate(&n, ldm, &PUBLISHED), "%s", ldm);
    cr_assert_eq(n.view, view, "%s", ldm);
    cr_assert_str_eq(n.name[0], canonical);
}

Test(tools_ldm_names, blocks_are_renumbered)
{
#define U "model.diffusion_model."
#define V "first_stage_model."
#define T "conditioner.embedders.0.model."
    expect_ldm_translation(U "time_embed.2.bias", LDM_WHOLE, "unet.time_embedding.linear_2.bias");
    expect_ldm_translation(U "label_emb.0.2.weight", LDM_WHOLE,
                           "unet.add_embedding.linear_2.weight");
    expect_ldm_translation(U "input_blocks.0.0.weight", LDM_WHOLE, "unet.conv_in.weight");
    expect_ldm_translation(U "input_blocks.6.0.op.weight", LDM_WHOLE,
                           "unet.down_blocks.1.downsamplers.0.conv.weight");
    expect_ldm_translation(U "input_blocks.7.0.skip_connection.bias", LDM_WHOLE,
                           "unet.down_blocks.2.resnets.0.conv_shortcut.bias");
    expect_ldm_translation(
        U "input_blocks.8.1.transformer_blocks.3.attn2.to_out.0.bias", LDM_WHOLE,
        "unet.down_blocks.2.attentions.1.transformer_blocks.3.attn2.to_out.0.bias");
    expect_ldm_translation(U "middle_block.2.emb_layers.1.weight", LDM_WHOLE,
                           "unet.mid_block.resnets.1.time_emb_proj.weight");
    expect_ldm_translation(U "output_blocks.2.1.conv.weight", LDM_WHOLE,
                           "unet.up_blocks.0.upsamplers.0.conv.weight");
    expect_ldm_translation(U "output_blocks.5.2.conv.bias", LDM_WHOLE,
                           "unet.up_blocks.1.upsamplers.0.conv.bias");
    expect_ldm_translation(U "output_blocks.11.0.out_layers.3.weight", LDM_WHOLE,
                           "unet.up_blocks.3.resnets.2.conv2.weight");
    expect_ldm_translation(V "decoder.up.0.block.2.nin_shortcut.weight", LDM_WHOLE,
                           "vae.decoder.up_blocks.3.resnets.2.conv_shortcut.weight");
    expect_ldm_translation(V "decoder.up.3.upsample.conv.bias", LDM_WHOLE,
                           "vae.decoder.up_blocks.0.upsamplers.0.conv.bias");
    expect_ldm_translation(V "encoder.mid.attn_1.proj_out.weight", LDM_WHOLE,
                           "vae.encoder.mid_block.attentions.0.to_out.0.weight");
    expect_ldm_translation(V "encoder.norm_out.bias", LDM_WHOLE, "vae.encoder.conv_norm_out.bias");
    expect_ldm_translation(T "transformer.resblocks.31.attn.in_proj_bias", LDM_THIRDS,
                           "text.text_model.encoder.layers.31.self_attn.q_proj.bias");
    expect_ldm_translation(T "text_projection", LDM_TRANSPOSED, "text.text_projection.weight");
    expect_ldm_translation(T "text_projection.weight", LDM_WHOLE, "text.text_projection.weight");
    expect_ldm_translation(T "positional_embedding", LDM_WHOLE,
                           "text.text_model.embeddings.position_embedding.weight");
#undef U
#undef V
#undef T
}

Test(tools_ldm_names, the_bases_encoders_are_told_apart)
{
    expect_ldm_translation("conditioner.embedders.1.model.transformer.resblocks.3.mlp.c_fc.bias",
                           LDM_WHOLE, "text.text_model.encoder.layers.3.mlp.fc1.bias");
    expect_ldm_translation("conditioner.embedders.1.model.text_projection", LDM_TRANSPOSED,
                           "text.text_projection.weight");
    expect_ldm_translation(
        "conditioner.embedders.0.transformer.text_model.encoder.layers.11.mlp.fc1.bias", LDM_WHOLE,
        "text_l.text_model.encoder.layers.11.mlp.fc1.bias");
    expect_ldm_translation("model.diffusion_model.output_blocks.2.2.conv.weight", LDM_WHOLE,
                           "unet.up_blocks.0.upsamplers.0.conv.weight");
}

Test(tools_ldm_names, marks_and_what_gives_a_relative_away_are_kept)
{
    expect_ldm_translation("v_pred", LDM_WHOLE, "v_pred");
    expect_ldm_translation("ztsnr", LDM_WHOLE, "ztsnr");
    expect_ldm_translation("edm_vpred.sigma_max", LDM_WHOLE, "edm_vpred.sigma_max");
    expect_ldm_translation("model.diffusion_model.time_embed.cond_proj.weight", LDM_WHOLE,
                           "unet.time_embedding.cond_proj.weight");
}

Test(tools_ldm_names, what_is_no_weight_is_left_out)
{
    static const char *const NAMES[] = {
        "denoiser.sigmas",
        "model_ema.decay",
        "conditioner.embedders.0.model.logit_scale",
        "conditioner.embedders.2.model.ln_final.weight",
        "conditioner.embedders.0.transformer.text_model.embeddings.position_ids",
        "conditioner.embedders.0.transformer.text_projection.weight",
        "conditioner.embedders.0.transformer.text_model.encoder.layers.x.mlp.fc1.bias",
        "conditioner.embedders.1.model.logit_scale",
        "conditioner.embedders.1.model.transformer.text_model.embeddings.position_ids",
        "v_pred.weight",
        "first_stage_model.loss.logvar",
        "model.diffusion_model.input_blocks..0.weight",
        "model.diffusion_model.input_blocks.99999999999999999999.0.in_layers.0.weight",
        "model.diffusion_model.output_blocks.x",
        "model.diffusion_model.",
        "",
    };
    ldm_name n;
    for (size_t i = 0; i < sizeof NAMES / sizeof NAMES[0]; i++)
        cr_assert_not(ldm_translate(&n, NAMES[i], &PUBLISHED), "%s", NAMES[i]);
}

Test(tools_ldm_names, a_name_too_long_is_left_out)
{
    char name[600] = "model.diffusion_model.input_blocks.4.1.";
    ldm_name n;
    memset(name + strlen(name), 'x', 400);
    cr_assert_not(ldm_translate(&n, name, &PUBLISHED));
}

/* One row of a list of tensors: its columns, split in place. */
enum { NAME = 0, COMPONENT = 5, DIFFUSERS = 6, OP = 7, COLUMNS = 8 };

static void split_tsv_row(char *line, char *column[COLUMNS])
{
    line[strcspn(line, "\n")] = 0;
    for (int i = 0; i < COLUMNS; i++) {
        column[i] = line;
        line += strcspn(line, "\t");
        if (*line)
            *line++ = 0;
    }
}

static const char *canonical_prefix(const char *component)
{
    if (strcmp(component, "text_encoder") == 0)
        return "text_l";
    return strcmp(component, "text_encoder_2") == 0 ? "text" : component;
}

/* What a row says its tensor becomes, name by name: `used` counts it for the list, and what the
 * list has no place for is counted in the result. */
static int check_ldm_row(char *column[COLUMNS], const weight_list *l, char *used)
{
    char want[WEIGHT_NAME + 8];
    int unused = 0;
    ldm_name n;

    if (strcmp(column[COMPONENT], "ignored") == 0) {
        cr_assert_not(ldm_translate(&n, column[NAME], &PUBLISHED), "%s", column[NAME]);
        return 0;
    }
    cr_assert(ldm_translate(&n, column[NAME], &PUBLISHED), "%s", column[NAME]);
    const ldm_view view = strncmp(column[OP], "rows", 4) == 0        ? LDM_THIRDS
                          : strncmp(column[OP], "transpose", 9) == 0 ? LDM_TRANSPOSED
                                                                     : LDM_WHOLE;
    cr_assert_eq(n.view, view, "%s: %s", column[NAME], column[OP]);
    char *at = column[DIFFUSERS];
    for (int i = 0; *at; i++) {
        const size_t len = strcspn(at, ",");
        int places = 0;
        (void)snprintf(want, sizeof want, "%s.%.*s", canonical_prefix(column[COMPONENT]), (int)len,
                       at);
        cr_assert_str_eq(n.name[i], want);
        at += len + (at[len] == ',');
        for (int e = 0; e < l->n; e++)
            for (int s = 0; s < l->entry[e].n_sources; s++)
                if (strcmp(l->entry[e].source[s], want) == 0) {
                    used[e * WEIGHT_SOURCES + s]++;
                    places++;
                }
        unused += places == 0;
    }
    return unused;
}

/* Every weight of `c` comes from one row of the list, and `unused` rows' go nowhere. */
static void check_published_list(const char *list, const model_config *c, int unused)
{
    char path[VECTORS_PATH], *column[COLUMNS], *line = NULL;
    size_t room = 0;
    weight_list l;

    if (!vectors_path(list, path))
        cr_skip_test("no list of tensors");
    cr_assert_eq(weight_list_build(&l, c), REFINE_OK);
    char *used = calloc((size_t)l.n, WEIGHT_SOURCES);
    FILE *f = fopen(path, "r");
    cr_assert_not_null(f);
    cr_assert_gt(getline(&line, &room, f), 0);
    while (getline(&line, &room, f) > 0) {
        split_tsv_row(line, column);
        unused -= check_ldm_row(column, &l, used);
    }
    cr_assert_eq(unused, 0, "%d more than there should be", -unused);
    for (int e = 0; e < l.n; e++)
        for (int s = 0; s < l.entry[e].n_sources; s++)
            cr_assert_eq(used[e * WEIGHT_SOURCES + s], 1, "%s", l.entry[e].source[s]);
    free(line);
    free(used);
    (void)fclose(f);
    weight_list_free(&l);
}

Test(tools_ldm_names, every_tensor_of_the_refiner_has_one_place_in_the_list)
{
    check_published_list("spec/refiner_tensors_ldm.tsv", &MODEL_REFINER, 0);
}

/* Of CLIP ViT-L neither the last layer, 16 tensors, nor the final norm are needed. */
Test(tools_ldm_names, every_tensor_of_the_base_but_the_end_of_clip_l_has_one_place, .timeout = 60)
{
    check_published_list("spec/base_tensors_ldm.tsv", &MODEL_BASE, 16 + 2);
}

/* The names a single file's become are those of the directory, no more and no fewer. */
Test(tools_ldm_names, both_published_layouts_of_the_base_have_the_same_tensors, .timeout = 60)
{
    enum { MAX = 4000 };
    static char canonical[MAX][WEIGHT_NAME];
    char path[VECTORS_PATH], component[64], tensor[256], *column[COLUMNS], *line = NULL;
    size_t room = 0;
    int n = 0, found = 0;

    if (!vectors_path("spec/base_tensors_ldm.tsv", path))
        cr_skip_test("no list of tensors");
    FILE *f = fopen(path, "r");
    cr_assert_gt(getline(&line, &room, f), 0);
    while (getline(&line, &room, f) > 0) {
        ldm_name t;
        split_tsv_row(line, column);
        if (!ldm_translate(&t, column[NAME], &PUBLISHED))
            continue;
        for (int i = 0; i < (t.view == LDM_THIRDS ? 3 : 1); i++) {
            cr_assert_lt(n, MAX);
            memcpy(canonical[n++], t.name[i], WEIGHT_NAME);
        }
    }
    (void)fclose(f);

    cr_assert(vectors_path("spec/base_tensors_diffusers.tsv", path));
    f = fopen(path, "r");
    cr_assert_gt(getline(&line, &room, f), 0);
    while (getline(&line, &room, f) > 0) {
        char want[WEIGHT_NAME * 4];
        int times = 0;
        cr_assert_eq(sscanf(line, "%63s %255s", component, tensor), 2);
        (void)snprintf(want, sizeof want, "%s.%s", canonical_prefix(component), tensor);
        for (int i = 0; i < n; i++)
            times += strcmp(canonical[i], want) == 0;
        cr_assert_eq(times, 1, "%s", want);
        found++;
    }
    cr_assert_eq(found, n);
    cr_assert_eq(found, 2641);
    (void)fclose(f);
    free(line);
}
