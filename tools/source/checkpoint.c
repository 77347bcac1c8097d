/* tools/source/checkpoint.c -- finding the files, binding tensors to the layout, converting
 * numbers.
 *
 *     open files -> canonical names (tensor_index) -> configuration -> layout -> bind
 */
#define _XOPEN_SOURCE 700
#include "tools/source/checkpoint.h"

#include "engine/base/mem.h"
#include "engine/base/num.h"
#include "engine/base/try.h"
#include "quant/f16.h"
#include "tools/files/file_kind.h"
#include "tools/files/json_file.h"
#include "tools/files/safetensors.h"
#include "tools/source/component_files.h"
#include "tools/source/config_diffusers.h"
#include "tools/source/config_shapes.h"
#include "tools/source/hub_cache.h"
#include "tools/source/recognise.h"
#include "tools/source/tensor_index.h"

#include <assert.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define VAE_STEM "diffusion_pytorch_model"

enum { FILES_MAX = 256, PATH_BYTES = 4096, NAME_BYTES = 256 };

/* "F16, F32" of all types that are read, and more than once. */
enum { TYPES_TEXT = 64 };

/* Numbers converted at a time, on the stack. */
enum { BLOCK = 8192, COLUMN = 512 };

/* A source of a weight.  Numbers of 8 bits come with a scale, which they are multiplied by. */
typedef struct bound_part {
    const tensor_part *part;
    float scale; /* 1: none */
} bound_part;

typedef bound_part binding[WEIGHT_SOURCES];

typedef struct checkpoint {
    weight_source source;
    char name[NAME_BYTES], vae_name[NAME_BYTES];
    char title[SAFETENSORS_NOTE], types[TYPES_TEXT], vae_types[TYPES_TEXT];
    checkpoint_choices choices; /* borrowed, while opening */
    bool has_variant;           /* of choices.variant a file was found */
    safetensors *file[FILES_MAX];
    int n_files;
    tensor_index index;
    binding *bound; /* one for each entry of the layout */
} checkpoint;

/* ---- reading ---- */

static refine_status not_finite(const tensor_part *p, double value, refine_error *err)
{
    if (isfinite(value))
        return refine_fail(err, REFINE_EFORMAT,
                           "%s: %s holds %g, too large for fp16 (65504 at most); get a checkpoint "
                           "made for fp16",
                           p->file->path, p->tensor->name, value);
    return refine_fail(err, REFINE_EFORMAT,
                       "%s: %s holds infinity or NaN: the checkpoint is damaged; download it again",
                       p->file->path, p->tensor->name);
}

/* s eeee mmm, with a bias of 7; no infinities, and all ones is NaN. */
static void f8_e4m3_decode(float *dst, const uint8_t *src, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const int exponent = src[i] >> 3 & 15, mantissa = src[i] & 7;
        const float size = exponent == 0 ? ldexpf((float)mantissa, -9)
                                         : ldexpf((float)(8 + mantissa), exponent - 10);
        dst[i] = (src[i] & 127) == 127 ? NAN : src[i] & 128 ? -size : size;
    }
}

/* The upper half of an fp16 number. */
static void f8_e5m2_decode(float *dst, const uint8_t *src, size_t n)
{
    for (size_t i = 0; i < n; i++)
        dst[i] = f16_to_f32((uint16_t)(src[i] << 8));
}

static void widen_to_f32(float *dst, const void *src, st_dtype from, size_t n)
{
    switch (from) {
    case ST_F32: memcpy(dst, src, n * sizeof *dst); break;
    case ST_BF16: bf16_decode(dst, src, n); break;
    case ST_F16: f16_decode(dst, src, n); break;
    case ST_F8_E4M3: f8_e4m3_decode(dst, src, n); break;
    case ST_F8_E5M2: f8_e5m2_decode(dst, src, n); break;
    default: /* ST_F64; bind_one() lets no other through */
        for (size_t i = 0; i < n; i++)
            dst[i] = (float)((const double *)src)[i];
    }
}

/* An infinity in the result is either the source's or an overflow: say which. */
static refine_status check_finite_f16(const tensor_part *p, const float *wide,
                                      const uint16_t *narrow, size_t n, refine_error *err)
{
    uint32_t worst = 0;
    for (size_t i = 0; i < n; i++) {
        const uint32_t exponent = narrow[i] & 0x7c00u;
        worst = exponent > worst ? exponent : worst;
    }
    if (worst < 0x7c00u)
        return REFINE_OK;
    for (size_t i = 0; i < n; i++)
        if ((narrow[i] & 0x7c00u) == 0x7c00u)
            return not_finite(p, wide ? (double)wide[i] : (double)INFINITY, err);
    return REFINE_OK;
}

static refine_status check_finite_f32(const tensor_part *p, const float *wide, size_t n,
                                      refine_error *err)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(wide[i]))
            return not_finite(p, (double)wide[i], err);
    return REFINE_OK;
}

/* n <= BLOCK numbers at element `at` of the stored tensor. */
static refine_status read_block(const bound_part *b, uint64_t at, size_t n, dtype to, void *dst,
                                refine_error *err)
{
    const tensor_part *p = b->part;
    const size_t bytes = st_dtype_bytes(p->tensor->type);
    double raw[BLOCK];
    float narrow_from[BLOCK], *wide = to == DT_F32 ? dst : narrow_from;

    TRY(safetensors_read(p->file, p->tensor, at * bytes, n * bytes, raw, err));
    widen_to_f32(wide, raw, p->tensor->type, n);
    for (size_t i = 0; b->scale != 1.0f && i < n; i++)
        wide[i] *= b->scale;
    if (to == DT_F32)
        return check_finite_f32(p, wide, n, err);
    f16_encode(dst, wide, n);
    return check_finite_f16(p, wide, dst, n, err);
}

static refine_status read_straight(const bound_part *b, uint64_t first, size_t n, dtype to,
                                   void *dst, refine_error *err)
{
    const tensor_part *p = b->part;
    const uint64_t at = p->skip + first;

    if (to == DT_F16 && p->tensor->type == ST_F16 && b->scale == 1.0f) {
        TRY(safetensors_read(p->file, p->tensor, at * 2, n * 2, dst, err));
        return check_finite_f16(p, NULL, dst, n, err);
    }
    for (size_t i = 0; i < n; i += BLOCK)
        TRY(read_block(b, at + i, num_min(BLOCK, n - i), to, (char *)dst + i * dtype_bytes(to),
                       err));
    return REFINE_OK;
}

/* Whole rows of the view, each a column of what is stored. */
static refine_status read_transposed(const bound_part *b, uint64_t first, size_t n, dtype to,
                                     void *dst, refine_error *err)
{
    const uint64_t stored_cols = b->part->dim[0], cols = b->part->dim[1];
    const size_t row0 = (size_t)(first / cols), rows = (size_t)(n / cols);
    float column[COLUMN];

    assert(first % cols == 0 && n % cols == 0);
    for (size_t r = 0; r < rows; r += COLUMN)
        for (size_t c = 0; c < cols; c++) {
            const size_t len = num_min(COLUMN, rows - r);
            TRY(read_straight(b, c * stored_cols + row0 + r, len, to, column, err));
            for (size_t i = 0; i < len; i++) {
                const size_t at = (r + i) * cols + c;
                if (to == DT_F16)
                    ((uint16_t *)dst)[at] = ((const uint16_t *)(const void *)column)[i];
                else
                    ((float *)dst)[at] = column[i];
            }
        }
    return REFINE_OK;
}

static refine_status checkpoint_read(const weight_source *s, int entry, int part, uint64_t first,
                                     size_t n, dtype to, void *dst, refine_error *err)
{
    const bound_part *b = &((const checkpoint *)s)->bound[entry][part];

    assert(num_within(first, n, b->part->elements));
    return b->part->transposed ? read_transposed(b, first, n, to, dst, err)
                               : read_straight(b, first, n, to, dst, err);
}

static void checkpoint_expect(const weight_source *s, int entry, int part, uint64_t first, size_t n)
{
    const tensor_part *p = ((const checkpoint *)s)->bound[entry][part].part;
    const size_t bytes = st_dtype_bytes(p->tensor->type);

    if (!p->transposed)
        (void)posix_fadvise(p->file->fd, (off_t)(p->tensor->at + (p->skip + first) * bytes),
                            (off_t)(n * bytes), POSIX_FADV_WILLNEED);
}

/* ---- binding ---- */

static refine_status wrong_shape(const tensor_part *p, const char *want, refine_error *err)
{
    char have[96];
    size_t at = 0;
    have[0] = 0;
    for (int i = 0; i < p->n_dims && at < sizeof have; i++)
        at += (size_t)snprintf(have + at, sizeof have - at, "%s%llu", i ? ", " : "",
                               (unsigned long long)p->dim[i]);
    return refine_fail(
        err, REFINE_EFORMAT,
        "%s: %s has the shape [%s] where the model has [%s]; is it of another model?",
        p->file->path, p->tensor->name, have, want);
}

/* A 1x1 convolution and a linear differ in trailing ones only. */
static refine_status check_matrix_part(const tensor_part *p, const weight_entry *e,
                                       refine_error *err)
{
    const uint64_t want[PART_DIMS] = { (uint64_t)(e->rows / e->n_sources), (uint64_t)e->c_in,
                                       (uint64_t)e->kh, (uint64_t)e->kw };
    char text[64];
    bool same = true;

    for (int i = 0; i < PART_DIMS; i++)
        same &= (i < p->n_dims ? p->dim[i] : 1) == want[i];
    if (same)
        return REFINE_OK;
    (void)snprintf(text, sizeof text, "%d, %d, %d, %d", e->rows / e->n_sources, e->c_in, e->kh,
                   e->kw);
    return wrong_shape(p, text, err);
}

static refine_status check_vector_part(const tensor_part *p, const weight_entry *e,
                                       refine_error *err)
{
    char text[32];
    if (p->elements == (uint64_t)(e->c_in / e->n_sources))
        return REFINE_OK;
    (void)snprintf(text, sizeof text, "%d", e->c_in / e->n_sources);
    return wrong_shape(p, text, err);
}

/* Is it of the same component?  Shards lie in one directory. */
static bool is_file_beside(const char *a, const char *b)
{
    const char *slash_a = strrchr(a, '/'), *slash_b = strrchr(b, '/');
    const size_t n = slash_a ? (size_t)(slash_a - a) : 0;
    return n == (slash_b ? (size_t)(slash_b - b) : 0) && strncmp(a, b, n) == 0;
}

/* The tensor X.scale_weight, or X.weight_scale, of one called X.weight. */
static const safetensor *find_scale(const checkpoint *c, const tensor_part *p,
                                    const safetensors **file)
{
    static const char END[] = ".weight";
    static const char *const ENDS[] = { ".scale_weight", ".weight_scale" };
    const size_t n = strlen(p->tensor->name), stem = n - strlen(END);
    char name[NAME_BYTES];

    if (n < strlen(END) || strcmp(p->tensor->name + stem, END) != 0)
        return NULL;
    for (size_t k = 0; k < sizeof ENDS / sizeof ENDS[0]; k++)
        for (int i = 0; i < c->n_files; i++) {
            const safetensor *t = NULL;
            if (snprintf(name, sizeof name, "%.*s%s", (int)stem, p->tensor->name, ENDS[k]) <
                    NAME_BYTES &&
                is_file_beside(c->file[i]->path, p->file->path))
                t = safetensors_find(c->file[i], name);
            *file = c->file[i];
            if (t)
                return t;
        }
    return NULL;
}

/* One number for the whole tensor; blocks with numbers of their own are not read. */
static refine_status read_scale(const checkpoint *c, const tensor_part *p, float *scale,
                                refine_error *err)
{
    tensor_part one = { 0 };
    double raw;

    *scale = 1.0f;
    const safetensor *t = one.tensor = find_scale(c, p, &one.file);
    if (!t)
        return REFINE_OK;
    if (t->elements != 1)
        return refine_fail(err, REFINE_EFORMAT,
                           "%s: %s holds %llu scales where one is read; get a checkpoint in F16, "
                           "BF16 or F32",
                           one.file->path, t->name, (unsigned long long)t->elements);
    TRY(tensor_part_check_type(&one, err));
    TRY(safetensors_read(one.file, t, 0, t->bytes, &raw, err));
    widen_to_f32(scale, &raw, t->type, 1);
    return check_finite_f32(&one, scale, 1, err);
}

static refine_status bind_one(checkpoint *c, const char *path, int entry, int part,
                              refine_error *err)
{
    const weight_entry *e = &c->source.list.entry[entry];
    const tensor_part *p = tensor_index_find(&c->index, e->source[part]);

    if (!p)
        return refine_fail(
            err, REFINE_EFORMAT, "%s: incomplete: %s is missing",
            c->choices.vae && strncmp(e->source[part], "vae.", 4) == 0 ? c->choices.vae : path,
            e->source[part]);
    TRY(tensor_part_check_type(p, err));
    c->bound[entry][part].part = p;
    TRY(read_scale(c, p, &c->bound[entry][part].scale, err));
    return e->seg == SEG_VECTORS ? check_vector_part(p, e, err) : check_matrix_part(p, e, err);
}

/* Appends what is not there yet: BF16 is no F16. */
static void list_type(char list[TYPES_TEXT], const char *type)
{
    const size_t n = strlen(list), len = strlen(type);
    for (const char *at = list; *at; at += strcspn(at, " "), at += *at == ' ')
        if (strncmp(at, type, len) == 0 && (at[len] == ',' || !at[len]))
            return;
    (void)snprintf(list + n, TYPES_TEXT - n, "%s%s", n ? ", " : "", type);
}

static refine_status bind_entries(checkpoint *c, const char *path, const model_config *config,
                                  refine_error *err)
{
    weight_list *l = &c->source.list;

    if (weight_list_build(l, config) != REFINE_OK)
        return refine_fail(err, REFINE_ENOMEM, "out of memory");
    c->bound = mem_calloc((size_t)l->n, sizeof *c->bound);
    if (!c->bound)
        return refine_fail(err, REFINE_ENOMEM, "out of memory");
    for (int i = 0; i < l->n; i++)
        for (int j = 0; j < l->entry[i].n_sources; j++) {
            const bool vae = strncmp(l->entry[i].source[j], "vae.", 4) == 0;
            TRY(bind_one(c, path, i, j, err));
            list_type(vae ? c->vae_types : c->types, c->bound[i][j].part->tensor->dtype);
        }
    c->source.types = c->types;
    c->source.vae_types = c->vae_types;
    return REFINE_OK;
}

/* ---- files ---- */

/* The last part of the path, in ASCII: it goes into the pack's JSON. */
static const char *keep_name(char out[NAME_BYTES], const char *path)
{
    size_t end = strlen(path), begin;
    while (end > 1 && path[end - 1] == '/')
        end--;
    begin = end;
    while (begin > 0 && path[begin - 1] != '/')
        begin--;
    const size_t n = num_min(end - begin, NAME_BYTES - 1);
    for (size_t i = 0; i < n; i++)
        out[i] = path[begin + i] > 31 && path[begin + i] < 127 ? path[begin + i] : '?';
    out[n] = 0;
    return out;
}

static refine_status add_checkpoint_file(checkpoint *c, const char *path, refine_error *err)
{
    if (c->n_files == FILES_MAX)
        return refine_fail(err, REFINE_EFORMAT, "%s: more than %d files", path, FILES_MAX);
    TRY(safetensors_open(&c->file[c->n_files], path, err));
    c->source.bytes += c->file[c->n_files]->file_bytes;
    c->n_files++;
    return REFINE_OK;
}

static refine_status join_component_path(char out[PATH_BYTES], const char *dir, const char *name,
                                         refine_error *err)
{
    if (snprintf(out, PATH_BYTES, "%s/%s", dir, name) >= PATH_BYTES)
        return refine_fail(err, REFINE_EFORMAT, "%s: its path is too long", dir);
    return REFINE_OK;
}

static bool has_component_file(const char *dir, const char *name)
{
    char path[PATH_BYTES];
    struct stat s;
    return snprintf(path, sizeof path, "%s/%s", dir, name) < PATH_BYTES && stat(path, &s) == 0 &&
           S_ISREG(s.st_mode);
}

static bool opened_already(const checkpoint *c, const char *path)
{
    for (int i = 0; i < c->n_files; i++)
        if (strcmp(c->file[i]->path, path) == 0)
            return true;
    return false;
}

/* The shards an index names lie beside it; a name that leads elsewhere is refused. */
static refine_status add_shards(checkpoint *c, const char *dir, const char *index_name,
                                refine_error *err)
{
    char path[PATH_BYTES], shard[PATH_BYTES];
    refine_status st = REFINE_OK;
    const char *tensor_name;
    json_t *root, *v;

    TRY(join_component_path(path, dir, index_name, err));
    TRY(json_file_load(&root, path, err));
    json_t *map = json_object_get(root, "weight_map");
    if (json_object_size(map) == 0)
        st = refine_fail(err, REFINE_EFORMAT, "%s: names no shards", path);
    json_object_foreach(map, tensor_name, v)
    {
        const char *name = json_string_value(v);
        if (!name || !*name || strchr(name, '/'))
            st = refine_fail(err, REFINE_EFORMAT, "%s: a shard that is no file beside it", path);
        if (st == REFINE_OK)
            st = join_component_path(shard, dir, name, err);
        if (st == REFINE_OK && !opened_already(c, shard))
            st = add_checkpoint_file(c, shard, err);
        if (st != REFINE_OK)
            break;
    }
    json_decref(root);
    return st;
}

static refine_status add_component(checkpoint *c, const char *dir, const char *stem,
                                   refine_error *err)
{
    const char *variant = c->choices.variant;
    component_file file;
    char path[PATH_BYTES];

    TRY(component_files_choose(&file, dir, stem, variant, err));
    c->has_variant |= variant && strcmp(file.variant, variant) == 0;
    if (file.sharded)
        return add_shards(c, dir, file.name, err);
    TRY(join_component_path(path, dir, file.name, err));
    return add_checkpoint_file(c, path, err);
}

/* The files of a component in diffusers' layout, and their tensors. */
static refine_status index_component(checkpoint *c, const char *dir, const char *stem,
                                     const char *prefix, refine_error *err)
{
    const int first = c->n_files;
    TRY(add_component(c, dir, stem, err));
    for (int i = first; i < c->n_files; i++)
        TRY(tensor_index_diffusers(&c->index, c->file[i], prefix, err));
    return REFINE_OK;
}

/* ---- a VAE from elsewhere ---- */

static bool is_directory(const char *path)
{
    struct stat s;
    return stat(path, &s) == 0 && S_ISDIR(s.st_mode);
}

/* A VAE's directory, or a model's with one in it.  Its configuration, if there is one, has to be
 * that of the model's own, since no shape tells the scaling factor. */
static refine_status index_vae_directory(checkpoint *c, const char *path, const vae_config *want,
                                         refine_error *err)
{
    char inner[PATH_BYTES];
    TRY(join_component_path(inner, path, "vae", err));
    const char *dir = is_directory(inner) ? inner : path;
    if (has_component_file(dir, "config.json"))
        TRY(config_check_vae(dir, want, err));
    return index_component(c, dir, VAE_STEM, "vae.", err);
}

static refine_status index_vae_file(checkpoint *c, const char *path, refine_error *err)
{
    TRY(add_checkpoint_file(c, path, err));
    return tensor_index_vae(&c->index, c->file[c->n_files - 1], err);
}

/* These two tell a VAE from others' best. */
static refine_status check_vae_kind(const checkpoint *c, const char *path, refine_error *err)
{
    if (!tensor_index_has(&c->index, "vae.encoder.conv_in.") ||
        !tensor_index_has(&c->index, "vae.decoder.conv_in."))
        return refine_fail(err, REFINE_EFORMAT, "%s: holds no complete VAE", path);
    if (!tensor_index_has(&c->index, "vae.quant_conv."))
        return refine_fail(err, REFINE_EFORMAT,
                           "%s: this is no VAE of SDXL: it has no quant_conv, as those of Stable "
                           "Diffusion 3 and FLUX",
                           path);
    return REFINE_OK;
}

/* Puts the VAE that was chosen in the place of the index's own. */
static refine_status replace_vae(checkpoint *c, const vae_config *want, refine_error *err)
{
    char path[HUB_PATH];

    TRY(hub_find_snapshot(path, c->choices.vae, err));
    tensor_index_drop(&c->index, "vae.");
    c->source.vae = keep_name(c->vae_name, c->choices.vae);
    if (is_directory(path))
        TRY(index_vae_directory(c, path, want, err));
    else
        TRY(index_vae_file(c, path, err));
    TRY(tensor_index_seal(&c->index, err));
    return check_vae_kind(c, path, err);
}

/* ---- the two layouts ---- */

static refine_status check_variant(const checkpoint *c, const char *path, refine_error *err)
{
    if (!c->choices.variant || c->has_variant)
        return REFINE_OK;
    return refine_fail(err, REFINE_EFORMAT, "%s: has no weights of a variant %s (--variant)", path,
                       c->choices.variant);
}

/* What no shape tells and some files say.  An empty tensor v_pred says it too. */
static refine_status read_notes(model_config *config, const safetensors *f, refine_error *err)
{
    char note[SAFETENSORS_NOTE];
    const char *predicts = safetensors_note(note, f, "modelspec.prediction_type");

    if (!predicts || strcmp(predicts, "epsilon") == 0)
        return REFINE_OK;
    if (strcmp(predicts, "v") != 0 && strcmp(predicts, "v_prediction") != 0)
        return refine_fail(err, REFINE_EFORMAT,
                           "%s: its modelspec.prediction_type is %s: this program cannot run such "
                           "a model",
                           f->path, predicts);
    config->schedule.prediction = PREDICTS_V;
    return REFINE_OK;
}

static refine_status open_single(checkpoint *c, const char *path, refine_error *err)
{
    const char *vae = c->choices.vae;
    model_config config;

    c->source.kind = "single-file";
    TRY(add_checkpoint_file(c, path, err));
    c->source.title = safetensors_note(c->title, c->file[0], "modelspec.title");
    TRY(recognise_checkpoint(c->file[0], vae != NULL, err));
    TRY(tensor_index_ldm(&c->index, c->file[0], err));
    TRY(tensor_index_seal(&c->index, err));
    TRY(recognise_relative(&c->index, path, err));
    /* The model's own VAE, if it has one, says what shape another has to have. */
    const bool own = tensor_index_has(&c->index, "vae.");
    if (vae && !own)
        TRY(replace_vae(c, &MODEL_REFINER.vae, err));
    TRY(config_from_shapes(&config, &c->index, path, err));
    if (!c->choices.schedule.prediction)
        TRY(read_notes(&config, c->file[0], err));
    schedule_choices_apply(&config.schedule, &c->choices.schedule);
    if (vae && own)
        TRY(replace_vae(c, &config.vae, err));
    TRY(check_variant(c, path, err));
    return bind_entries(c, path, &config, err);
}

static refine_status open_directory(checkpoint *c, const char *path, refine_error *err)
{
    static const char *const PARTS[][3] = {
        { "unet", "diffusion_pytorch_model", "unet." },
        { "vae", VAE_STEM, "vae." },
        { "text_encoder", "model", "text_l." },
        { "text_encoder_2", "model", "text." },
    };
    const char *vae = c->choices.vae;
    model_config config;
    char dir[PATH_BYTES];

    c->source.kind = "diffusers";
    TRY(config_from_diffusers(&config, path, &c->choices.schedule, err));
    for (size_t i = 0; i < sizeof PARTS / sizeof PARTS[0]; i++) {
        const char *prefix = PARTS[i][2];
        if ((config.text_l.layers == 0 && strcmp(prefix, "text_l.") == 0) ||
            (vae && strcmp(prefix, "vae.") == 0))
            continue;
        TRY(join_component_path(dir, path, PARTS[i][0], err));
        TRY(index_component(c, dir, PARTS[i][1], prefix, err));
    }
    if (vae)
        TRY(replace_vae(c, &config.vae, err));
    else
        TRY(tensor_index_seal(&c->index, err));
    TRY(check_variant(c, path, err));
    return bind_entries(c, path, &config, err);
}

/* ---- open and close ---- */

static void checkpoint_close(weight_source *s)
{
    checkpoint *c = (checkpoint *)s;
    weight_list_free(&s->list);
    mem_free(c->bound);
    tensor_index_free(&c->index);
    for (int i = 0; i < c->n_files; i++)
        safetensors_close(c->file[i]);
    mem_free(c);
}

refine_status checkpoint_open(weight_source **out, const char *path,
                              const checkpoint_choices *choices, refine_error *err)
{
    char found[HUB_PATH];
    struct stat s;

    *out = NULL;
    TRY(hub_find_snapshot(found, path, err));
    if (stat(found, &s) != 0)
        return fail_to_open(found, err);
    checkpoint *c = mem_calloc(1, sizeof *c);
    if (!c)
        return refine_fail(err, REFINE_ENOMEM, "out of memory");
    c->source = (weight_source){ .name = keep_name(c->name, path),
                                 .read = checkpoint_read,
                                 .expect = checkpoint_expect,
                                 .close = checkpoint_close };
    if (choices)
        c->choices = *choices;
    const refine_status st = S_ISDIR(s.st_mode) ? open_directory(c, found, err)
                                                : open_single(c, found, err);
    if (st != REFINE_OK) {
        checkpoint_close(&c->source);
        return st;
    }
    *out = &c->source;
    return REFINE_OK;
}
