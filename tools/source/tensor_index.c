/* tools/source/tensor_index.c -- canonical names, whatever the file calls its tensors. */
#include "tools/source/tensor_index.h"

#include "engine/base/mem.h"
#include "engine/base/try.h"
#include "tools/source/ldm_names.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static refine_status append_part(tensor_index *ix, const tensor_part *part, refine_error *err)
{
    tensor_part *grown = mem_grow(ix->part, (size_t)ix->n, &ix->room, sizeof *grown);
    if (!grown)
        return refine_fail(err, REFINE_ENOMEM, "out of memory");
    ix->part = grown;
    ix->part[ix->n++] = *part;
    return REFINE_OK;
}

refine_status tensor_part_check_type(const tensor_part *p, refine_error *err)
{
    switch (p->tensor->type) {
    case ST_F16:
    case ST_BF16:
    case ST_F32:
    case ST_F64:
    case ST_F8_E4M3:
    case ST_F8_E5M2: return REFINE_OK;
    default:
        return refine_fail(err, REFINE_EFORMAT,
                           "%s: %s is %s; get a checkpoint in F16, BF16 or F32", p->file->path,
                           p->tensor->name, p->tensor->dtype);
    }
}

/* Tensors of more than four dimensions are no weights of ours. */
static bool part_of_tensor(tensor_part *p, const safetensors *f, const safetensor *t)
{
    *p = (tensor_part){ .file = f, .tensor = t, .n_dims = t->n_dims, .elements = t->elements };
    if (t->n_dims > PART_DIMS)
        return false;
    memcpy(p->dim, t->dim, sizeof p->dim);
    return true;
}

/* ---- the single file ---- */

static refine_status add_thirds(tensor_index *ix, const tensor_part *all, const ldm_name *n,
                                refine_error *err)
{
    if (all->n_dims < 1 || all->dim[0] % 3)
        return refine_fail(err, REFINE_EFORMAT, "%s: %s: its rows are no query, key and value",
                           all->file->path, all->tensor->name);
    tensor_part p = *all;
    p.dim[0] /= 3;
    p.elements /= 3;
    for (int i = 0; i < 3; i++) {
        memcpy(p.name, n->name[i], sizeof p.name);
        p.skip = (uint64_t)i * p.elements;
        TRY(append_part(ix, &p, err));
    }
    return REFINE_OK;
}

static refine_status add_ldm(tensor_index *ix, const safetensors *f, const safetensor *t,
                             const ldm_name *n, refine_error *err)
{
    tensor_part p;
    if (!part_of_tensor(&p, f, t))
        return REFINE_OK;
    if (n->view == LDM_THIRDS)
        return add_thirds(ix, &p, n, err);
    memcpy(p.name, n->name[0], sizeof p.name);
    if (n->view == LDM_TRANSPOSED) {
        if (p.n_dims != 2)
            return refine_fail(err, REFINE_EFORMAT, "%s: %s: is no matrix", f->path, t->name);
        p.dim[0] = t->dim[1];
        p.dim[1] = t->dim[0];
        p.transposed = true;
    }
    return append_part(ix, &p, err);
}

static const char VAE[] = "first_stage_model.";

/* Levels of the VAE whose tensors' names begin with `prefix`: counted. */
static int count_vae_levels(const safetensors *f, const char *prefix)
{
    char name[WEIGHT_NAME];
    int levels = 0;

    while (levels < LEVELS_MAX) {
        (void)snprintf(name, sizeof name, "%sencoder.down.%d.block.0.conv1.weight", prefix, levels);
        if (!safetensors_find(f, name))
            break;
        levels++;
    }
    return levels;
}

/* Resnets per level: the first downsampler's number less one. */
static ldm_shape shape_of(const safetensors *f)
{
    char name[WEIGHT_NAME];
    ldm_shape s = { 1, count_vae_levels(f, VAE) };

    for (int i = 1; i < 64; i++) {
        (void)snprintf(name, sizeof name, "model.diffusion_model.input_blocks.%d.0.op.weight", i);
        if (safetensors_find(f, name)) {
            s.unet_resnets = i - 1;
            break;
        }
    }
    return s;
}

refine_status tensor_index_ldm(tensor_index *ix, const safetensors *f, refine_error *err)
{
    const ldm_shape shape = shape_of(f);
    ldm_name name;

    for (int i = 0; i < f->n; i++)
        if (ldm_translate(&name, f->tensor[i].name, &shape))
            TRY(add_ldm(ix, f, &f->tensor[i], &name, err));
    return REFINE_OK;
}

/* ---- diffusers ---- */

/* Attention of old VAE files. */
static const char *const OLD_NAMES[][2] = {
    { ".query.", ".to_q." },
    { ".key.", ".to_k." },
    { ".value.", ".to_v." },
    { ".proj_attn.", ".to_out.0." },
};

static int format_canonical_name(char out[WEIGHT_NAME], const char *prefix, const char *name)
{
    for (size_t i = 0; i < sizeof OLD_NAMES / sizeof OLD_NAMES[0]; i++) {
        const char *at = strstr(name, OLD_NAMES[i][0]);
        if (at && strcmp(prefix, "vae.") == 0)
            return snprintf(out, WEIGHT_NAME, "%s%.*s%s%s", prefix, (int)(at - name), name,
                            OLD_NAMES[i][1], at + strlen(OLD_NAMES[i][0]));
    }
    /* Newer transformers leave "text_model." out. */
    const bool bare = strncmp(prefix, "text", 4) == 0 && strncmp(name, "text_", 5) != 0;
    return snprintf(out, WEIGHT_NAME, "%s%s%s", prefix, bare ? "text_model." : "", name);
}

refine_status tensor_index_diffusers(tensor_index *ix, const safetensors *f, const char *prefix,
                                     refine_error *err)
{
    tensor_part p;
    for (int i = 0; i < f->n; i++) {
        const safetensor *t = &f->tensor[i];
        if (!part_of_tensor(&p, f, t) ||
            format_canonical_name(p.name, prefix, t->name) >= WEIGHT_NAME)
            continue;
        TRY(append_part(ix, &p, err));
    }
    return REFINE_OK;
}

/* ---- a VAE alone ---- */

/* Of a checkpoint its VAE; in a file of its own the single file's names lack their prefix. */
refine_status tensor_index_vae(tensor_index *ix, const safetensors *f, refine_error *err)
{
    const bool bare = count_vae_levels(f, "") > 0;
    const ldm_shape shape = { 1, count_vae_levels(f, bare ? "" : VAE) };
    char full[WEIGHT_NAME];
    ldm_name name;

    if (shape.vae_levels == 0)
        return tensor_index_diffusers(ix, f, "vae.", err);
    for (int i = 0; i < f->n; i++)
        if (snprintf(full, sizeof full, "%s%s", bare ? VAE : "", f->tensor[i].name) < WEIGHT_NAME &&
            strncmp(full, VAE, strlen(VAE)) == 0 && ldm_translate(&name, full, &shape))
            TRY(add_ldm(ix, f, &f->tensor[i], &name, err));
    return REFINE_OK;
}

/* ---- */

static int compare_part_names(const void *a, const void *b)
{
    return strcmp(((const tensor_part *)a)->name, ((const tensor_part *)b)->name);
}

refine_status tensor_index_seal(tensor_index *ix, refine_error *err)
{
    if (ix->n)
        qsort(ix->part, (size_t)ix->n, sizeof *ix->part, compare_part_names);
    for (int i = 1; i < ix->n; i++)
        if (compare_part_names(&ix->part[i - 1], &ix->part[i]) == 0)
            return refine_fail(err, REFINE_EFORMAT, "%s: %s is there twice, as %.100s and %.100s",
                               ix->part[i].file->path, ix->part[i].name,
                               ix->part[i - 1].tensor->name, ix->part[i].tensor->name);
    return REFINE_OK;
}

static bool part_begins(const tensor_part *p, const char *prefix)
{
    return strncmp(p->name, prefix, strlen(prefix)) == 0;
}

bool tensor_index_has(const tensor_index *ix, const char *prefix)
{
    for (int i = 0; i < ix->n; i++)
        if (part_begins(&ix->part[i], prefix))
            return true;
    return false;
}

void tensor_index_drop(tensor_index *ix, const char *prefix)
{
    int kept = 0;
    for (int i = 0; i < ix->n; i++)
        if (!part_begins(&ix->part[i], prefix))
            ix->part[kept++] = ix->part[i];
    ix->n = kept;
}

void tensor_index_free(tensor_index *ix)
{
    mem_free(ix->part);
    *ix = (tensor_index){ 0 };
}

const tensor_part *tensor_index_find(const tensor_index *ix, const char *name)
{
    int low = 0, high = ix->n;
    while (low < high) {
        const int mid = low + (high - low) / 2, order = strcmp(name, ix->part[mid].name);
        if (order == 0)
            return &ix->part[mid];
        if (order < 0)
            high = mid;
        else
            low = mid + 1;
    }
    return NULL;
}
