/* engine/run.c -- weights meet operators: a matrix is a loop over its chunks. */
#include "engine/run.h"

#include "engine/base/num.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

affine_ref run_bind(const model *m, bool bias, const char *fmt, ...)
{
    char prefix[LAYOUT_NAME], name[LAYOUT_NAME + 8];
    affine_ref r = { NO_WEIGHT, NO_WEIGHT };
    va_list ap;

    va_start(ap, fmt);
    const int n = vsnprintf(prefix, sizeof prefix, fmt, ap);
    va_end(ap);
    assert(n > 0 && n < (int)sizeof prefix);
    (void)n;
    snprintf(name, sizeof name, "%s.weight", prefix);
    r.weight = model_weight(m, name);
    if (bias) {
        snprintf(name, sizeof name, "%s.bias", prefix);
        r.bias = model_weight(m, name);
    }
    return r;
}

tensor run_vector(const run *r, wref w)
{
    if (w == NO_WEIGHT)
        return (tensor){ 0 };
    return tensor_make(r->vectors + model_vector_at(r->m, w), DT_F32, 1, 1, 1,
                       r->m->l.entry[w].c_in);
}

/* The part of an epilogue that belongs to rows [row0, row0 + rows) of a matrix. */
static epilogue epilogue_rows(epilogue e, int row0, int rows)
{
    const int half = e.act == ACT_GEGLU ? 2 : 1;
    if (tensor_present(e.bias))
        e.bias = tensor_channels(e.bias, row0, rows);
    if (tensor_present(e.per_image))
        e.per_image = tensor_channels(e.per_image, row0 / half, rows / half);
    if (tensor_present(e.residual))
        e.residual = tensor_channels(e.residual, row0 / half, rows / half);
    return e;
}

static void tick(run *r)
{
    if (r->tick)
        r->tick(r);
}

static const pack_tensor *tensor_of(const run *r, wref w) { return pack_tensor_at(r->m->p, w); }

void run_linear(run *r, tensor y, tensor x, affine_ref w, epilogue e)
{
    const pack_tensor *t = tensor_of(r, w.weight);
    const int half = e.act == ACT_GEGLU ? 2 : 1;

    e.bias = run_vector(r, w.bias);
    for (int c = (int)t->first_chunk; c < (int)(t->first_chunk + t->n_chunks); c++) {
        const pack_chunk *k = pack_chunk_at(r->m->p, c);
        const void *p = r->w->enter(r->w, c);
        const epilogue part = epilogue_rows(e, (int)k->row0, (int)k->rows);
        op_linear(r->d, tensor_channels(y, (int)k->row0 / half, (int)k->rows / half), x,
                  model_rows(r->m, c, p), &part);
        r->w->leave(r->w, c);
        tick(r);
    }
}

tensor run_groupnorm(run *r, tensor a, tensor b, affine_ref norm, int groups, float eps)
{
    tensor affine = scratch_take(&r->mem, DT_F32, a.n, 1, 2, a.c + b.c);
    tensor sums = scratch_take(&r->mem, DT_F32, a.n, band_units(a.h), groups, 4);
    op_groupnorm_sums(r->d, sums, a, b, 0, a.h);
    op_groupnorm(r->d, affine, sums, a.h, a.w, run_vector(r, norm.weight), run_vector(r, norm.bias),
                 eps);
    scratch_give(&r->mem, sums);
    return affine;
}

hold run_hold(run *r, wref w)
{
    const pack_tensor *t = tensor_of(r, w);
    hold h = { .w = w, .first = (int)t->first_chunk, .n = (int)t->n_chunks };
    assert(h.n <= HOLD_MAX);
    for (int i = 0; i < h.n; i++)
        h.p[i] = r->w->enter(r->w, h.first + i);
    return h;
}

void run_release(run *r, const hold *h)
{
    for (int i = 0; i < h->n; i++)
        r->w->leave(r->w, h->first + i);
    tick(r);
}

static conv_geometry geometry(const run *r, wref w, int stride, int pad, int row0, int rows)
{
    const layout_entry *e = &r->m->l.entry[w];
    return (conv_geometry){ e->kh, e->kw, stride, pad, row0, rows };
}

/* What the device prepares may depend on the weights that it will meet. */
static conv_input meeting(const run *r, const conv_input *in, wref w)
{
    conv_input out = *in;
    out.quantised = tensor_of(r, w)->dtype == DT_I8G64;
    return out;
}

static void conv_chunk(run *r, tensor y, const conv_source *src, int chunk, const void *p,
                       conv_geometry g, epilogue e)
{
    const pack_chunk *k = pack_chunk_at(r->m->p, chunk);
    const epilogue part = epilogue_rows(e, (int)k->row0, (int)k->rows);
    op_conv2d(r->d, tensor_channels(y, (int)k->row0, (int)k->rows), src, model_rows(r->m, chunk, p),
              g, &part);
}

void run_conv_band(run *r, tensor y, const conv_input *in, const hold *h, affine_ref w, int stride,
                   int pad, int row0, int rows, epilogue e)
{
    const conv_geometry g = geometry(r, w.weight, stride, pad, row0, rows);
    const conv_input met = meeting(r, in, w.weight);
    const size_t bytes = op_conv_prepare_bytes(r->d, &met, g);
    void *space = bytes ? scratch_bytes(&r->mem, bytes) : NULL;
    const conv_source src = op_conv_prepare(r->d, space, &met, g);

    e.bias = run_vector(r, w.bias);
    for (int i = 0; i < h->n; i++)
        conv_chunk(r, y, &src, h->first + i, h->p[i], g, e);
    scratch_give_bytes(&r->mem, space);
}

void run_conv(run *r, tensor y, const conv_input *in, affine_ref w, int stride, int pad, epilogue e)
{
    const pack_tensor *t = tensor_of(r, w.weight);
    const conv_geometry g = geometry(r, w.weight, stride, pad, 0, y.h);
    const conv_input met = meeting(r, in, w.weight);
    const size_t bytes = op_conv_prepare_bytes(r->d, &met, g);
    void *space = bytes ? scratch_bytes(&r->mem, bytes) : NULL;
    const conv_source src = op_conv_prepare(r->d, space, &met, g);

    e.bias = run_vector(r, w.bias);
    for (int c = (int)t->first_chunk; c < (int)(t->first_chunk + t->n_chunks); c++) {
        const void *p = r->w->enter(r->w, c);
        conv_chunk(r, y, &src, c, p, g, e);
        r->w->leave(r->w, c);
        tick(r);
    }
    scratch_give_bytes(&r->mem, space);
}

void run_tap(run *r, tensor t, const char *fmt, ...)
{
    char name[LAYOUT_NAME];
    va_list ap;
    if (!r->tap)
        return;
    va_start(ap, fmt);
    (void)vsnprintf(name, sizeof name, fmt, ap);
    va_end(ap);
    r->tap(r, name, t);
}

tensor run_rows(tensor t, int row0, int rows)
{
    assert(t.n == 1);
    if (t.data)
        t.data = (char *)t.data +
                 (size_t)row0 * (size_t)t.w * (size_t)t.stride * dtype_bytes(t.type);
    t.h = rows;
    return t;
}
