/* tools/source/config_diffusers.c -- config.json, member by member.
 *
 * What the engine varies is read; what it takes for granted is compared, so that a model
 * that needs something else is refused by name and not run wrongly.  Members that are
 * absent have diffusers' defaults.
 */
#define _XOPEN_SOURCE 700
#include "tools/source/config_diffusers.h"

#include "engine/base/try.h"
#include "tools/files/json_file.h"

#include <dirent.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { PATH_BYTES = 4096 };

/* One JSON file being read. */
typedef struct reading {
    const char *path;
    const json_t *root;
    const schedule_choices *chosen;
    refine_error *err;
} reading;

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* As JSON, cut where it is long. */
enum { VALUE_TEXT = 64 };
static const char *print_value(char text[VALUE_TEXT], const json_t *v)
{
    if (!v)
        return "absent";
    const size_t n = json_dumpb(v, text, VALUE_TEXT - 1, JSON_ENCODE_ANY | JSON_COMPACT);
    text[n < VALUE_TEXT ? n : VALUE_TEXT - 1] = 0;
    return text;
}

static refine_status report_unsupported(const reading *r, const char *name, const json_t *v)
{
    char text[VALUE_TEXT];
    return refine_fail(r->err, REFINE_EFORMAT, "%s: %s is %s: this program cannot run such a model",
                       r->path, name, print_value(text, v));
}

/* ---- values that vary ---- */

static refine_status read_int(const reading *r, const char *name, int fallback, int *out)
{
    const json_t *v = json_object_get(r->root, name);
    if (!v || json_is_null(v)) {
        if (fallback < 0)
            return report_unsupported(r, name, v);
        *out = fallback;
        return REFINE_OK;
    }
    const json_int_t n = json_integer_value(v);
    if (!json_is_integer(v) || n < 0 || n > 1 << 24)
        return report_unsupported(r, name, v);
    *out = (int)n;
    return REFINE_OK;
}

/* fallback NaN: there is none. */
static refine_status read_real(const reading *r, const char *name, double fallback, float *out)
{
    const json_t *v = json_object_get(r->root, name);
    if (!v || json_is_null(v)) {
        if (isnan(fallback))
            return report_unsupported(r, name, v);
        *out = (float)fallback;
        return REFINE_OK;
    }
    if (!json_is_number(v))
        return report_unsupported(r, name, v);
    *out = (float)json_number_value(v);
    return REFINE_OK;
}

/* A number for all levels, or a list with one for each. */
static refine_status read_levels(const reading *r, const char *name, int fallback, int levels,
                                 int out[LEVELS_MAX])
{
    const json_t *v = json_object_get(r->root, name);
    if (!json_is_array(v)) {
        int all = fallback;
        TRY(read_int(r, name, fallback, &all));
        for (int i = 0; i < levels; i++)
            out[i] = all;
        return REFINE_OK;
    }
    if (json_array_size(v) != (size_t)levels)
        return report_unsupported(r, name, v);
    for (int i = 0; i < levels; i++) {
        const json_t *e = json_array_get(v, (size_t)i);
        if (!json_is_integer(e) || json_integer_value(e) < 0 || json_integer_value(e) > 1 << 24)
            return report_unsupported(r, name, v);
        out[i] = (int)json_integer_value(e);
    }
    return REFINE_OK;
}

/* The same, where all levels must agree. */
static refine_status read_same(const reading *r, const char *name, int fallback, int levels,
                               int *out)
{
    int all[LEVELS_MAX] = { 0 };
    TRY(read_levels(r, name, fallback, levels, all));
    for (int i = 1; i < levels; i++)
        if (all[i] != all[0])
            return report_unsupported(r, name, json_object_get(r->root, name));
    *out = all[0];
    return REFINE_OK;
}

/* The list that gives the number of levels. */
static refine_status read_channels(const reading *r, int *levels, int out[LEVELS_MAX])
{
    const json_t *v = json_object_get(r->root, "block_out_channels");
    const size_t n = json_array_size(v);
    if (n < 1 || n > LEVELS_MAX)
        return report_unsupported(r, "block_out_channels", v);
    *levels = (int)n;
    return read_levels(r, "block_out_channels", -1, *levels, out);
}

static const char *block_type(const reading *r, const char *list, int i)
{
    const char *s = json_string_value(json_array_get(json_object_get(r->root, list), (size_t)i));
    return s ? s : "";
}

/* ---- values that are taken for granted ---- */

typedef struct granted {
    const char *name, *value; /* a number, true, false, null, or a string */
    const char *fallback;     /* diffusers' default, where it is another */
} granted;

static bool is_value(const json_t *v, const char *want)
{
    char *end;
    const double number = strtod(want, &end);
    if (json_is_number(v))
        return *end == 0 && fabs(json_number_value(v) - number) <= 1e-6 * fabs(number);
    if (json_is_boolean(v))
        return strcmp(want, json_is_true(v) ? "true" : "false") == 0;
    if (json_is_null(v))
        return strcmp(want, "null") == 0;
    return json_is_string(v) && strcmp(json_string_value(v), want) == 0;
}

static refine_status check_granted(const reading *r, const granted *g, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const json_t *v = json_object_get(r->root, g[i].name);
        if (!v && (!g[i].fallback || strcmp(g[i].fallback, g[i].value) == 0))
            continue;
        if (!v || !is_value(v, g[i].value))
            return report_unsupported(r, g[i].name, v);
    }
    return REFINE_OK;
}

static const granted UNET_GRANTED[] = {
    { "addition_embed_type", "text_time", "null" },
    { "use_linear_projection", "true", "false" },
    { "act_fn", "silu", NULL },
    { "attention_type", "default", NULL },
    { "center_input_sample", "false", NULL },
    { "class_embed_type", "null", NULL },
    { "class_embeddings_concat", "false", NULL },
    { "conv_in_kernel", "3", NULL },
    { "conv_out_kernel", "3", NULL },
    { "cross_attention_norm", "null", NULL },
    { "downsample_padding", "1", NULL },
    { "dual_cross_attention", "false", NULL },
    { "encoder_hid_dim", "null", NULL },
    { "encoder_hid_dim_type", "null", NULL },
    { "flip_sin_to_cos", "true", NULL },
    { "freq_shift", "0", NULL },
    { "mid_block_scale_factor", "1", NULL },
    { "mid_block_type", "UNetMidBlock2DCrossAttn", NULL },
    { "norm_eps", "1e-5", NULL },
    { "num_class_embeds", "null", NULL },
    { "only_cross_attention", "false", NULL },
    { "resnet_out_scale_factor", "1", NULL },
    { "resnet_skip_time_act", "false", NULL },
    { "resnet_time_scale_shift", "default", NULL },
    { "reverse_transformer_layers_per_block", "null", NULL },
    { "time_cond_proj_dim", "null", NULL },
    { "time_embedding_act_fn", "null", NULL },
    { "time_embedding_dim", "null", NULL },
    { "time_embedding_type", "positional", NULL },
    { "timestep_post_act", "null", NULL },
};

static const granted VAE_GRANTED[] = {
    { "act_fn", "silu", NULL },         { "in_channels", "3", NULL },
    { "out_channels", "3", NULL },      { "latents_mean", "null", NULL },
    { "latents_std", "null", NULL },    { "mid_block_add_attention", "true", NULL },
    { "shift_factor", "null", NULL },   { "use_post_quant_conv", "true", NULL },
    { "use_quant_conv", "true", NULL },
};

static const granted TEXT_GRANTED[] = {
    { "hidden_act", "gelu", "quick_gelu" },
    { "layer_norm_eps", "1e-5", NULL },
};

static const granted TEXT_L_GRANTED[] = { { "layer_norm_eps", "1e-5", NULL } };

static const granted SCHEDULE_GRANTED[] = {
    { "beta_schedule", "scaled_linear", "linear" },
    { "trained_betas", "null", NULL },
    { "rescale_betas_zero_snr", "false", NULL },
    { "use_flow_sigmas", "false", NULL },
    { "final_sigmas_type", "zero", NULL },
    { "interpolation_type", "linear", NULL },
    { "timestep_type", "discrete", NULL },
    { "sigma_min", "null", NULL },
    { "sigma_max", "null", NULL },
};

/* Lists of sigmas that go with a sampler, and not with the model. */
static const char *const SIGMA_LISTS[] = { "use_karras_sigmas", "use_exponential_sigmas",
                                           "use_beta_sigmas", "use_lu_lambdas" };

/* ---- values that are words ---- */

/* words: in the order of the values they stand for, NULL behind the last. */
static refine_status read_word(const reading *r, const char *name, const char *const words[],
                               int fallback, int *out)
{
    const json_t *v = json_object_get(r->root, name);
    if (!v || json_is_null(v)) {
        *out = fallback;
        return REFINE_OK;
    }
    for (int i = 0; words[i]; i++)
        if (is_value(v, words[i])) {
            *out = i;
            return REFINE_OK;
        }
    return report_unsupported(r, name, v);
}

static refine_status read_bool(const reading *r, const char *name, bool fallback, bool *out)
{
    static const char *const WORDS[] = { "false", "true", NULL };
    int v = fallback;
    TRY(read_word(r, name, WORDS, fallback, &v));
    *out = v != 0;
    return REFINE_OK;
}

/* ---- the files ---- */

/* Down block i and up block levels-1-i are of one kind. */
static refine_status read_unet_blocks(const reading *r, unet_config *c)
{
    for (int i = 0; i < c->levels; i++) {
        const char *down = block_type(r, "down_block_types", i);
        const char *up = block_type(r, "up_block_types", c->levels - 1 - i);
        c->attention[i] = strcmp(down, "CrossAttnDownBlock2D") == 0;
        if (!c->attention[i] && strcmp(down, "DownBlock2D") != 0)
            return report_unsupported(r, "down_block_types",
                                      json_object_get(r->root, "down_block_types"));
        if (strcmp(up, c->attention[i] ? "CrossAttnUpBlock2D" : "UpBlock2D") != 0)
            return report_unsupported(r, "up_block_types",
                                      json_object_get(r->root, "up_block_types"));
    }
    return REFINE_OK;
}

/* A model that looks like one of SDXL's, by the member that gives it away. */
static refine_status report_relative(const reading *r, const char *name, const char *is)
{
    return refine_fail(r->err, REFINE_EFORMAT,
                       "%s: by its %s this is neither an SDXL base model nor the refiner but %s",
                       r->path, name, is);
}

static bool is_integer_value(const json_t *v, int want)
{
    return json_is_integer(v) && json_integer_value(v) == want;
}

/* What people mistake for a base or a refiner. */
static refine_status recognise_unet(const reading *r, int context_dim)
{
    const json_t *add = json_object_get(r->root, "addition_embed_type");
    const json_t *in = json_object_get(r->root, "in_channels");
    const json_t *guidance = json_object_get(r->root, "time_cond_proj_dim");

    if (context_dim == 768 && !json_is_string(add))
        return report_relative(r, "cross_attention_dim", "a Stable Diffusion 1 model");
    if (context_dim == 1024 && !json_is_string(add))
        return report_relative(r, "cross_attention_dim", "a Stable Diffusion 2 model");
    if (is_integer_value(in, 9))
        return report_relative(r, "in_channels", "an inpainting model");
    if (is_integer_value(in, 8))
        return report_relative(r, "in_channels", "an instruct-pix2pix model");
    if (guidance && !json_is_null(guidance))
        return report_relative(r, "time_cond_proj_dim", "an LCM-distilled UNet");
    if (json_is_array(json_array_get(json_object_get(r->root, "transformer_layers_per_block"), 0)))
        return report_relative(r, "transformer_layers_per_block",
                               "a distilled one, such as SSD-1B or Segmind Vega");
    if (is_integer_value(json_object_get(r->root, "layers_per_block"), 1) &&
        context_dim == MODEL_BASE.unet.context_dim)
        return report_relative(r, "layers_per_block", "a KOALA model");
    return REFINE_OK;
}

static refine_status read_unet(const reading *r, unet_config *c)
{
    int out_channels;

    TRY(read_channels(r, &c->levels, c->channels));
    TRY(read_same(r, "cross_attention_dim", -1, c->levels, &c->context_dim));
    TRY(recognise_unet(r, c->context_dim));
    TRY(check_granted(r, UNET_GRANTED, COUNT(UNET_GRANTED)));
    TRY(read_unet_blocks(r, c));
    TRY(read_same(r, "layers_per_block", 2, c->levels, &c->resnets));
    TRY(read_levels(r, "transformer_layers_per_block", 1, c->levels, c->depth));
    /* "attention_head_dim" is the number of heads, unless the right name is given too. */
    const json_t *heads = json_object_get(r->root, "num_attention_heads");
    TRY(read_levels(r, heads && !json_is_null(heads) ? "num_attention_heads" : "attention_head_dim",
                    8, c->levels, c->heads));
    c->mid_depth = c->depth[c->levels - 1];
    c->mid_heads = c->heads[c->levels - 1];
    for (int i = 0; i < c->levels; i++)
        if (!c->attention[i])
            c->depth[i] = 0;
    TRY(read_int(r, "norm_num_groups", 32, &c->groups));
    TRY(read_int(r, "in_channels", 4, &c->in_channels));
    TRY(read_int(r, "out_channels", 4, &out_channels));
    if (out_channels != c->in_channels)
        return report_unsupported(r, "in_channels", json_object_get(r->root, "in_channels"));
    TRY(read_int(r, "addition_time_embed_dim", -1, &c->id_embed_dim));
    return read_int(r, "projection_class_embeddings_input_dim", -1, &c->add_embed_dim);
}

static refine_status read_text_sizes(const reading *r, text_config *c)
{
    TRY(read_int(r, "vocab_size", 49408, &c->vocab));
    TRY(read_int(r, "max_position_embeddings", 77, &c->context));
    TRY(read_int(r, "hidden_size", 512, &c->width));
    TRY(read_int(r, "num_hidden_layers", 12, &c->layers));
    TRY(read_int(r, "num_attention_heads", 8, &c->heads));
    return read_int(r, "intermediate_size", 2048, &c->mlp);
}

/* OpenCLIP bigG, of both models. */
static refine_status read_text_encoder(const reading *r, text_config *c)
{
    TRY(check_granted(r, TEXT_GRANTED, COUNT(TEXT_GRANTED)));
    TRY(read_text_sizes(r, c));
    return read_int(r, "projection_dim", 512, &c->projection);
}

/* CLIP ViT-L, of the base; its file names a projection, which nobody uses. */
static refine_status read_text_l_encoder(const reading *r, text_config *c)
{
    static const char *const ACTIVATIONS[] = { "gelu", "quick_gelu", NULL };
    TRY(check_granted(r, TEXT_L_GRANTED, COUNT(TEXT_L_GRANTED)));
    TRY(read_word(r, "hidden_act", ACTIVATIONS, 1, &c->quick_gelu));
    return read_text_sizes(r, c);
}

static refine_status read_vae(const reading *r, vae_config *c)
{
    TRY(check_granted(r, VAE_GRANTED, COUNT(VAE_GRANTED)));
    TRY(read_channels(r, &c->levels, c->channels));
    for (int i = 0; i < c->levels; i++)
        if (strcmp(block_type(r, "down_block_types", i), "DownEncoderBlock2D") != 0 ||
            strcmp(block_type(r, "up_block_types", i), "UpDecoderBlock2D") != 0)
            return report_unsupported(r, "down_block_types",
                                      json_object_get(r->root, "down_block_types"));
    TRY(read_int(r, "layers_per_block", 1, &c->resnets));
    TRY(read_int(r, "latent_channels", 4, &c->latent_channels));
    TRY(read_int(r, "norm_num_groups", 32, &c->groups));
    return read_real(r, "scaling_factor", NAN, &c->scaling_factor);
}

/* A sampler that is not here: another may do as well, which is for the user to say. */
static refine_status report_sampler(const reading *r, const char *name)
{
    char text[VALUE_TEXT];
    return refine_fail(r->err, REFINE_EFORMAT,
                       "%s: %s is %s, which is not here; --sampler euler or euler-ancestral takes "
                       "one that is",
                       r->path, name, print_value(text, json_object_get(r->root, name)));
}

/* Models of these are no diffusion models in our sense, whatever samples them. */
static bool is_of_another_kind(const json_t *class)
{
    const char *name = json_string_value(class);
    return name && (strncmp(name, "FlowMatch", 9) == 0 || strncmp(name, "EDM", 3) == 0);
}

/* *sampler: as the class says, unless one was chosen. */
static refine_status read_sampler(const reading *r, int *sampler)
{
    static const char *const CLASSES[] = { "EulerDiscreteScheduler",
                                           "EulerAncestralDiscreteScheduler", NULL };
    const json_t *class = json_object_get(r->root, "_class_name");
    refine_error unknown = { 0 };
    const reading quiet = { r->path, r->root, r->chosen, &unknown };

    *sampler = SAMPLER_EULER;
    if (is_of_another_kind(class))
        return report_unsupported(r, "_class_name", class);
    if (r->chosen->sampler)
        return REFINE_OK;
    if (read_word(&quiet, "_class_name", CLASSES, SAMPLER_EULER, sampler) != REFINE_OK)
        return report_sampler(r, "_class_name");
    for (size_t i = 0; i < COUNT(SIGMA_LISTS); i++) {
        const json_t *v = json_object_get(r->root, SIGMA_LISTS[i]);
        if (v && !json_is_null(v) && !is_value(v, "false"))
            return report_sampler(r, SIGMA_LISTS[i]);
    }
    return REFINE_OK;
}

/* Each list in the order of its enumeration (engine/sampling/noise_schedule.h). */
static refine_status read_schedule(const reading *r, schedule_config *c)
{
    static const char *const SPACINGS[] = { "leading", "trailing", "linspace", NULL };
    static const char *const PREDICTIONS[] = { "epsilon", "v_prediction", NULL };
    int sampler, spacing = 0, prediction = 0;

    TRY(read_sampler(r, &sampler));
    if (!r->chosen->spacing)
        TRY(read_word(r, "timestep_spacing", SPACINGS, SPACING_LINSPACE, &spacing));
    if (!r->chosen->prediction)
        TRY(read_word(r, "prediction_type", PREDICTIONS, PREDICTS_EPSILON, &prediction));
    TRY(check_granted(r, SCHEDULE_GRANTED, COUNT(SCHEDULE_GRANTED)));
    c->sampler = (sampler_kind)sampler;
    c->spacing = (timestep_spacing)spacing;
    c->prediction = (prediction_type)prediction;
    TRY(read_real(r, "beta_start", 0.0001, &c->beta_start));
    TRY(read_real(r, "beta_end", 0.02, &c->beta_end));
    TRY(read_int(r, "num_train_timesteps", 1000, &c->train_steps));
    return read_int(r, "steps_offset", 0, &c->steps_offset);
}

/* The pipeline's own members.  They are about the base: the refiner always scores, and always
 * encodes what is negative. */
static refine_status read_pipeline(const reading *r, model_config *c)
{
    bool zeros, scores;

    if (c->text_l.layers == 0)
        return REFINE_OK;
    TRY(read_bool(r, "force_zeros_for_empty_prompt", true, &zeros));
    TRY(read_bool(r, "requires_aesthetics_score", false, &scores));
    c->prompt.zero_negative = zeros;
    if (scores == (model_config_ids(c) == model_config_ids(&MODEL_REFINER)))
        return REFINE_OK;
    return report_unsupported(r, "requires_aesthetics_score",
                              json_object_get(r->root, "requires_aesthetics_score"));
}

typedef enum component { UNET, TEXT_L, TEXT, VAE, SCHEDULE, PIPELINE } component;

static refine_status read_component(model_config *c, component which, const char *path,
                                    const schedule_choices *chosen, refine_error *err)
{
    json_t *root;
    refine_status st = json_file_load(&root, path, err);
    if (st != REFINE_OK)
        return st;
    const reading r = { path, root, chosen, err };
    switch (which) {
    case UNET: st = read_unet(&r, &c->unet); break;
    case TEXT_L: st = read_text_l_encoder(&r, &c->text_l); break;
    case TEXT: st = read_text_encoder(&r, &c->text); break;
    case VAE: st = read_vae(&r, &c->vae); break;
    case SCHEDULE: st = read_schedule(&r, &c->schedule); break;
    case PIPELINE: st = read_pipeline(&r, c); break;
    }
    json_decref(root);
    return st;
}

/* A link to nothing counts: reading it says what it is. */
static bool has_config_file(const char *dir, const char *name)
{
    char path[PATH_BYTES];
    struct stat s;
    return snprintf(path, sizeof path, "%s/%s", dir, name) < (int)sizeof path &&
           lstat(path, &s) == 0;
}

/* The first by name of those in a directory that begin and end so; false: there is none. */
static bool find_entry(char out[NAME_MAX + 1], const char *dir, const char *begin, const char *end)
{
    DIR *d = opendir(dir);
    out[0] = 0;
    if (!d)
        return false;
    for (const struct dirent *e; (e = readdir(d));) {
        const size_t n = strlen(e->d_name), m = strlen(end);
        if (n >= m && strcmp(e->d_name + n - m, end) == 0 &&
            strncmp(e->d_name, begin, strlen(begin)) == 0 &&
            (!out[0] || strcmp(e->d_name, out) < 0))
            (void)snprintf(out, NAME_MAX + 1, "%s", e->d_name);
    }
    (void)closedir(d);
    return out[0] != 0;
}

/* A directory without the components: what is it? */
static refine_status check_directory(const char *dir, refine_error *err)
{
    static const char *const NEEDED[] = { "unet/config.json", "text_encoder_2/config.json",
                                          "vae/config.json" };
    char name[NAME_MAX + 1];
    const char *missing = NULL;

    for (size_t i = 0; !missing && i < COUNT(NEEDED); i++)
        if (!has_config_file(dir, NEEDED[i]))
            missing = NEEDED[i];
    if (!missing)
        return REFINE_OK;
    if (has_config_file(dir, "unet") && has_config_file(dir, "text_encoder") &&
        !has_config_file(dir, "text_encoder_2"))
        return refine_fail(err, REFINE_EFORMAT,
                           "%s: this is a Stable Diffusion 1 or 2 model, neither an SDXL base "
                           "model nor the refiner",
                           dir);
    if (has_config_file(dir, "config.json") && !has_config_file(dir, "unet"))
        return refine_fail(err, REFINE_EFORMAT,
                           "%s: this is one component of a model; give the directory above it, "
                           "with unet/, vae/ and text_encoder_2/",
                           dir);
    if (!has_config_file(dir, "unet") &&
        (find_entry(name, dir, "", ".safetensors") || find_entry(name, dir, "models--", "")))
        return refine_fail(err, REFINE_EFORMAT,
                           "%s: is not one model's directory; give one of what is in it, such as "
                           "%s/%s",
                           dir, dir, name);
    return refine_fail(err, REFINE_EFORMAT,
                       "%s: has no %s; give the model's directory, with unet/, vae/ and "
                       "text_encoder_2/",
                       dir, missing);
}

/* The UNet of a base, whose context is wider than bigG's states, beside bigG alone. */
static refine_status check_encoders(const model_config *c, const char *dir, refine_error *err)
{
    if (c->text_l.layers > 0 || c->unet.context_dim != MODEL_BASE.unet.context_dim ||
        c->text.width == c->unet.context_dim)
        return REFINE_OK;
    return refine_fail(err, REFINE_EFORMAT,
                       "%s: this is the SDXL base model without its text_encoder/", dir);
}

refine_status config_from_diffusers(model_config *out, const char *dir,
                                    const schedule_choices *chosen, refine_error *err)
{
    static const schedule_choices NOTHING = { 0 };
    static const struct {
        component which;
        const char *name;
        bool optional;
    } FILES[] = { { UNET, "unet/config.json", false },
                  { TEXT_L, "text_encoder/config.json", true },
                  { TEXT, "text_encoder_2/config.json", false },
                  { VAE, "vae/config.json", false },
                  { SCHEDULE, "scheduler/scheduler_config.json", true },
                  { PIPELINE, "model_index.json", true } };
    char path[PATH_BYTES];

    TRY(check_directory(dir, err));
    *out = (model_config){ .schedule = MODEL_REFINER.schedule };
    for (size_t i = 0; i < COUNT(FILES); i++) {
        if (FILES[i].optional && !has_config_file(dir, FILES[i].name))
            continue;
        if (snprintf(path, sizeof path, "%s/%s", dir, FILES[i].name) >= (int)sizeof path)
            return refine_fail(err, REFINE_EFORMAT, "%s: its path is too long", dir);
        TRY(read_component(out, FILES[i].which, path, chosen ? chosen : &NOTHING, err));
        if (FILES[i].which == TEXT_L)
            out->prompt = MODEL_BASE.prompt; /* unless the pipeline says otherwise */
    }
    TRY(check_encoders(out, dir, err));
    schedule_choices_apply(&out->schedule, chosen ? chosen : &NOTHING);
    refine_error why = { 0 };
    const refine_status st = model_config_check(out, &why);
    return st == REFINE_OK ? st : refine_fail(err, st, "%s: %s", dir, why.text);
}

refine_status config_check_vae(const char *dir, const vae_config *want, refine_error *err)
{
    model_config c = { 0 };
    char path[PATH_BYTES];

    if (snprintf(path, sizeof path, "%s/config.json", dir) >= (int)sizeof path)
        return refine_fail(err, REFINE_EFORMAT, "%s: its path is too long", dir);
    TRY(read_component(&c, VAE, path, NULL, err));
    if (c.vae.scaling_factor != want->scaling_factor)
        return refine_fail(err, REFINE_EFORMAT,
                           "%s: scaling_factor is %g where the model has %g: this is no VAE of "
                           "SDXL",
                           path, (double)c.vae.scaling_factor, (double)want->scaling_factor);
    if (c.vae.groups != want->groups)
        return refine_fail(err, REFINE_EFORMAT, "%s: norm_num_groups is %d where the model has %d",
                           path, c.vae.groups, want->groups);
    return REFINE_OK;
}
