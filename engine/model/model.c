/* engine/model/model.c -- declares the whole model and checks a pack against its list. */
#include "engine/model/model.h"

#include "engine/base/mem.h"
#include "engine/base/num.h"
#include "engine/base/try.h"
#include "offload/codec.h"

#include <assert.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Static_assert((int)SEG_VECTORS == PACK_SEGMENT_VECTORS && (int)SEG_TOKENS == PACK_SEGMENT_TOKENS &&
                   (int)N_SEGMENTS <= PACK_SEGMENTS,
               "a pack's special segments are the model's");

/* The walk over the model, in the order of a run. */
static refine_status declare_model(model *m, const model_config *config)
{
    m->unet = mem_calloc(1, sizeof *m->unet);
    if (!m->unet)
        return REFINE_ENOMEM;
    weight_builder b = weight_list_begin(&m->l, config);
    const model_config *c = &m->l.config;

    if (c->text_l.layers)
        text_declare(&b, &m->text_l, "text_l", &c->text_l);
    text_declare(&b, &m->text, "text", &c->text);
    vae_declare_encoder(&b, &m->vae, &c->vae);
    unet_declare(&b, m->unet, &c->unet);
    vae_declare_decoder(&b, &m->vae, &c->vae);
    return weight_list_end(&b);
}

refine_status weight_list_build(weight_list *out, const model_config *c)
{
    *out = (weight_list){ 0 };
    model *m = mem_calloc(1, sizeof *m); /* too large for the stack */
    if (!m)
        return REFINE_ENOMEM;
    const refine_status st = declare_model(m, c);
    *out = m->l;
    mem_free(m->unet);
    mem_free(m);
    return st;
}

static refine_status read_config(model *m, model_config *c, refine_error *err)
{
    size_t len;
    const char *meta = pack_meta(m->p, &len);
    json_error_t at;
    json_t *root = json_loadb(meta, len, 0, &at);
    json_t *name = json_object_get(json_object_get(root, "source"), "name");
    char *text = json_dumps(json_object_get(root, "model"), 0);
    refine_status st;

    if (text)
        st = model_config_parse(c, text, strlen(text), err);
    else
        st = refine_fail(err, REFINE_EFORMAT, "%s: its meta data holds no model configuration",
                         pack_path(m->p));
    if (json_is_string(name))
        snprintf(m->source_name, sizeof m->source_name, "%s", json_string_value(name));
    free(text);
    json_decref(root);
    return st;
}

/* Any matrix may be int8, whatever packer chose it, but not the table that is read by row. */
static bool right_type(segment seg, uint32_t type)
{
    if (seg == SEG_VECTORS)
        return type == DT_F32;
    return type == DT_F16 || (type == DT_I8G64 && seg != SEG_TOKENS);
}

static bool is_same_weight(const weight_entry *e, const pack_tensor *t, const char *name)
{
    return strcmp(e->name, name) == 0 && t->segment == (uint32_t)e->seg &&
           right_type(e->seg, t->dtype) && t->rows == (uint32_t)e->rows &&
           t->kh == (uint32_t)e->kh && t->kw == (uint32_t)e->kw && t->c_in == (uint32_t)e->c_in;
}

static refine_status compare_with_list(const model *m, refine_error *err)
{
    if (n_pack_tensors(m->p) != m->l.n)
        return refine_fail(err, REFINE_EFORMAT,
                           "%s: holds %d weights where its configuration needs %d; pack it again",
                           pack_path(m->p), n_pack_tensors(m->p), m->l.n);
    for (int i = 0; i < m->l.n; i++)
        if (!is_same_weight(&m->l.entry[i], pack_tensor_at(m->p, i), pack_tensor_name(m->p, i)))
            return refine_fail(err, REFINE_EFORMAT,
                               "%s: weight %d is '%s' where '%s' is expected, or of another shape; "
                               "pack it again",
                               pack_path(m->p), i, pack_tensor_name(m->p, i), m->l.entry[i].name);
    return REFINE_OK;
}

/* The number types are int8 or not, of each weight; the source's hash is the same for both. */
static refine_status hash_model(model *m, const model_config *c)
{
    const pack_superblock *s = pack_super(m->p);
    char *text = model_config_dump(c);
    uint32_t *types = mem_calloc((size_t)m->l.n, sizeof *types);
    const bool whole = text && types;

    if (whole) {
        for (int i = 0; i < m->l.n; i++)
            types[i] = pack_tensor_at(m->p, i)->dtype;
        const uint64_t parts[] = { s->source_hash, s->tokenizer_hash,
                                   codec_hash(text, strlen(text)),
                                   codec_hash(types, (size_t)m->l.n * sizeof *types) };
        m->hash = codec_hash(parts, sizeof parts);
    }
    mem_free(types);
    mem_free(text);
    return whole ? REFINE_OK : REFINE_ENOMEM;
}

refine_status model_open(model *out, const char *path, refine_error *err)
{
    refine_status st;
    model_config c;
    int first, end;

    memset(out, 0, sizeof *out);
    TRY(pack_open(&out->p, path, err));
    TRY_OR(fail, read_config(out, &c, err));
    st = declare_model(out, &c);
    if (st != REFINE_OK) {
        refine_fail(err, st, "%s: out of memory", path);
        goto fail;
    }
    TRY_OR(fail, compare_with_list(out, err));
    st = hash_model(out, &c);
    if (st != REFINE_OK) {
        refine_fail(err, st, "%s: out of memory", path);
        goto fail;
    }
    pack_segment(out->p, SEG_VECTORS, &first, &end);
    for (int i = first; i < end; i++)
        out->vector_bytes += num_align(pack_chunk_at(out->p, i)->bytes, PACK_VECTOR_ALIGN);
    return REFINE_OK;

fail:
    model_close(out);
    return st;
}

void model_close(model *m)
{
    weight_list_free(&m->l);
    mem_free(m->unet);
    pack_close(m->p);
    memset(m, 0, sizeof *m);
}

const weight_entry *model_entry(const model *m, wref w)
{
    return &m->l.entry[weight_index(&m->l, w)];
}

const pack_tensor *model_tensor(const model *m, wref w)
{
    return pack_tensor_at(m->p, weight_index(&m->l, w));
}

size_t model_vector_at(const model *m, wref w)
{
    const pack_tensor *t = model_tensor(m, w);
    size_t at = 0;
    int first, end;

    assert(model_entry(m, w)->seg == SEG_VECTORS);
    pack_segment(m->p, SEG_VECTORS, &first, &end);
    for (int i = first; i < (int)t->first_chunk; i++)
        at += num_align(pack_chunk_at(m->p, i)->bytes, PACK_VECTOR_ALIGN);
    return at + t->at;
}

bool model_quantised(const model *m)
{
    for (int i = 0; i < m->l.n; i++)
        if (pack_tensor_at(m->p, i)->dtype == DT_I8G64)
            return true;
    return false;
}

tensor model_rows(const model *m, int chunk, const void *p)
{
    const pack_chunk *c = pack_chunk_at(m->p, chunk);
    const pack_tensor *t = pack_tensor_at(m->p, (int)c->tensor);
    return tensor_make((void *)(uintptr_t)p, (dtype)t->dtype, (int)c->rows, (int)t->kh, (int)t->kw,
                       (int)t->c_in);
}
