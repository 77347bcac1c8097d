/* engine/model/model_config.c -- the two built-in configurations, JSON, and the bounds. */
#include "engine/model/model_config.h"

#include "engine/base/mem.h"
#include "engine/base/try.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* What several models have alike. */
#define SDXL_SCHEDULE                                                                              \
    {                                                                                              \
        .beta_start = 0.00085f, .beta_end = 0.012f, .train_steps = 1000, .steps_offset = 1         \
    }
#define BIGG                                                                                       \
    {                                                                                              \
        .vocab = 49408, .context = 77, .width = 1280, .layers = 32, .heads = 20, .mlp = 5120,      \
        .projection = 1280                                                                         \
    }
#define TINY_TEXT                                                                                  \
    {                                                                                              \
        .vocab = 49408, .context = 77, .width = 64, .layers = 3, .heads = 2, .mlp = 128,           \
        .projection = 64                                                                           \
    }
#define TINY_VAE                                                                                   \
    {                                                                                              \
        .levels = 4, .channels = { 32, 32, 64, 64 }, .resnets = 1, .latent_channels = 4,           \
        .groups = 32, .scaling_factor = 0.13025f                                                   \
    }
#define SDXL_VAE                                                                                   \
    {                                                                                              \
        .levels = 4, .channels = { 128, 256, 512, 512 }, .resnets = 2, .latent_channels = 4,       \
        .groups = 32, .scaling_factor = 0.13025f                                                   \
    }

const model_config MODEL_REFINER = {
    .unet = { .levels = 4,
              .channels = { 384, 768, 1536, 1536 },
              .attention = { false, true, true, false },
              .depth = { 0, 4, 4, 0 },
              .heads = { 6, 12, 24, 24 },
              .mid_depth = 4,
              .mid_heads = 24,
              .resnets = 2,
              .context_dim = 1280,
              .add_embed_dim = 2560,
              .id_embed_dim = 256,
              .groups = 32,
              .in_channels = 4 },
    .text = BIGG,
    .vae = SDXL_VAE,
    .schedule = SDXL_SCHEDULE,
};

const model_config MODEL_TINY = {
    .unet = { .levels = 4,
              .channels = { 32, 64, 128, 128 },
              .attention = { false, true, true, false },
              .depth = { 0, 2, 1, 0 },
              .heads = { 1, 1, 2, 2 },
              .mid_depth = 1,
              .mid_heads = 2,
              .resnets = 2,
              .context_dim = 64,
              .add_embed_dim = 224,
              .id_embed_dim = 32,
              .groups = 32,
              .in_channels = 4 },
    .text = TINY_TEXT,
    .vae = TINY_VAE,
    .schedule = SDXL_SCHEDULE,
};

const model_config MODEL_BASE = {
    .unet = { .levels = 3,
              .channels = { 320, 640, 1280 },
              .attention = { false, true, true },
              .depth = { 0, 2, 10 },
              .heads = { 5, 10, 20 },
              .mid_depth = 10,
              .mid_heads = 20,
              .resnets = 2,
              .context_dim = 2048,
              .add_embed_dim = 2816,
              .id_embed_dim = 256,
              .groups = 32,
              .in_channels = 4 },
    .text = BIGG,
    .text_l = { .vocab = 49408,
                .context = 77,
                .width = 768,
                .layers = 12,
                .heads = 12,
                .mlp = 3072,
                .quick_gelu = 1 },
    .prompt = { .zero_negative = 1 },
    .vae = SDXL_VAE,
    .schedule = SDXL_SCHEDULE,
};

const model_config MODEL_TINY_BASE = {
    .unet = { .levels = 3,
              .channels = { 32, 64, 128 },
              .attention = { false, true, true },
              .depth = { 0, 1, 2 },
              .heads = { 1, 1, 2 },
              .mid_depth = 2,
              .mid_heads = 2,
              .resnets = 2,
              .context_dim = 128,
              .add_embed_dim = 256,
              .id_embed_dim = 32,
              .groups = 32,
              .in_channels = 4 },
    .text = TINY_TEXT,
    .text_l = { .vocab = 49408,
                .context = 77,
                .width = 64,
                .layers = 3,
                .heads = 1,
                .mlp = 128,
                .quick_gelu = 1 },
    .prompt = { .zero_negative = 1 },
    .vae = TINY_VAE,
    .schedule = SDXL_SCHEDULE,
};

/* Every scalar of the configuration: its place in the JSON, in the struct, and its bounds.  One
 * table serves dump, parse and check.  What is optional is not written where it is 0, and is 0
 * where it is not written. */
typedef struct int_field {
    const char *object, *name;
    size_t at;
    int min, max;
    bool optional;
} int_field;

#define FIELD(obj, member, min, max)                                                               \
    {                                                                                              \
#obj, #member, offsetof(model_config, obj.member), min, max, false                         \
    }
#define OPTIONAL(obj, member, max)                                                                 \
    {                                                                                              \
#obj, #member, offsetof(model_config, obj.member), 0, max, true                            \
    }

static const int_field FIELDS[] = {
    FIELD(unet, levels, 2, LEVELS_MAX),
    FIELD(unet, mid_depth, 1, 16),
    FIELD(unet, mid_heads, 1, 256),
    FIELD(unet, resnets, 1, 8),
    FIELD(unet, context_dim, 1, 16384),
    FIELD(unet, add_embed_dim, 1, 65536),
    FIELD(unet, id_embed_dim, 2, 4096),
    FIELD(unet, groups, 1, 1024),
    FIELD(unet, in_channels, 1, 64),
    FIELD(text, vocab, 49408, 49408),
    FIELD(text, context, 77, 77),
    FIELD(text, width, 1, 16384),
    FIELD(text, layers, 2, 128),
    FIELD(text, heads, 1, 256),
    FIELD(text, mlp, 1, 65536),
    FIELD(text, projection, 1, 16384),
    OPTIONAL(text, quick_gelu, 1),
    OPTIONAL(text_l, vocab, 49408),
    OPTIONAL(text_l, context, 77),
    OPTIONAL(text_l, width, 16384),
    OPTIONAL(text_l, layers, 128),
    OPTIONAL(text_l, heads, 256),
    OPTIONAL(text_l, mlp, 65536),
    OPTIONAL(text_l, quick_gelu, 1),
    OPTIONAL(prompt, zero_negative, 1),
    FIELD(vae, levels, 2, LEVELS_MAX),
    FIELD(vae, resnets, 1, 8),
    FIELD(vae, latent_channels, 1, 64),
    FIELD(vae, groups, 1, 1024),
    FIELD(schedule, train_steps, 2, 100000),
    FIELD(schedule, steps_offset, 0, 1000),
    OPTIONAL(schedule, spacing, SPACING_LINSPACE),
    OPTIONAL(schedule, prediction, PREDICTS_V),
    OPTIONAL(schedule, sampler, SAMPLER_EULER_ANCESTRAL),
};

typedef struct array_field {
    const char *object, *name;
    size_t at, levels_at;
    int min, max;
} array_field;

#define AT(member) offsetof(model_config, member)
#define ARRAY(obj, member, min, max)                                                               \
    {                                                                                              \
#obj, #member, AT(obj.member), AT(obj.levels), min, max                                    \
    }

static const array_field ARRAYS[] = {
    ARRAY(unet, channels, 1, 16384),
    ARRAY(unet, depth, 0, 16),
    ARRAY(unet, heads, 1, 256),
    ARRAY(vae, channels, 1, 4096),
};

typedef struct real_field {
    const char *object, *name;
    size_t at;
    double min, max;
} real_field;

#define REAL(obj, member, min, max)                                                                \
    {                                                                                              \
#obj, #member, offsetof(model_config, obj.member), min, max                                \
    }

static const real_field REALS[] = {
    REAL(vae, scaling_factor, 0, 1000),
    REAL(schedule, beta_start, 0, 1),
    REAL(schedule, beta_end, 0, 1),
};

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static int *int_at(const model_config *c, size_t at) { return (int *)((char *)(uintptr_t)c + at); }
static float *real_at(const model_config *c, size_t at)
{
    return (float *)((char *)(uintptr_t)c + at);
}

static refine_status fail_unsupported(refine_error *err, const char *object, const char *name,
                                      double v)
{
    return refine_fail(err, REFINE_EFORMAT, "model configuration: %s.%s = %g is not supported",
                       object, name, v);
}

static refine_status check_bounds(const model_config *c, refine_error *err)
{
    for (const int_field *f = FIELDS; f < FIELDS + COUNT(FIELDS); f++) {
        const int v = *int_at(c, f->at);
        if (v < f->min || v > f->max)
            return fail_unsupported(err, f->object, f->name, v);
    }
    for (const array_field *f = ARRAYS; f < ARRAYS + COUNT(ARRAYS); f++)
        for (int i = 0; i < *int_at(c, f->levels_at); i++) {
            const int v = int_at(c, f->at)[i];
            if (v < f->min || v > f->max)
                return fail_unsupported(err, f->object, f->name, v);
        }
    for (const real_field *f = REALS; f < REALS + COUNT(REALS); f++) {
        const float v = *real_at(c, f->at);
        if (!((double)v > f->min && (double)v < f->max))
            return fail_unsupported(err, f->object, f->name, (double)v);
    }
    return REFINE_OK;
}

static bool is_divisor(int a, int b) { return b % a == 0; }

int model_config_ids(const model_config *c)
{
    enum { REFINER = 5, BASE = 6 };
    return c->unet.add_embed_dim - c->text.projection == BASE * c->unet.id_embed_dim ? BASE
                                                                                     : REFINER;
}

/* Absent, or whole. */
static refine_status check_text_l(const text_config *c, refine_error *err)
{
    if (c->layers == 0)
        return c->width == 0 ? REFINE_OK : fail_unsupported(err, "text_l", "width", c->width);
    if (c->vocab != MODEL_BASE.text_l.vocab)
        return fail_unsupported(err, "text_l", "vocab", c->vocab);
    if (c->context != MODEL_BASE.text_l.context)
        return fail_unsupported(err, "text_l", "context", c->context);
    if (c->layers < 2 || c->width < 1 || c->mlp < 1)
        return fail_unsupported(err, "text_l", "layers", c->layers);
    if (c->heads < 1 || !is_divisor(c->heads, c->width))
        return fail_unsupported(err, "text_l", "heads", c->heads);
    return REFINE_OK;
}

refine_status model_config_check(const model_config *c, refine_error *err)
{
    TRY(check_bounds(c, err));
    const unet_config *u = &c->unet;
    for (int i = 0; i < u->levels; i++) {
        if (!is_divisor(u->groups, u->channels[i]))
            return fail_unsupported(err, "unet", "channels", u->channels[i]);
        if (i > 0 && u->channels[i] < u->channels[i - 1])
            return fail_unsupported(err, "unet", "channels", u->channels[i]);
        if (u->attention[i] && (!is_divisor(u->heads[i], u->channels[i]) || u->depth[i] < 1))
            return fail_unsupported(err, "unet", "heads", u->heads[i]);
    }
    if (!is_divisor(u->mid_heads, u->channels[u->levels - 1]))
        return fail_unsupported(err, "unet", "mid_heads", u->mid_heads);
    if (u->channels[0] % 2 || u->id_embed_dim % 2)
        return fail_unsupported(err, "unet", "id_embed_dim", u->id_embed_dim);
    if (c->text.projection + model_config_ids(c) * u->id_embed_dim != u->add_embed_dim)
        return fail_unsupported(err, "unet", "add_embed_dim", u->add_embed_dim);
    if (c->text.width + c->text_l.width != u->context_dim)
        return fail_unsupported(err, "unet", "context_dim", u->context_dim);
    if (!is_divisor(c->text.heads, c->text.width))
        return fail_unsupported(err, "text", "heads", c->text.heads);
    TRY(check_text_l(&c->text_l, err));
    for (int i = 0; i < c->vae.levels; i++)
        if (!is_divisor(c->vae.groups, c->vae.channels[i]))
            return fail_unsupported(err, "vae", "channels", c->vae.channels[i]);
    if (c->vae.latent_channels != u->in_channels)
        return fail_unsupported(err, "vae", "latent_channels", c->vae.latent_channels);
    if (c->vae.levels != 4)
        return fail_unsupported(err, "vae", "levels", c->vae.levels);
    if (c->schedule.steps_offset >= c->schedule.train_steps)
        return fail_unsupported(err, "schedule", "steps_offset", c->schedule.steps_offset);
    return REFINE_OK;
}

/* ---- JSON ---- */

static json_t *levels_array(const model_config *c, const array_field *f)
{
    json_t *a = json_array();
    for (int i = 0; a && i < *int_at(c, f->levels_at); i++)
        if (json_array_append_new(a, json_integer(int_at(c, f->at)[i])) != 0) {
            json_decref(a);
            return NULL;
        }
    return a;
}

/* Its object is made where it is the first member of an optional one. */
static int set_integer(json_t *root, const int_field *f, int v)
{
    if (!json_object_get(root, f->object) && json_object_set_new(root, f->object, json_object()))
        return -1;
    return json_object_set_new(json_object_get(root, f->object), f->name, json_integer(v));
}

static json_t *config_object(const model_config *c)
{
    static const char *const OBJECTS[] = { "unet", "text", "vae", "schedule" };
    json_t *root = json_object(), *attention = json_array();
    int bad = !root || !attention;

    for (size_t i = 0; !bad && i < COUNT(OBJECTS); i++)
        bad |= json_object_set_new(root, OBJECTS[i], json_object());
    for (size_t i = 0; !bad && i < COUNT(FIELDS); i++)
        if (!FIELDS[i].optional || *int_at(c, FIELDS[i].at) != 0)
            bad |= set_integer(root, &FIELDS[i], *int_at(c, FIELDS[i].at));
    for (size_t i = 0; !bad && i < COUNT(ARRAYS); i++)
        bad |= json_object_set_new(json_object_get(root, ARRAYS[i].object), ARRAYS[i].name,
                                   levels_array(c, &ARRAYS[i]));
    for (size_t i = 0; !bad && i < COUNT(REALS); i++)
        bad |= json_object_set_new(json_object_get(root, REALS[i].object), REALS[i].name,
                                   json_real((double)*real_at(c, REALS[i].at)));
    for (int i = 0; !bad && i < c->unet.levels; i++)
        bad |= json_array_append_new(attention, json_boolean(c->unet.attention[i]));
    if (!bad)
        bad |= json_object_set(json_object_get(root, "unet"), "attention", attention);
    json_decref(attention);
    if (!bad)
        return root;
    json_decref(root);
    return NULL;
}

char *model_config_dump(const model_config *c)
{
    json_t *root = config_object(c);
    char *text = root ? json_dumps(root, JSON_INDENT(1)) : NULL;
    char *mine = text ? mem_strdup(text) : NULL;
    json_decref(root);
    free(text);
    return mine;
}

static refine_status fail_missing(refine_error *err, const char *object, const char *name)
{
    return refine_fail(err, REFINE_EFORMAT, "model configuration: %s.%s is missing or no number",
                       object, name);
}

static refine_status parse_int(json_t *v, int *out, const char *object, const char *name,
                               refine_error *err)
{
    if (!json_is_integer(v))
        return fail_missing(err, object, name);
    const json_int_t n = json_integer_value(v);
    if (n < 0 || n > 1 << 24)
        return fail_unsupported(err, object, name, (double)n);
    *out = (int)n;
    return REFINE_OK;
}

static refine_status parse_levels(model_config *c, json_t *root, refine_error *err)
{
    for (const array_field *f = ARRAYS; f < ARRAYS + COUNT(ARRAYS); f++) {
        json_t *a = json_object_get(json_object_get(root, f->object), f->name);
        for (int i = 0; i < *int_at(c, f->levels_at); i++)
            TRY(parse_int(json_array_get(a, (size_t)i), &int_at(c, f->at)[i], f->object, f->name,
                          err));
    }
    json_t *a = json_object_get(json_object_get(root, "unet"), "attention");
    for (int i = 0; i < c->unet.levels; i++) {
        json_t *v = json_array_get(a, (size_t)i);
        if (!json_is_boolean(v))
            return fail_missing(err, "unet", "attention");
        c->unet.attention[i] = json_is_true(v);
    }
    return REFINE_OK;
}

static refine_status parse_root(model_config *c, json_t *root, refine_error *err)
{
    for (const int_field *f = FIELDS; f < FIELDS + COUNT(FIELDS); f++) {
        json_t *v = json_object_get(json_object_get(root, f->object), f->name);
        if (v || !f->optional)
            TRY(parse_int(v, int_at(c, f->at), f->object, f->name, err));
    }
    for (const real_field *f = REALS; f < REALS + COUNT(REALS); f++) {
        json_t *v = json_object_get(json_object_get(root, f->object), f->name);
        if (!json_is_number(v))
            return fail_missing(err, f->object, f->name);
        *real_at(c, f->at) = (float)json_number_value(v);
    }
    if (c->unet.levels > LEVELS_MAX || c->vae.levels > LEVELS_MAX)
        return fail_unsupported(err, "unet", "levels", c->unet.levels);
    TRY(parse_levels(c, root, err));
    return model_config_check(c, err);
}

refine_status model_config_parse(model_config *c, const char *json, size_t len, refine_error *err)
{
    json_error_t at;
    json_t *root = json_loadb(json, len, 0, &at);
    if (!root)
        return refine_fail(err, REFINE_EFORMAT, "model configuration: %s (line %d)", at.text,
                           at.line);
    *c = (model_config){ 0 };
    const refine_status st = parse_root(c, root, err);
    json_decref(root);
    return st;
}
