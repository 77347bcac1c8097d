/* tests/support/checkpoint_fixture.c -- writes tiny checkpoints in both published layouts. */
#define _POSIX_C_SOURCE 200809L
#include "tests/support/checkpoint_fixture.h"

#include "tools/source/synthetic.h"

#include <criterion/criterion.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

typedef struct entry {
    char name[200];
    int n_dims;
    uint64_t dim[4];
    size_t bytes;
    void *data;
} entry;

typedef struct file {
    entry *e;
    int n;
} file;

/* ---- safetensors ---- */

static void add_checkpoint_entry(file *f, const char *name, int n_dims, const uint64_t *dim,
                                 const void *data, size_t bytes)
{
    f->e = realloc(f->e, (size_t)(f->n + 1) * sizeof *f->e);
    entry *e = &f->e[f->n++];
    snprintf(e->name, sizeof e->name, "%s", name);
    e->n_dims = n_dims;
    memcpy(e->dim, dim, (size_t)n_dims * sizeof *dim);
    e->bytes = bytes;
    e->data = malloc(bytes + 1);
    memcpy(e->data, data, bytes);
}

/* Entries k with k % of == part.  pad: spaces behind the header. */
static void save_safetensors(const file *f, const char *path, const char *type, int part, int of,
                             int pad)
{
    char *header = malloc((size_t)f->n * 400 + 64);
    size_t n = 0, at = 0;
    n += (size_t)sprintf(header + n, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (int i = part; i < f->n; i += of) {
        const entry *e = &f->e[i];
        n += (size_t)sprintf(header + n, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[", e->name, type);
        for (int d = 0; d < e->n_dims; d++)
            n += (size_t)sprintf(header + n, "%s%llu", d ? "," : "", (unsigned long long)e->dim[d]);
        n += (size_t)sprintf(header + n, "],\"data_offsets\":[%zu,%zu]}", at, at + e->bytes);
        at += e->bytes;
    }
    n += (size_t)sprintf(header + n, "}%*s", pad, "");
    const uint64_t length = n;
    FILE *out = fopen(path, "wb");
    cr_assert_not_null(out, "%s", path);
    cr_assert_eq(fwrite(&length, 8, 1, out), 1u);
    cr_assert_eq(fwrite(header, 1, n, out), n);
    for (int i = part; i < f->n; i += of)
        cr_assert_eq(fwrite(f->e[i].data, 1, f->e[i].bytes, out), f->e[i].bytes);
    cr_assert_eq(fclose(out), 0);
    free(header);
}

static void free_checkpoint_entries(file *f)
{
    for (int i = 0; i < f->n; i++)
        free(f->e[i].data);
    free(f->e);
    *f = (file){ 0 };
}

/* ---- the model, tensor by tensor, in diffusers' terms ---- */

typedef struct fixture_piece {
    const char *name; /* canonical */
    int n_dims;
    uint64_t dim[4], elements;
    const void *data;
} fixture_piece;

typedef void visitor(void *context, const fixture_piece *p);

/* Shape as diffusers stores it. */
static void set_shape(fixture_piece *p, const weight_entry *e)
{
    const uint64_t rows = (uint64_t)e->rows / (uint64_t)e->n_sources;
    p->elements = weight_elements(e) / (uint64_t)e->n_sources;
    if (e->rows == 1 && e->seg == SEG_VECTORS) {
        p->n_dims = 1;
        p->dim[0] = p->elements;
        if (strstr(p->name, "position_embedding")) {
            p->n_dims = 2;
            p->dim[0] = 77;
            p->dim[1] = p->elements / 77;
        }
        return;
    }
    const bool conv = strstr(p->name, "conv") != NULL;
    p->n_dims = conv ? 4 : 2;
    p->dim[0] = rows;
    p->dim[1] = (uint64_t)e->c_in;
    p->dim[2] = (uint64_t)e->kh;
    p->dim[3] = (uint64_t)e->kw;
}

/* The two models, and what their names and files differ in. */
typedef struct fixture_model {
    const char *source; /* synthetic:... */
    bool base;
} fixture_model;

static const fixture_model REFINER = { "synthetic:tiny", false };
static const fixture_model BASE = { "synthetic:tiny-base", true };

static void each_piece(const fixture_model *m, dtype type, visitor *visit, void *context)
{
    weight_source *s;
    cr_assert_eq(synthetic_open(&s, m->source, NULL), REFINE_OK);
    for (int i = 0; i < s->list.n; i++)
        for (int k = 0; k < s->list.entry[i].n_sources; k++) {
            fixture_piece p = { .name = s->list.entry[i].source[k] };
            set_shape(&p, &s->list.entry[i]);
            void *data = malloc(p.elements * dtype_bytes(type));
            cr_assert_eq(s->read(s, i, k, 0, p.elements, type, data, NULL), REFINE_OK);
            p.data = data;
            visit(context, &p);
            free(data);
        }
    s->close(s);
}

/* What published files hold and the model does without: the end of CLIP ViT-L. */
static void each_unneeded_piece(dtype type, visitor *visit, void *context)
{
#define AT "text_l.text_model."
    static const struct {
        const char *name;
        uint64_t rows, columns; /* 0: a vector */
    } PIECES[] = {
        { AT "encoder.layers.2.layer_norm1.weight", 64, 0 },
        { AT "encoder.layers.2.self_attn.q_proj.weight", 64, 64 },
        { AT "encoder.layers.2.mlp.fc1.weight", 128, 64 },
        { AT "final_layer_norm.weight", 64, 0 },
        { AT "final_layer_norm.bias", 64, 0 },
    };
#undef AT
    static const float zeros[128 * 64];
    for (size_t i = 0; i < sizeof PIECES / sizeof PIECES[0]; i++) {
        fixture_piece p = { .name = PIECES[i].name, .n_dims = 1, .data = zeros };
        p.dim[0] = p.elements = PIECES[i].rows;
        if (PIECES[i].columns) {
            p.n_dims = 2;
            p.dim[1] = PIECES[i].columns;
            p.elements *= PIECES[i].columns;
        }
        cr_assert_leq(p.elements * dtype_bytes(type), sizeof zeros);
        visit(context, &p);
    }
}

/* ---- diffusers ---- */

typedef struct fixture_parts {
    dtype type;
    bool bare; /* text_encoder as newer transformers write it */
    file unet, vae, text_l, text;
} fixture_parts;

static void to_part(void *context, const fixture_piece *p)
{
    fixture_parts *q = context;
    const char *own = strchr(p->name, '.') + 1;
    file *f = strncmp(p->name, "unet.", 5) == 0     ? &q->unet
              : strncmp(p->name, "vae.", 4) == 0    ? &q->vae
              : strncmp(p->name, "text_l.", 7) == 0 ? &q->text_l
                                                    : &q->text;
    if (f == &q->text_l && q->bare)
        own += strlen("text_model.");
    add_checkpoint_entry(f, own, p->n_dims, p->dim, p->data, p->elements * dtype_bytes(q->type));
}

static void write_checkpoint_text(const char *dir, const char *name, const char *text)
{
    char path[600];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    cr_assert_not_null(f, "%s", path);
    cr_assert_geq(fputs(text, f), 0);
    cr_assert_eq(fclose(f), 0);
}

static void make_directories(const char *dir)
{
    static const char *const SUBS[] = { "", "/unet", "/vae", "/text_encoder_2", "/scheduler" };
    char path[600];
    for (size_t i = 0; i < sizeof SUBS / sizeof SUBS[0]; i++) {
        snprintf(path, sizeof path, "%s%s", dir, SUBS[i]);
        (void)mkdir(path, 0700);
    }
}

static void write_checkpoint_configs(const char *dir)
{
    write_checkpoint_text(dir, "model_index.json",
                          "{\"_class_name\":\"StableDiffusionXLImg2ImgPipeline\","
                          "\"requires_aesthetics_score\":true}");
    write_checkpoint_text(
        dir, "unet/config.json",
        "{\"_class_name\":\"UNet2DConditionModel\",\"addition_embed_type\":\"text_time\","
        "\"addition_time_embed_dim\":32,\"attention_head_dim\":[1,1,2,2],"
        "\"block_out_channels\":[32,64,128,128],\"cross_attention_dim\":64,"
        "\"down_block_types\":[\"DownBlock2D\",\"CrossAttnDownBlock2D\","
        "\"CrossAttnDownBlock2D\",\"DownBlock2D\"],\"in_channels\":4,\"out_channels\":4,"
        "\"layers_per_block\":2,\"norm_num_groups\":32,"
        "\"projection_class_embeddings_input_dim\":224,"
        "\"transformer_layers_per_block\":[1,2,1,1],"
        "\"up_block_types\":[\"UpBlock2D\",\"CrossAttnUpBlock2D\",\"CrossAttnUpBlock2D\","
        "\"UpBlock2D\"],\"use_linear_projection\":true}");
    write_checkpoint_text(
        dir, "vae/config.json",
        "{\"_class_name\":\"AutoencoderKL\",\"block_out_channels\":[32,32,64,64],"
        "\"down_block_types\":[\"DownEncoderBlock2D\",\"DownEncoderBlock2D\","
        "\"DownEncoderBlock2D\",\"DownEncoderBlock2D\"],"
        "\"up_block_types\":[\"UpDecoderBlock2D\",\"UpDecoderBlock2D\","
        "\"UpDecoderBlock2D\",\"UpDecoderBlock2D\"],"
        "\"in_channels\":3,\"out_channels\":3,\"latent_channels\":4,\"layers_per_block\":1,"
        "\"norm_num_groups\":32,\"scaling_factor\":0.13025,\"force_upcast\":true}");
    write_checkpoint_text(
        dir, "text_encoder_2/config.json",
        "{\"architectures\":[\"CLIPTextModelWithProjection\"],\"hidden_act\":\"gelu\","
        "\"hidden_size\":64,\"intermediate_size\":128,\"max_position_embeddings\":77,"
        "\"num_attention_heads\":2,\"num_hidden_layers\":3,\"projection_dim\":64,"
        "\"layer_norm_eps\":1e-05,\"vocab_size\":49408}");
    write_checkpoint_text(dir, "scheduler/scheduler_config.json",
                          "{\"_class_name\":\"EulerDiscreteScheduler\",\"beta_start\":0.00085,"
                          "\"beta_end\":0.012,\"beta_schedule\":\"scaled_linear\","
                          "\"num_train_timesteps\":1000,\"prediction_type\":\"epsilon\","
                          "\"timestep_spacing\":\"leading\",\"steps_offset\":1}");
}

/* In the place of the refiner's.  Heads are 64 wide, as a single file's are taken to be. */
static void write_base_configs(const char *dir)
{
    write_checkpoint_text(dir, "model_index.json",
                          "{\"_class_name\":\"StableDiffusionXLPipeline\","
                          "\"force_zeros_for_empty_prompt\":true}");
    write_checkpoint_text(
        dir, "unet/config.json",
        "{\"_class_name\":\"UNet2DConditionModel\",\"addition_embed_type\":\"text_time\","
        "\"addition_time_embed_dim\":32,\"attention_head_dim\":[1,1,2],"
        "\"block_out_channels\":[32,64,128],\"cross_attention_dim\":128,"
        "\"down_block_types\":[\"DownBlock2D\",\"CrossAttnDownBlock2D\","
        "\"CrossAttnDownBlock2D\"],\"in_channels\":4,\"out_channels\":4,"
        "\"layers_per_block\":2,\"norm_num_groups\":32,"
        "\"projection_class_embeddings_input_dim\":256,"
        "\"transformer_layers_per_block\":[1,1,2],"
        "\"up_block_types\":[\"CrossAttnUpBlock2D\",\"CrossAttnUpBlock2D\","
        "\"UpBlock2D\"],\"use_linear_projection\":true}");
    write_checkpoint_text(
        dir, "text_encoder/config.json",
        "{\"architectures\":[\"CLIPTextModel\"],\"hidden_act\":\"quick_gelu\","
        "\"hidden_size\":64,\"intermediate_size\":128,\"max_position_embeddings\":77,"
        "\"num_attention_heads\":1,\"num_hidden_layers\":3,\"projection_dim\":768,"
        "\"layer_norm_eps\":1e-05,\"vocab_size\":49408}");
    write_checkpoint_text(
        dir, "text_encoder_2/config.json",
        "{\"architectures\":[\"CLIPTextModelWithProjection\"],\"hidden_act\":\"gelu\","
        "\"hidden_size\":64,\"intermediate_size\":128,\"max_position_embeddings\":77,"
        "\"num_attention_heads\":1,\"num_hidden_layers\":3,\"projection_dim\":64,"
        "\"layer_norm_eps\":1e-05,\"vocab_size\":49408}");
}

static void save_in(const file *f, const char *dir, const char *name, const char *type, int part,
                    int of)
{
    char path[700];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    save_safetensors(f, path, type, part, of, 3);
}

static void save_shards(const file *f, const char *dir, const char *type, int shards)
{
    char *index = malloc((size_t)f->n * 300 + 64), name[100];
    size_t n = (size_t)sprintf(index, "{\"metadata\":{\"total_size\":1},\"weight_map\":{");
    for (int i = 0; i < f->n; i++)
        n += (size_t)sprintf(index + n,
                             "%s\"%s\":\"diffusion_pytorch_model-%05d-of-%05d.safetensors\"",
                             i ? "," : "", f->e[i].name, i % shards + 1, shards);
    sprintf(index + n, "}}");
    write_checkpoint_text(dir, "unet/diffusion_pytorch_model.safetensors.index.json", index);
    for (int i = 0; i < shards; i++) {
        snprintf(name, sizeof name, "unet/diffusion_pytorch_model-%05d-of-%05d.safetensors", i + 1,
                 shards);
        save_in(f, dir, name, type, i, shards);
    }
    free(index);
}

/* Writes what was gathered, and frees it. */
static void save_parts(fixture_parts *q, const char *dir, int shards)
{
    const bool f32 = q->type == DT_F32;
    const char *type = f32 ? "F32" : "F16", *fp16 = f32 ? "" : ".fp16";
    char name[100];

    if (shards > 1) {
        save_shards(&q->unet, dir, type, shards);
    } else {
        snprintf(name, sizeof name, "unet/diffusion_pytorch_model%s.safetensors", fp16);
        save_in(&q->unet, dir, name, type, 0, 1);
    }
    snprintf(name, sizeof name, "vae/diffusion_pytorch_model%s.safetensors", fp16);
    save_in(&q->vae, dir, name, type, 0, 1);
    snprintf(name, sizeof name, "text_encoder_2/model%s.safetensors", fp16);
    save_in(&q->text, dir, name, type, 0, 1);
    snprintf(name, sizeof name, "text_encoder/model%s.safetensors", fp16);
    if (q->text_l.n > 0)
        save_in(&q->text_l, dir, name, type, 0, 1);
    free_checkpoint_entries(&q->unet);
    free_checkpoint_entries(&q->vae);
    free_checkpoint_entries(&q->text_l);
    free_checkpoint_entries(&q->text);
}

void fixture_directory(const char *dir, int f32, int shards)
{
    fixture_parts q = { .type = f32 ? DT_F32 : DT_F16 };

    make_directories(dir);
    write_checkpoint_configs(dir);
    each_piece(&REFINER, q.type, to_part, &q);
    save_parts(&q, dir, shards);
}

void fixture_base_directory(const char *dir, int f32, int bare)
{
    fixture_parts q = { .type = f32 ? DT_F32 : DT_F16, .bare = bare != 0 };
    char path[600];

    make_directories(dir);
    snprintf(path, sizeof path, "%s/text_encoder", dir);
    (void)mkdir(path, 0700);
    write_checkpoint_configs(dir);
    write_base_configs(dir);
    each_piece(&BASE, q.type, to_part, &q);
    each_unneeded_piece(q.type, to_part, &q);
    save_parts(&q, dir, f32 ? 2 : 1);
}

/* ---- single file ---- */

/* Puts `to` where `from` stands first in s. */
static void replace_first(char *s, size_t size, const char *from, const char *to)
{
    char tail[200];
    char *at = strstr(s, from);
    if (!at)
        return;
    snprintf(tail, sizeof tail, "%s", at + strlen(from));
    snprintf(at, size - (size_t)(at - s), "%s%s", to, tail);
}

static void resnet_name(char *s, size_t size)
{
    replace_first(s, size, ".norm1.", ".in_layers.0.");
    replace_first(s, size, ".conv1.", ".in_layers.2.");
    replace_first(s, size, ".time_emb_proj.", ".emb_layers.1.");
    replace_first(s, size, ".norm2.", ".out_layers.0.");
    replace_first(s, size, ".conv2.", ".out_layers.3.");
    replace_first(s, size, ".conv_shortcut.", ".skip_connection.");
}

/* Blocks of three entries a level: two resnets and a downsampler, or three resnets of which
 * the last carries the upsampler. */
static void unet_name(char *out, size_t size, const char *name, bool base)
{
    char rest[120];
    int b, j;
    if (sscanf(name, "down_blocks.%d.resnets.%d.%119s", &b, &j, rest) == 3) {
        snprintf(out, size, "model.diffusion_model.input_blocks.%d.0.%s", 1 + 3 * b + j, rest);
        resnet_name(out, size);
    } else if (sscanf(name, "down_blocks.%d.attentions.%d.%119s", &b, &j, rest) == 3) {
        snprintf(out, size, "model.diffusion_model.input_blocks.%d.1.%s", 1 + 3 * b + j, rest);
    } else if (sscanf(name, "down_blocks.%d.downsamplers.0.conv.%119s", &b, rest) == 2) {
        snprintf(out, size, "model.diffusion_model.input_blocks.%d.0.op.%s", 3 + 3 * b, rest);
    } else if (sscanf(name, "up_blocks.%d.resnets.%d.%119s", &b, &j, rest) == 3) {
        snprintf(out, size, "model.diffusion_model.output_blocks.%d.0.%s", 3 * b + j, rest);
        resnet_name(out, size);
    } else if (sscanf(name, "up_blocks.%d.attentions.%d.%119s", &b, &j, rest) == 3) {
        snprintf(out, size, "model.diffusion_model.output_blocks.%d.1.%s", 3 * b + j, rest);
    } else if (sscanf(name, "up_blocks.%d.upsamplers.0.conv.%119s", &b, rest) == 2) {
        snprintf(out, size, "model.diffusion_model.output_blocks.%d.%d.conv.%s", 3 * b + 2,
                 b == 0 && !base ? 1 : 2, rest);
    } else {
        snprintf(out, size, "model.diffusion_model.%s", name);
        if (strstr(name, "mid_block.resnets"))
            resnet_name(out, size);
        replace_first(out, size, "mid_block.resnets.0", "middle_block.0");
        replace_first(out, size, "mid_block.resnets.1", "middle_block.2");
        replace_first(out, size, "mid_block.attentions.0", "middle_block.1");
        replace_first(out, size, "time_embedding.linear_1", "time_embed.0");
        replace_first(out, size, "time_embedding.linear_2", "time_embed.2");
        replace_first(out, size, "add_embedding.linear_1", "label_emb.0.0");
        replace_first(out, size, "add_embedding.linear_2", "label_emb.0.2");
        replace_first(out, size, "conv_in", "input_blocks.0.0");
        replace_first(out, size, "conv_norm_out", "out.0");
        replace_first(out, size, "conv_out", "out.2");
    }
}

static void vae_name(char *out, size_t size, const char *name)
{
    int b;
    snprintf(out, size, "first_stage_model.%s", name);
    for (int i = 0; i < 4; i++) {
        char from[40], to[40];
        snprintf(from, sizeof from, "encoder.down_blocks.%d.", i);
        snprintf(to, sizeof to, "encoder.down.%d.", i);
        replace_first(out, size, from, to);
    }
    if (sscanf(name, "decoder.up_blocks.%d.", &b) == 1) {
        char from[40], to[40];
        snprintf(from, sizeof from, "decoder.up_blocks.%d.", b);
        snprintf(to, sizeof to, "decoder.up.%d.", 3 - b);
        replace_first(out, size, from, to);
    }
    replace_first(out, size, "mid_block.resnets.0", "mid.block_1");
    replace_first(out, size, "mid_block.resnets.1", "mid.block_2");
    replace_first(out, size, ".resnets.", ".block.");
    replace_first(out, size, "downsamplers.0", "downsample");
    replace_first(out, size, "upsamplers.0", "upsample");
    replace_first(out, size, "conv_shortcut", "nin_shortcut");
    replace_first(out, size, "conv_norm_out", "norm_out");
    replace_first(out, size, "mid_block.attentions.0.group_norm", "mid.attn_1.norm");
    replace_first(out, size, "mid_block.attentions.0.to_q", "mid.attn_1.q");
    replace_first(out, size, "mid_block.attentions.0.to_k", "mid.attn_1.k");
    replace_first(out, size, "mid_block.attentions.0.to_v", "mid.attn_1.v");
    replace_first(out, size, "mid_block.attentions.0.to_out.0", "mid.attn_1.proj_out");
}

static void text_name(char *out, size_t size, const char *name, bool base)
{
    snprintf(out, size, "conditioner.embedders.%d.model.%s", base ? 1 : 0, name);
    replace_first(out, size, "text_model.", "");
    replace_first(out, size, "embeddings.token_embedding", "token_embedding");
    replace_first(out, size, "embeddings.position_embedding.weight", "positional_embedding");
    replace_first(out, size, "final_layer_norm", "ln_final");
    replace_first(out, size, "text_projection.weight", "text_projection");
    replace_first(out, size, "encoder.layers", "transformer.resblocks");
    replace_first(out, size, "layer_norm1", "ln_1");
    replace_first(out, size, "layer_norm2", "ln_2");
    replace_first(out, size, "mlp.fc1", "mlp.c_fc");
    replace_first(out, size, "mlp.fc2", "mlp.c_proj");
    replace_first(out, size, "self_attn.out_proj", "attn.out_proj");
    replace_first(out, size, "self_attn.q_proj.weight", "attn.in_proj_weight");
    replace_first(out, size, "self_attn.q_proj.bias", "attn.in_proj_bias");
}

typedef struct single_file {
    file f;
    dtype type;
    bool base;
} single_file;

/* q, k and v arrive one behind the other and are one tensor in this layout. */
static void append_to_last(file *f, const fixture_piece *p, size_t bytes)
{
    entry *e = &f->e[f->n - 1];
    e->data = realloc(e->data, e->bytes + bytes);
    memcpy((char *)e->data + e->bytes, p->data, bytes);
    e->bytes += bytes;
    e->dim[0] += p->dim[0];
}

static void transpose_weight(char *out, const char *in, size_t rows, size_t columns, size_t bytes)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < columns; c++)
            memcpy(out + (c * rows + r) * bytes, in + (r * columns + c) * bytes, bytes);
}

static void to_single(void *context, const fixture_piece *p)
{
    single_file *s = context;
    file *f = &s->f;
    char name[200];
    const char *own = strchr(p->name, '.') + 1;
    const size_t each = dtype_bytes(s->type), bytes = p->elements * each;
    fixture_piece q = *p;

    if (strncmp(p->name, "unet.", 5) == 0)
        unet_name(name, sizeof name, own, s->base);
    else if (strncmp(p->name, "vae.", 4) == 0)
        vae_name(name, sizeof name, own);
    else if (strncmp(p->name, "text_l.", 7) == 0)
        snprintf(name, sizeof name, "conditioner.embedders.0.transformer.%s", own);
    else
        text_name(name, sizeof name, own, s->base);
    if (strncmp(p->name, "text.", 5) == 0 && (strstr(own, "k_proj") || strstr(own, "v_proj"))) {
        append_to_last(f, p, bytes);
        return;
    }
    if (strstr(name, "attn_1") && q.n_dims == 2) {
        q.n_dims = 4;
        q.dim[2] = q.dim[3] = 1;
    }
    add_checkpoint_entry(f, name, q.n_dims, q.dim, q.data, bytes);
    if (strstr(name, "text_projection"))
        transpose_weight(f->e[f->n - 1].data, p->data, p->dim[0], p->dim[1], each);
}

static void add_ignored_entry(single_file *s, const char *name, uint64_t n)
{
    static const float zeros[1000];
    cr_assert_leq(n, 1000u);
    add_checkpoint_entry(&s->f, name, 1, &n, zeros, n * dtype_bytes(s->type));
}

void fixture_single_file(const char *path, int extra)
{
    single_file s = { .type = DT_F16 };
    each_piece(&REFINER, s.type, to_single, &s);
    if (extra) {
        add_ignored_entry(&s, "conditioner.embedders.0.model.logit_scale", 1);
        add_ignored_entry(&s, "denoiser.sigmas", 1000);
        add_ignored_entry(&s, "model_ema.decay", 1);
    }
    save_safetensors(&s.f, path, "F16", 0, 1, 5);
    free_checkpoint_entries(&s.f);
}

void fixture_base_file(const char *path, int f32, const char *mark)
{
#define L "conditioner.embedders.0.transformer."
    single_file s = { .type = f32 ? DT_F32 : DT_F16, .base = true };
    each_piece(&BASE, s.type, to_single, &s);
    each_unneeded_piece(s.type, to_single, &s);
    add_ignored_entry(&s, L "text_model.embeddings.position_ids", 77);
    add_ignored_entry(&s, L "text_projection.weight", 64);
    add_ignored_entry(&s, "conditioner.embedders.1.model.logit_scale", 1);
    add_ignored_entry(&s,
                      "conditioner.embedders.1.model.transformer.text_model.embeddings."
                      "position_ids",
                      77);
    if (mark)
        add_ignored_entry(&s, mark, 0);
    save_safetensors(&s.f, path, f32 ? "F32" : "F16", 0, 1, 5);
    free_checkpoint_entries(&s.f);
#undef L
}

/* Of the names of a whole single file's VAE those of a file of its own. */
static void to_vae_file(void *context, const fixture_piece *p)
{
    single_file *s = context;
    if (strncmp(p->name, "vae.", 4) != 0)
        return;
    to_single(s, p);
    entry *e = &s->f.e[s->f.n - 1];
    replace_first(e->name, sizeof e->name, "first_stage_model.", "");
}

void fixture_vae_file(const char *path)
{
    single_file s = { .type = DT_F16 };
    each_piece(&(fixture_model){ "synthetic:tiny:7", false }, s.type, to_vae_file, &s);
    save_safetensors(&s.f, path, "F16", 0, 1, 5);
    free_checkpoint_entries(&s.f);
}
