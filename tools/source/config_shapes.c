/* tools/source/config_shapes.c -- widths are dimensions, depths are counted. */
#include "tools/source/config_shapes.h"

#include "engine/base/try.h"

#include <stdarg.h>
#include <stdio.h>

enum { HEAD = 64, COUNT_MAX = 256, DIM_MAX = 1 << 24, REFINER_IDS = 5, BASE_IDS = 6 };

typedef struct shapes {
    const tensor_index *ix;
    const char *path;
    refine_error *err;
} shapes;

static const tensor_part *find_part(const shapes *s, const char *fmt, va_list ap)
{
    char name[WEIGHT_NAME];
    const int n = vsnprintf(name, sizeof name, fmt, ap);
    return n > 0 && n < WEIGHT_NAME ? tensor_index_find(s->ix, name) : NULL;
}

#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
static bool
has_part(const shapes *s, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    const bool found = find_part(s, fmt, ap) != NULL;
    va_end(ap);
    return found;
}

/* Dimension `axis` of a tensor that must be there. */
#if defined(__GNUC__)
__attribute__((format(printf, 4, 5)))
#endif
static refine_status
read_dim(const shapes *s, int *out, int axis, const char *fmt, ...)
{
    char name[WEIGHT_NAME] = "";
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(name, sizeof name, fmt, ap);
    va_end(ap);
    const tensor_part *p = tensor_index_find(s->ix, name);
    if (!p)
        return refine_fail(s->err, REFINE_EFORMAT, "%s: incomplete: %s is missing", s->path, name);
    TRY(tensor_part_check_type(p, s->err)); /* one that packs numbers has another shape */
    if (axis >= p->n_dims || p->dim[axis] > DIM_MAX)
        return refine_fail(s->err, REFINE_EFORMAT, "%s: %s has an impossible shape", s->path, name);
    *out = (int)p->dim[axis];
    return REFINE_OK;
}

static int attention_heads(int channels) { return channels < HEAD ? 1 : channels / HEAD; }

static int depth_of(const shapes *s, const char *transformer)
{
    int n = 0;
    while (n < COUNT_MAX && has_part(s, "%s.transformer_blocks.%d.norm1.weight", transformer, n))
        n++;
    return n;
}

static refine_status unet_levels(const shapes *s, unet_config *c)
{
    char at[WEIGHT_NAME];
    while (c->levels < LEVELS_MAX &&
           has_part(s, "unet.down_blocks.%d.resnets.0.conv1.weight", c->levels)) {
        const int i = c->levels++;
        TRY(read_dim(s, &c->channels[i], 0, "unet.down_blocks.%d.resnets.0.conv1.weight", i));
        (void)snprintf(at, sizeof at, "unet.down_blocks.%d.attentions.0", i);
        c->depth[i] = depth_of(s, at);
        c->attention[i] = c->depth[i] > 0;
        c->heads[i] = attention_heads(c->channels[i]);
    }
    while (c->resnets < COUNT_MAX &&
           has_part(s, "unet.down_blocks.0.resnets.%d.conv1.weight", c->resnets))
        c->resnets++;
    return REFINE_OK;
}

static refine_status unet_shapes(const shapes *s, unet_config *c)
{
    static const char KV[] = "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight";
    int top, out_channels;

    TRY(unet_levels(s, c));
    TRY(read_dim(s, &top, 0, "unet.mid_block.resnets.0.conv1.weight"));
    c->mid_depth = depth_of(s, "unet.mid_block.attentions.0");
    c->mid_heads = attention_heads(top);
    c->groups = MODEL_REFINER.unet.groups;
    TRY(read_dim(s, &c->context_dim, 1, "%s", KV));
    TRY(read_dim(s, &c->add_embed_dim, 1, "unet.add_embedding.linear_1.weight"));
    TRY(read_dim(s, &c->in_channels, 1, "unet.conv_in.weight"));
    TRY(read_dim(s, &out_channels, 0, "unet.conv_out.weight"));
    if (c->in_channels != out_channels)
        return refine_fail(s->err, REFINE_EFORMAT,
                           "%s: its UNet takes %d channels and gives %d: a special model, which "
                           "this program does not run",
                           s->path, c->in_channels, out_channels);
    return REFINE_OK;
}

/* component: "text" or "text_l". */
static refine_status text_shapes(const shapes *s, const char *component, text_config *c)
{
    char at[WEIGHT_NAME];
    (void)snprintf(at, sizeof at, "%s.text_model", component);
    TRY(read_dim(s, &c->vocab, 0, "%s.embeddings.token_embedding.weight", at));
    TRY(read_dim(s, &c->width, 1, "%s.embeddings.token_embedding.weight", at));
    TRY(read_dim(s, &c->context, 0, "%s.embeddings.position_embedding.weight", at));
    TRY(read_dim(s, &c->mlp, 0, "%s.encoder.layers.0.mlp.fc1.weight", at));
    while (c->layers < COUNT_MAX &&
           has_part(s, "%s.encoder.layers.%d.mlp.fc1.weight", at, c->layers))
        c->layers++;
    c->heads = attention_heads(c->width);
    return REFINE_OK;
}

/* The refiner has bigG alone; in the base CLIP ViT-L stands before it. */
static refine_status encoders_shapes(const shapes *s, model_config *c)
{
    int width;

    TRY(text_shapes(s, "text", &c->text));
    TRY(read_dim(s, &c->text.projection, 0, "text.text_projection.weight"));
    if (!has_part(s, "text_l.text_model.embeddings.token_embedding.weight"))
        return REFINE_OK;
    TRY(text_shapes(s, "text_l", &c->text_l));
    /* The last layer is counted though it is not used: without the end the count would be off. */
    TRY(read_dim(s, &width, 0, "text_l.text_model.final_layer_norm.weight"));
    c->text_l.quick_gelu = MODEL_BASE.text_l.quick_gelu;
    c->prompt = MODEL_BASE.prompt;
    return REFINE_OK;
}

/* What the pooled prompt leaves of the embedding's input belongs to 6 numbers in the base and to
 * 5 in the refiner; where it cannot be, to as many as it can. */
static int id_dim(const model_config *c)
{
    const int rest = c->unet.add_embed_dim - c->text.projection;
    const int usual = c->text_l.layers > 0 ? BASE_IDS : REFINER_IDS;
    const int other = BASE_IDS + REFINER_IDS - usual;
    return rest % usual != 0 && rest % other == 0 ? rest / other : rest / usual;
}

static refine_status vae_shapes(const shapes *s, vae_config *c)
{
    static const char BLOCK[] = "vae.encoder.down_blocks.%d.resnets.%d.conv1.weight";
    int moments;

    while (c->levels < LEVELS_MAX &&
           has_part(s, "vae.encoder.down_blocks.%d.resnets.0.conv1.weight", c->levels)) {
        const int i = c->levels++;
        TRY(read_dim(s, &c->channels[i], 0, BLOCK, i, 0));
    }
    while (c->resnets < COUNT_MAX && has_part(s, BLOCK, 0, c->resnets))
        c->resnets++;
    TRY(read_dim(s, &moments, 0, "vae.quant_conv.weight"));
    c->latent_channels = moments / 2;
    c->groups = MODEL_REFINER.vae.groups;
    c->scaling_factor = MODEL_REFINER.vae.scaling_factor;
    return REFINE_OK;
}

refine_status config_from_shapes(model_config *out, const tensor_index *ix, const char *path,
                                 refine_error *err)
{
    const shapes s = { ix, path, err };

    *out = (model_config){ .schedule = MODEL_REFINER.schedule };
    TRY(encoders_shapes(&s, out));
    TRY(unet_shapes(&s, &out->unet));
    TRY(vae_shapes(&s, &out->vae));
    out->unet.id_embed_dim = id_dim(out);
    if (has_part(&s, "v_pred"))
        out->schedule.prediction = PREDICTS_V;
    refine_error why = { 0 };
    const refine_status st = model_config_check(out, &why);
    return st == REFINE_OK ? st : refine_fail(err, st, "%s: %s", path, why.text);
}
