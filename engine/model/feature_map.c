/* engine/model/feature_map.c -- rows in and out of a window, and a convolution over all bands. */
#include "engine/model/feature_map.h"

#include "engine/base/num.h"
#include "engine/model/model.h"
#include "offload/spill.h"

#include <assert.h>
#include <stdint.h>

static size_t row_bytes(tensor t) { return (size_t)t.w * (size_t)t.stride * dtype_bytes(t.type); }

feature_map feature_map_alloc(forward_ctx *r, int h, int w, int c, int groups, size_t floor)
{
    feature_map p = { .t = tensor_make(NULL, r->vae_act, 1, h, w, c) };
    p.t.exp2 = r->vae_exp2;
    p.spilled = tensor_bytes(p.t) >= r->spill_from;
    if (p.spilled)
        p.at = (size_t)((char *)scratch_bytes(&r->spilled, tensor_bytes(p.t)) - r->spilled.base);
    else
        p.t.data = scratch_bytes_above(&r->mem, floor, tensor_bytes(p.t));
    p.sums = scratch_alloc(&r->mem, DT_F32, 1, band_units(h), groups, 4);
    return p;
}

void feature_map_free(forward_ctx *r, feature_map p)
{
    if (tensor_present(p.sums))
        scratch_free(&r->mem, p.sums);
    if (p.spilled)
        scratch_free_bytes(&r->spilled, r->spilled.base + p.at);
    else
        scratch_free(&r->mem, p.t);
}

feature_map feature_map_of(tensor t) { return (feature_map){ .t = t }; }

feature_map feature_map_narrow(feature_map p, int c)
{
    assert(c <= p.t.c);
    p.t.c = p.t.stride = c;
    return p;
}

void feature_map_trim(forward_ctx *r, const feature_map *wide, const feature_map *narrow)
{
    assert(wide->at == narrow->at && wide->t.data == narrow->t.data);
    if (wide->spilled)
        scratch_trim(&r->spilled, r->spilled.base + wide->at, tensor_bytes(narrow->t));
    else
        scratch_trim(&r->mem, wide->t.data, tensor_bytes(narrow->t));
}

void *feature_map_window(forward_ctx *r, const feature_map *p, int rows)
{
    const int most = rows < p->t.h ? rows : p->t.h;
    return p->spilled ? scratch_bytes(&r->mem, (size_t)most * row_bytes(p->t)) : NULL;
}

/* Row `row0` of the view is the window's first: the address of row 0 is never used. */
tensor feature_map_view(const feature_map *p, void *window, int row0)
{
    tensor v = p->t;
    if (p->spilled)
        v.data = (void *)((uintptr_t)window - (size_t)row0 * row_bytes(v));
    return v;
}

/* Where a row of a view is, and where in the spill. */
static void *row_of(tensor view, int row) { return tensor_row_band(view, row, 1).data; }
static size_t row_offset_of(const feature_map *p, int row)
{
    return p->at + (size_t)row * row_bytes(p->t);
}

tensor feature_map_load(forward_ctx *r, const feature_map *p, void *window, int row0, int rows)
{
    const tensor v = feature_map_view(p, window, row0);
    if (p->spilled && r->spill)
        spill_load(r->spill, row_of(v, row0), row_offset_of(p, row0),
                   (size_t)rows * row_bytes(p->t));
    return v;
}

void feature_map_store(forward_ctx *r, feature_map *p, tensor view, int row0, int rows)
{
    if (tensor_present(p->sums))
        op_groupnorm_sums(r->d, p->sums, view, (tensor){ 0 }, row0, rows);
    if (p->spilled && r->spill)
        spill_store(r->spill, row_offset_of(p, row0), row_of(view, row0),
                    (size_t)rows * row_bytes(p->t));
}

tensor feature_map_affine(forward_ctx *r, const feature_map *p, affine_ref norm, float eps)
{
    tensor affine = scratch_alloc(&r->mem, DT_F32, 1, 1, 2, p->t.c);
    op_groupnorm(r->d, affine, p->sums, p->t.h, p->t.w, forward_vector(r, norm.weight),
                 forward_vector(r, norm.bias), eps);
    return affine;
}

void feature_map_conv(forward_ctx *r, feature_map *y, const feature_map *x, matrix_input in,
                      affine_ref w, int stride, int pad)
{
    const int kh = model_entry(r->m, w.weight)->kh, band = r->band_rows;
    const hold h = hold_acquire(r, w.weight);
    conv_geometry g = { .kh = kh, .kw = kh, .stride = stride, .pad = pad, .rows = band };

    in.a = x->t;
    conv_rows read = conv_rows_read(&in, g);
    void *from = feature_map_window(r, x, read.end - read.first + kh);
    void *to = feature_map_window(r, y, band);
    for (g.row0 = 0; g.row0 < y->t.h; g.row0 += band) {
        g.rows = (int)num_min((size_t)band, (size_t)(y->t.h - g.row0));
        read = conv_rows_read(&in, g);
        in.a = feature_map_load(r, x, from, read.first, read.end - read.first);
        const tensor v = feature_map_view(y, to, g.row0);
        forward_conv_band(r, v, &in, &h, w, stride, pad, g.row0, g.rows, (epilogue){ 0 });
        feature_map_store(r, y, v, g.row0, g.rows);
    }
    scratch_free_bytes(&r->mem, to);
    scratch_free_bytes(&r->mem, from);
    hold_release(r, &h);
}
