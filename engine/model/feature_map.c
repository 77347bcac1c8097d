/* engine/model/feature_map.c -- rows in and out of a window, and a convolution over all bands. */
#include "engine/model/feature_map.h"

#include "engine/base/num.h"
#include "offload/spill.h"

#include <assert.h>
#include <stdint.h>

static size_t row_bytes(tensor t) { return (size_t)t.w * (size_t)t.stride * dtype_bytes(t.type); }

picture picture_take(run *r, int h, int w, int c, int groups, size_t floor)
{
    picture p = { .t = tensor_make(NULL, r->vae_act, 1, h, w, c) };
    p.t.exp2 = r->vae_exp2;
    p.spilled = tensor_bytes(p.t) >= r->spill_from;
    if (p.spilled)
        p.at = (size_t)((char *)scratch_bytes(&r->spilled, tensor_bytes(p.t)) - r->spilled.base);
    else
        p.t.data = scratch_bytes_above(&r->mem, floor, tensor_bytes(p.t));
    p.sums = scratch_take(&r->mem, DT_F32, 1, band_units(h), groups, 4);
    return p;
}

void picture_give(run *r, picture p)
{
    if (tensor_present(p.sums))
        scratch_give(&r->mem, p.sums);
    if (p.spilled)
        scratch_give_bytes(&r->spilled, r->spilled.base + p.at);
    else
        scratch_give(&r->mem, p.t);
}

picture picture_of(tensor t) { return (picture){ .t = t }; }

picture picture_narrow(picture p, int c)
{
    assert(c <= p.t.c);
    p.t.c = p.t.stride = c;
    return p;
}

void picture_trim(run *r, const picture *wide, const picture *narrow)
{
    assert(wide->at == narrow->at && wide->t.data == narrow->t.data);
    if (wide->spilled)
        scratch_trim(&r->spilled, r->spilled.base + wide->at, tensor_bytes(narrow->t));
    else
        scratch_trim(&r->mem, wide->t.data, tensor_bytes(narrow->t));
}

void *picture_window(run *r, const picture *p, int rows)
{
    const int most = rows < p->t.h ? rows : p->t.h;
    return p->spilled ? scratch_bytes(&r->mem, (size_t)most * row_bytes(p->t)) : NULL;
}

/* Row `row0` of the view is the window's first: the address of row 0 is never used. */
tensor picture_view(const picture *p, void *window, int row0)
{
    tensor v = p->t;
    if (p->spilled)
        v.data = (void *)((uintptr_t)window - (size_t)row0 * row_bytes(v));
    return v;
}

/* Where a row of a view is, and where in the spill. */
static void *row_of(tensor view, int row) { return run_rows(view, row, 1).data; }
static size_t picture_row_offset(const picture *p, int row)
{
    return p->at + (size_t)row * row_bytes(p->t);
}

tensor picture_load(run *r, const picture *p, void *window, int row0, int rows)
{
    const tensor v = picture_view(p, window, row0);
    if (p->spilled && r->spill)
        spill_load(r->spill, row_of(v, row0), picture_row_offset(p, row0),
                   (size_t)rows * row_bytes(p->t));
    return v;
}

void picture_store(run *r, picture *p, tensor view, int row0, int rows)
{
    if (tensor_present(p->sums))
        op_groupnorm_sums(r->d, p->sums, view, (tensor){ 0 }, row0, rows);
    if (p->spilled && r->spill)
        spill_store(r->spill, picture_row_offset(p, row0), row_of(view, row0),
                    (size_t)rows * row_bytes(p->t));
}

tensor picture_affine(run *r, const picture *p, affine_ref norm, float eps)
{
    tensor affine = scratch_take(&r->mem, DT_F32, 1, 1, 2, p->t.c);
    op_groupnorm(r->d, affine, p->sums, p->t.h, p->t.w, run_vector(r, norm.weight),
                 run_vector(r, norm.bias), eps);
    return affine;
}

void picture_rows_read(const matrix_input *in, int kh, int stride, int pad, int row0, int rows,
                       int *first, int *end)
{
    int low = row0 * stride - pad, high = (row0 + rows - 1) * stride - pad + kh;
    low = low > 0 ? low : 0;
    high = high < in->h ? high : in->h;
    *first = (int)((int64_t)low * in->a.h / in->h);
    *end = (int)((int64_t)(high - 1) * in->a.h / in->h) + 1;
}

void picture_conv(run *r, picture *y, const picture *x, matrix_input in, affine_ref w, int stride,
                  int pad)
{
    const int kh = r->m->l.entry[w.weight].kh, band = r->band_rows;
    const hold h = run_hold(r, w.weight);
    int first, end;

    in.a = x->t;
    picture_rows_read(&in, kh, stride, pad, 0, band, &first, &end);
    void *from = picture_window(r, x, end - first + kh);
    void *to = picture_window(r, y, band);
    for (int row = 0; row < y->t.h; row += band) {
        const int rows = (int)num_min((size_t)band, (size_t)(y->t.h - row));
        picture_rows_read(&in, kh, stride, pad, row, rows, &first, &end);
        in.a = picture_load(r, x, from, first, end - first);
        const tensor v = picture_view(y, to, row);
        run_conv_band(r, v, &in, &h, w, stride, pad, row, rows, (epilogue){ 0 });
        picture_store(r, y, v, row, rows);
    }
    scratch_give_bytes(&r->mem, to);
    scratch_give_bytes(&r->mem, from);
    run_release(r, &h);
}
