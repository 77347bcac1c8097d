/* tests/tools/test_config_diffusers.c -- the published configuration, and each way to differ. */
#define _XOPEN_SOURCE 700
#include "engine/base/mem.h"
#include "tools/source/config_diffusers.h"

#include "tests/support/temp_file.h"

#include <criterion/criterion.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* As diffusers writes them for the refiner, without what the engine has no use for. */
static const char UNET[] =
    "{\"_class_name\": \"UNet2DConditionModel\", \"act_fn\": \"silu\","
    "\"addition_embed_type\": \"text_time\", \"addition_embed_type_num_heads\": 64,"
    "\"addition_time_embed_dim\": 256, \"attention_head_dim\": [6, 12, 24, 24],"
    "\"block_out_channels\": [384, 768, 1536, 1536], \"center_input_sample\": false,"
    "\"class_embed_type\": null, \"conv_in_kernel\": 3, \"cross_attention_dim\": 1280,"
    "\"down_block_types\": [\"DownBlock2D\", \"CrossAttnDownBlock2D\","
    " \"CrossAttnDownBlock2D\", \"DownBlock2D\"], \"downsample_padding\": 1,"
    "\"dual_cross_attention\": false, \"flip_sin_to_cos\": true, \"freq_shift\": 0,"
    "\"in_channels\": 4, \"layers_per_block\": 2, \"mid_block_scale_factor\": 1,"
    "\"mid_block_type\": \"UNetMidBlock2DCrossAttn\", \"norm_eps\": 1e-05,"
    "\"norm_num_groups\": 32, \"num_attention_heads\": null, \"out_channels\": 4,"
    "\"projection_class_embeddings_input_dim\": 2560,"
    "\"resnet_time_scale_shift\": \"default\", \"sample_size\": 128,"
    "\"time_embedding_type\": \"positional\", \"transformer_layers_per_block\": 4,"
    "\"up_block_types\": [\"UpBlock2D\", \"CrossAttnUpBlock2D\", \"CrossAttnUpBlock2D\","
    " \"UpBlock2D\"], \"upcast_attention\": null, \"use_linear_projection\": true}";
static const char TEXT[] =
    "{\"architectures\": [\"CLIPTextModelWithProjection\"], \"bos_token_id\": 0,"
    "\"eos_token_id\": 2, \"hidden_act\": \"gelu\", \"hidden_size\": 1280,"
    "\"intermediate_size\": 5120, \"layer_norm_eps\": 1e-05, \"max_position_embeddings\": 77,"
    "\"num_attention_heads\": 20, \"num_hidden_layers\": 32, \"projection_dim\": 1280,"
    "\"vocab_size\": 49408}";
static const char VAE[] =
    "{\"_class_name\": \"AutoencoderKL\", \"act_fn\": \"silu\","
    "\"block_out_channels\": [128, 256, 512, 512], \"down_block_types\": [\"DownEncoderBlock2D\","
    " \"DownEncoderBlock2D\", \"DownEncoderBlock2D\", \"DownEncoderBlock2D\"],"
    "\"force_upcast\": true, \"in_channels\": 3, \"latent_channels\": 4, \"layers_per_block\": 2,"
    "\"norm_num_groups\": 32, \"out_channels\": 3, \"sample_size\": 1024,"
    "\"scaling_factor\": 0.13025, \"up_block_types\": [\"UpDecoderBlock2D\","
    " \"UpDecoderBlock2D\", \"UpDecoderBlock2D\", \"UpDecoderBlock2D\"]}";
static const char SCHEDULER[] =
    "{\"_class_name\": \"EulerDiscreteScheduler\", \"beta_end\": 0.012,"
    "\"beta_schedule\": \"scaled_linear\", \"beta_start\": 0.00085,"
    "\"num_train_timesteps\": 1000, \"prediction_type\": \"epsilon\", \"steps_offset\": 1,"
    "\"timestep_spacing\": \"leading\", \"trained_betas\": null}";

typedef struct config_part {
    const char *dir, *file, *text;
} config_part;

static const config_part PARTS[] = { { "unet", "unet/config.json", UNET },
                                     { "text_encoder_2", "text_encoder_2/config.json", TEXT },
                                     { "vae", "vae/config.json", VAE },
                                     { "scheduler", "scheduler/scheduler_config.json",
                                       SCHEDULER } };
enum { N_PARTS = 4, PATH = TEMP_NAME + 64 };

static void write_part(const char *dir, const config_part *p, const char *text)
{
    char path[PATH];
    (void)snprintf(path, sizeof path, "%s/%s", dir, p->dir);
    (void)mkdir(path, 0700);
    (void)snprintf(path, sizeof path, "%s/%s", dir, p->file);
    temp_write(path, text, strlen(text));
}

static void make_model(char dir[TEMP_NAME])
{
    temp_file(dir, ".model");
    (void)unlink(dir);
    cr_assert_eq(mkdir(dir, 0700), 0);
    for (int i = 0; i < N_PARTS; i++)
        write_part(dir, &PARTS[i], PARTS[i].text);
}

static void remove_part(const char *dir, const config_part *p)
{
    char path[PATH];
    (void)snprintf(path, sizeof path, "%s/%s", dir, p->file);
    (void)unlink(path);
    (void)snprintf(path, sizeof path, "%s/%s", dir, p->dir);
    (void)rmdir(path);
}

static void remove_model(const char *dir)
{
    for (int i = 0; i < N_PARTS; i++)
        remove_part(dir, &PARTS[i]);
    cr_assert_eq(rmdir(dir), 0);
}

static bool same_config(const model_config *a, const model_config *b)
{
    char *x = model_config_dump(a), *y = model_config_dump(b);
    const bool same = strcmp(x, y) == 0;
    if (!same)
        printf("%s\n%s\n", x, y);
    mem_free(x);
    mem_free(y);
    return same;
}

Test(tools_config_diffusers, the_published_files_are_the_refiner)
{
    char dir[TEMP_NAME];
    model_config c;
    refine_error err = { 0 };
    make_model(dir);
    cr_assert_eq(config_from_diffusers(&c, dir, NULL, &err), REFINE_OK, "%s", err.text);
    cr_assert(same_config(&c, &MODEL_REFINER));
    remove_part(dir, &PARTS[3]);
    cr_assert_eq(config_from_diffusers(&c, dir, NULL, &err), REFINE_OK, "%s", err.text);
    cr_assert(same_config(&c, &MODEL_REFINER));
    remove_model(dir);
}

/* One member of one file set to a JSON value, or removed (NULL). */
static refine_status parse_chosen(const char *dir, int which, const char *member, const char *value,
                                  const schedule_choices *chosen, model_config *c,
                                  refine_error *err)
{
    json_t *root = json_loads(PARTS[which].text, 0, NULL);
    if (value)
        json_object_set_new(root, member, json_loads(value, JSON_DECODE_ANY, NULL));
    else
        json_object_del(root, member);
    char *text = json_dumps(root, 0);
    write_part(dir, &PARTS[which], text);
    free(text);
    json_decref(root);
    const refine_status st = config_from_diffusers(c, dir, chosen, err);
    write_part(dir, &PARTS[which], PARTS[which].text);
    return st;
}

static refine_status parse_with_member(const char *dir, int which, const char *member,
                                       const char *value, model_config *c, refine_error *err)
{
    return parse_chosen(dir, which, member, value, NULL, c, err);
}

Test(tools_config_diffusers, what_the_engine_does_not_do_is_refused_by_name)
{
    static const struct {
        int which;
        const char *member, *value;
    } OTHER[] = {
        { 0, "use_linear_projection", "false" },
        { 0, "use_linear_projection", NULL },
        { 0, "addition_embed_type", "\"text_image\"" },
        { 0, "addition_embed_type", "null" },
        { 0, "class_embed_type", "\"timestep\"" },
        { 0, "resnet_time_scale_shift", "\"scale_shift\"" },
        { 0, "act_fn", "\"gelu\"" },
        { 0, "norm_eps", "1e-6" },
        { 0, "conv_in_kernel", "1" },
        { 0, "freq_shift", "1" },
        { 0, "time_cond_proj_dim", "256" },
        { 0, "mid_block_type", "\"UNetMidBlock2D\"" },
        { 0, "block_out_channels", "[]" },
        { 0, "block_out_channels", "[1,2,3,4,5,6,7,8]" },
        { 0, "block_out_channels", "[384, -768, 1536, 1536]" },
        { 0, "block_out_channels", "\"many\"" },
        { 0, "down_block_types", "[\"DownBlock2D\", \"SimpleCrossAttnDownBlock2D\"]" },
        { 0, "up_block_types", "[\"UpBlock2D\", \"UpBlock2D\", \"UpBlock2D\", \"UpBlock2D\"]" },
        { 0, "layers_per_block", "[2, 2, 2, 3]" },
        { 0, "layers_per_block", "1e300" },
        { 0, "attention_head_dim", "[6, 12]" },
        { 0, "in_channels", "9" },
        { 0, "in_channels", "5" },
        { 0, "cross_attention_dim", NULL },
        { 1, "hidden_act", "\"quick_gelu\"" },
        { 1, "hidden_act", NULL },
        { 1, "hidden_size", "\"1280\"" },
        { 1, "num_hidden_layers", "99999999999" },
        { 2, "scaling_factor", NULL },
        { 2, "scaling_factor", "\"x\"" },
        { 2, "use_quant_conv", "false" },
        { 2, "shift_factor", "0.1" },
        { 2, "down_block_types", "[]" },
        { 3, "prediction_type", "\"sample\"" },
        { 3, "_class_name", "\"DPMSolverMultistepScheduler\"" },
        { 3, "timestep_spacing", "\"even\"" },
        { 3, "use_karras_sigmas", "true" },
        { 3, "use_exponential_sigmas", "true" },
        { 3, "use_beta_sigmas", "true" },
        { 3, "use_lu_lambdas", "true" },
        { 3, "use_flow_sigmas", "true" },
        { 3, "_class_name", "\"FlowMatchEulerDiscreteScheduler\"" },
        { 3, "_class_name", "\"EDMEulerScheduler\"" },
        { 3, "_class_name", "7" },
        { 3, "rescale_betas_zero_snr", "true" },
        { 3, "final_sigmas_type", "\"sigma_min\"" },
        { 3, "interpolation_type", "\"log_linear\"" },
        { 3, "timestep_type", "\"continuous\"" },
        { 3, "sigma_max", "14.6" },
        { 3, "beta_schedule", "\"linear\"" },
        { 3, "beta_schedule", NULL },
    };
    char dir[TEMP_NAME];
    model_config c;
    make_model(dir);
    for (size_t i = 0; i < sizeof OTHER / sizeof OTHER[0]; i++) {
        refine_error err = { 0 };
        cr_assert_eq(
            parse_with_member(dir, OTHER[i].which, OTHER[i].member, OTHER[i].value, &c, &err),
            REFINE_EFORMAT, "%s %s", OTHER[i].member, OTHER[i].value);
        cr_assert_not_null(strstr(err.text, OTHER[i].member), "%s: %s", OTHER[i].member, err.text);
        cr_assert_not_null(strstr(err.text, PARTS[OTHER[i].which].file), "%s", err.text);
    }
    remove_model(dir);
}

Test(tools_config_diffusers, values_out_of_bounds_are_refused_with_the_directory)
{
    static const char *const VALUES[][2] = { { "norm_num_groups", "7" },
                                             { "norm_num_groups", "0" },
                                             { "transformer_layers_per_block", "100" },
                                             { "addition_time_embed_dim", "255" } };
    char dir[TEMP_NAME];
    model_config c;
    make_model(dir);
    for (size_t i = 0; i < sizeof VALUES / sizeof VALUES[0]; i++) {
        refine_error err = { 0 };
        cr_assert_eq(parse_with_member(dir, 0, VALUES[i][0], VALUES[i][1], &c, &err),
                     REFINE_EFORMAT, "%s", VALUES[i][0]);
        cr_assert_not_null(strstr(err.text, dir), "%s", err.text);
    }
    remove_model(dir);
}

Test(tools_config_diffusers, numbers_and_lists_are_both_understood)
{
    char dir[TEMP_NAME];
    model_config c;
    refine_error err = { 0 };
    make_model(dir);
    cr_assert_eq(
        parse_with_member(dir, 0, "transformer_layers_per_block", "[1, 4, 3, 2]", &c, &err),
        REFINE_OK);
    cr_assert_eq(c.unet.depth[0], 0);
    cr_assert_eq(c.unet.depth[1], 4);
    cr_assert_eq(c.unet.depth[2], 3);
    cr_assert_eq(c.unet.mid_depth, 2);
    cr_assert_eq(parse_with_member(dir, 0, "num_attention_heads", "[3, 6, 12, 16]", &c, &err),
                 REFINE_OK, "%s", err.text);
    cr_assert_eq(c.unet.heads[1], 6);
    cr_assert_eq(c.unet.mid_heads, 16);
    cr_assert_eq(
        parse_with_member(dir, 0, "cross_attention_dim", "[1280, 1280, 1280, 1280]", &c, &err),
        REFINE_OK);
    cr_assert_eq(parse_with_member(dir, 3, "steps_offset", "0", &c, &err), REFINE_OK);
    cr_assert_eq(c.schedule.steps_offset, 0);
    remove_model(dir);
}

Test(tools_config_diffusers, other_models_are_called_by_their_names)
{
    char dir[TEMP_NAME], at[PATH];
    model_config c;
    refine_error err = { 0 };
    make_model(dir);
    cr_assert_eq(parse_with_member(dir, 0, "cross_attention_dim", "2048", &c, &err),
                 REFINE_EFORMAT);
    cr_assert_not_null(strstr(err.text, "SDXL base"), "%s", err.text);

    /* One component given instead of the whole. */
    (void)snprintf(at, sizeof at, "%s/unet", dir);
    cr_assert_eq(config_from_diffusers(&c, at, NULL, &err), REFINE_EFORMAT);
    cr_assert_not_null(strstr(err.text, "directory above"), "%s", err.text);

    remove_part(dir, &PARTS[1]);
    cr_assert_eq(config_from_diffusers(&c, dir, NULL, &err), REFINE_EFORMAT);
    cr_assert_not_null(strstr(err.text, "text_encoder_2/config.json"), "%s", err.text);
    (void)snprintf(at, sizeof at, "%s/text_encoder", dir);
    cr_assert_eq(mkdir(at, 0700), 0);
    cr_assert_eq(config_from_diffusers(&c, dir, NULL, &err), REFINE_EFORMAT);
    cr_assert_not_null(strstr(err.text, "Stable Diffusion 1 or 2"), "%s", err.text);
    (void)rmdir(at);
    remove_model(dir);
}

Test(tools_config_diffusers, damaged_json_is_named_with_its_line)
{
    char dir[TEMP_NAME];
    model_config c;
    refine_error err = { 0 };
    make_model(dir);
    write_part(dir, &PARTS[2], "{\n \"act_fn\": \"silu\",\n oops\n}");
    cr_assert_eq(config_from_diffusers(&c, dir, NULL, &err), REFINE_EFORMAT);
    cr_assert_not_null(strstr(err.text, "vae/config.json: line 3"), "%s", err.text);
    write_part(dir, &PARTS[2], "[1, 2]");
    cr_assert_eq(config_from_diffusers(&c, dir, NULL, &err), REFINE_EFORMAT);
    cr_assert_not_null(strstr(err.text, "no JSON object"), "%s", err.text);
    write_part(dir, &PARTS[2], "");
    cr_assert_eq(config_from_diffusers(&c, dir, NULL, &err), REFINE_EFORMAT);
    remove_model(dir);
}

Test(tools_config_diffusers, a_scheduler_says_how_the_model_is_sampled)
{
    char dir[TEMP_NAME];
    model_config c;
    refine_error err = { 0 };
    make_model(dir);
    cr_assert_eq(config_from_diffusers(&c, dir, NULL, &err), REFINE_OK, "%s", err.text);
    cr_expect(c.schedule.sampler == SAMPLER_EULER && c.schedule.spacing == SPACING_LEADING &&
              c.schedule.prediction == PREDICTS_EPSILON);
    cr_assert_eq(parse_with_member(dir, 3, "timestep_spacing", "\"trailing\"", &c, &err),
                 REFINE_OK);
    cr_expect_eq(c.schedule.spacing, SPACING_TRAILING);
    cr_assert_eq(parse_with_member(dir, 3, "timestep_spacing", "\"linspace\"", &c, &err),
                 REFINE_OK);
    cr_expect_eq(c.schedule.spacing, SPACING_LINSPACE);
    cr_assert_eq(parse_with_member(dir, 3, "timestep_spacing", NULL, &c, &err), REFINE_OK);
    cr_expect_eq(c.schedule.spacing, SPACING_LINSPACE, "diffusers' default");
    cr_assert_eq(parse_with_member(dir, 3, "prediction_type", "\"v_prediction\"", &c, &err),
                 REFINE_OK);
    cr_expect_eq(c.schedule.prediction, PREDICTS_V);
    cr_assert_eq(
        parse_with_member(dir, 3, "_class_name", "\"EulerAncestralDiscreteScheduler\"", &c, &err),
        REFINE_OK);
    cr_expect_eq(c.schedule.sampler, SAMPLER_EULER_ANCESTRAL);
    cr_assert_eq(parse_with_member(dir, 3, "use_karras_sigmas", "false", &c, &err), REFINE_OK);
    remove_model(dir);
}

/* What the user says of sampling stands, and what is of the model itself is refused still. */
Test(tools_config_diffusers, a_sampler_that_was_chosen_takes_the_place_of_the_files)
{
    static const schedule_choices TURBO = { 1 + SAMPLER_EULER_ANCESTRAL, 1 + SPACING_TRAILING, 0 };
    static const schedule_choices EULER = { .sampler = 1 + SAMPLER_EULER };
    static const struct {
        const char *member, *value;
        bool fits;
    } FILES[] = {
        { "_class_name", "\"DPMSolverMultistepScheduler\"", true },
        { "use_karras_sigmas", "true", true },
        { "use_exponential_sigmas", "true", true },
        { "_class_name", "\"EDMDPMSolverMultistepScheduler\"", false },
        { "_class_name", "\"FlowMatchHeunDiscreteScheduler\"", false },
        { "rescale_betas_zero_snr", "true", false },
        { "prediction_type", "\"sample\"", false },
        { "timestep_spacing", "\"even\"", false },
    };
    char dir[TEMP_NAME];
    model_config c;
    refine_error err = { 0 };
    make_model(dir);
    for (size_t i = 0; i < sizeof FILES / sizeof FILES[0]; i++) {
        err = (refine_error){ 0 };
        cr_expect_eq(parse_chosen(dir, 3, FILES[i].member, FILES[i].value, &EULER, &c, &err) ==
                         REFINE_OK,
                     FILES[i].fits, "%s %s: %s", FILES[i].member, FILES[i].value, err.text);
        if (!FILES[i].fits)
            continue;
        cr_assert_eq(parse_with_member(dir, 3, FILES[i].member, FILES[i].value, &c, &err),
                     REFINE_EFORMAT);
        cr_expect(strstr(err.text, "--sampler euler"), "%s", err.text);
    }
    cr_assert_eq(parse_chosen(dir, 3, "timestep_spacing", "\"even\"", &TURBO, &c, &err), REFINE_OK,
                 "%s", err.text);
    cr_expect(c.schedule.sampler == SAMPLER_EULER_ANCESTRAL &&
              c.schedule.spacing == SPACING_TRAILING && c.schedule.prediction == PREDICTS_EPSILON);
    const schedule_choices v = { .prediction = 1 + PREDICTS_V };
    cr_assert_eq(parse_chosen(dir, 3, "prediction_type", "\"sample\"", &v, &c, &err), REFINE_OK);
    cr_expect_eq(c.schedule.prediction, PREDICTS_V);
    cr_expect_eq(c.schedule.spacing, SPACING_LEADING);
    remove_model(dir);
}

Test(tools_config_diffusers, relatives_are_told_by_the_member_that_gives_them_away)
{
    static const struct {
        const char *member, *value, *is;
    } UNETS[] = {
        { "in_channels", "9", "an inpainting model" },
        { "in_channels", "8", "an instruct-pix2pix model" },
        { "time_cond_proj_dim", "256", "LCM-distilled" },
        { "transformer_layers_per_block", "[[4, 4], [4, 10], [1, 1], 1]", "SSD-1B" },
    };
    char dir[TEMP_NAME];
    model_config c;
    make_model(dir);
    for (size_t i = 0; i < sizeof UNETS / sizeof UNETS[0]; i++) {
        refine_error err = { 0 };
        cr_assert_eq(parse_with_member(dir, 0, UNETS[i].member, UNETS[i].value, &c, &err),
                     REFINE_EFORMAT);
        cr_expect(strstr(err.text, UNETS[i].is) && strstr(err.text, UNETS[i].member), "%s",
                  err.text);
    }
    refine_error err = { 0 };
    write_part(dir, &PARTS[0],
               "{\"block_out_channels\": [320, 640, 1280], \"cross_attention_dim\": 2048,"
               "\"addition_embed_type\": \"text_time\", \"layers_per_block\": 1}");
    cr_assert_eq(config_from_diffusers(&c, dir, NULL, &err), REFINE_EFORMAT);
    cr_expect(strstr(err.text, "a KOALA model"), "%s", err.text);
    remove_model(dir);
}

/* ---- the base ---- */

static const char BASE_UNET[] =
    "{\"_class_name\": \"UNet2DConditionModel\", \"act_fn\": \"silu\","
    "\"addition_embed_type\": \"text_time\", \"addition_embed_type_num_heads\": 64,"
    "\"addition_time_embed_dim\": 256, \"attention_head_dim\": [5, 10, 20],"
    "\"block_out_channels\": [320, 640, 1280], \"cross_attention_dim\": 2048,"
    "\"down_block_types\": [\"DownBlock2D\", \"CrossAttnDownBlock2D\","
    " \"CrossAttnDownBlock2D\"], \"in_channels\": 4, \"layers_per_block\": 2,"
    "\"mid_block_type\": \"UNetMidBlock2DCrossAttn\", \"norm_num_groups\": 32,"
    "\"num_attention_heads\": null, \"out_channels\": 4,"
    "\"projection_class_embeddings_input_dim\": 2816, \"time_cond_proj_dim\": null,"
    "\"transformer_layers_per_block\": [1, 2, 10],"
    "\"up_block_types\": [\"CrossAttnUpBlock2D\", \"CrossAttnUpBlock2D\", \"UpBlock2D\"],"
    "\"upcast_attention\": null, \"use_linear_projection\": true}";
static const char BASE_TEXT_L[] =
    "{\"architectures\": [\"CLIPTextModel\"], \"hidden_act\": \"quick_gelu\","
    "\"hidden_size\": 768, \"intermediate_size\": 3072, \"layer_norm_eps\": 1e-05,"
    "\"max_position_embeddings\": 77, \"num_attention_heads\": 12, \"num_hidden_layers\": 12,"
    "\"projection_dim\": 768, \"vocab_size\": 49408}";
static const char BASE_INDEX[] = "{\"_class_name\": \"StableDiffusionXLPipeline\","
                                 "\"force_zeros_for_empty_prompt\": true}";

static const config_part CLIP_L = { "text_encoder", "text_encoder/config.json", BASE_TEXT_L };
static const config_part PIPELINE = { ".", "model_index.json", BASE_INDEX };

static void make_base(char dir[TEMP_NAME])
{
    make_model(dir);
    write_part(dir, &PARTS[0], BASE_UNET);
    write_part(dir, &CLIP_L, CLIP_L.text);
    write_part(dir, &PIPELINE, PIPELINE.text);
}

static void remove_base(const char *dir)
{
    char path[PATH];
    remove_part(dir, &CLIP_L);
    (void)snprintf(path, sizeof path, "%s/model_index.json", dir);
    (void)unlink(path);
    remove_model(dir);
}

Test(tools_config_diffusers, the_published_files_of_the_base_are_the_base)
{
    char dir[TEMP_NAME], path[PATH];
    model_config c;
    refine_error err = { 0 };
    make_base(dir);
    cr_assert_eq(config_from_diffusers(&c, dir, NULL, &err), REFINE_OK, "%s", err.text);
    cr_assert(same_config(&c, &MODEL_BASE));
    (void)snprintf(path, sizeof path, "%s/model_index.json", dir);
    (void)unlink(path);
    cr_assert_eq(config_from_diffusers(&c, dir, NULL, &err), REFINE_OK, "%s", err.text);
    cr_assert(same_config(&c, &MODEL_BASE), "without the pipeline's file");
    remove_part(dir, &CLIP_L);
    cr_assert_eq(config_from_diffusers(&c, dir, NULL, &err), REFINE_EFORMAT);
    cr_assert_not_null(strstr(err.text, "without its text_encoder/"), "%s", err.text);
    remove_base(dir);
}

Test(tools_config_diffusers, the_pipeline_says_what_becomes_of_an_absent_negative_prompt)
{
    char dir[TEMP_NAME];
    model_config c;
    refine_error err = { 0 };
    make_base(dir);
    write_part(dir, &PIPELINE, "{\"force_zeros_for_empty_prompt\": false}");
    cr_assert_eq(config_from_diffusers(&c, dir, NULL, &err), REFINE_OK, "%s", err.text);
    cr_expect_eq(c.prompt.zero_negative, 0);
    write_part(dir, &PIPELINE, "{}");
    cr_assert_eq(config_from_diffusers(&c, dir, NULL, &err), REFINE_OK, "%s", err.text);
    cr_expect_eq(c.prompt.zero_negative, 1);
    write_part(dir, &PIPELINE, "{\"force_zeros_for_empty_prompt\": \"no\"}");
    cr_assert_eq(config_from_diffusers(&c, dir, NULL, &err), REFINE_EFORMAT);
    write_part(dir, &PIPELINE, "{\"requires_aesthetics_score\": true}");
    cr_assert_eq(config_from_diffusers(&c, dir, NULL, &err), REFINE_EFORMAT);
    cr_expect(strstr(err.text, "requires_aesthetics_score is true"), "%s", err.text);
    remove_base(dir);
}

Test(tools_config_diffusers, clip_l_says_its_activation)
{
    char dir[TEMP_NAME];
    model_config c;
    refine_error err = { 0 };
    make_base(dir);
    write_part(dir, &CLIP_L,
               "{\"hidden_act\": \"gelu\", \"hidden_size\": 768, \"num_attention_heads\": 12,"
               "\"intermediate_size\": 3072}");
    cr_assert_eq(config_from_diffusers(&c, dir, NULL, &err), REFINE_OK, "%s", err.text);
    cr_expect_eq(c.text_l.quick_gelu, 0);
    write_part(dir, &CLIP_L, "{\"hidden_act\": \"relu\"}");
    cr_assert_eq(config_from_diffusers(&c, dir, NULL, &err), REFINE_EFORMAT);
    cr_expect(strstr(err.text, "text_encoder/config.json: hidden_act is \"relu\""), "%s", err.text);
    remove_base(dir);
}

Test(tools_config_diffusers, a_vae_of_another_scale_is_refused)
{
    char dir[TEMP_NAME], vae[PATH];
    refine_error err = { 0 };
    make_model(dir);
    (void)snprintf(vae, sizeof vae, "%s/vae", dir);
    cr_assert_eq(config_check_vae(vae, &MODEL_BASE.vae, &err), REFINE_OK, "%s", err.text);
    vae_config other = MODEL_BASE.vae;
    other.scaling_factor = 0.18215f;
    cr_assert_eq(config_check_vae(vae, &other, &err), REFINE_EFORMAT);
    cr_expect(strstr(err.text, "scaling_factor is 0.13025"), "%s", err.text);
    other = MODEL_BASE.vae;
    other.groups = 16;
    cr_assert_eq(config_check_vae(vae, &other, &err), REFINE_EFORMAT);
    cr_expect(strstr(err.text, "norm_num_groups"), "%s", err.text);
    remove_model(dir);
}
