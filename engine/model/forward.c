/* engine/model/forward.c -- weights meet operators: a matrix is a loop over its chunks. */
#include "engine/model/forward.h"

#include "engine/base/num.h"
#include "engine/model/model.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

tensor forward_vector(const forward_ctx *r, wref w)
{
    if (!weight_present(w))
        return (tensor){ 0 };
    return tensor_make(r->vectors + model_vector_at(r->m, w), DT_F32, 1, 1, 1,
                       model_entry(r->m, w)->c_in);
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

static void report_chunk_done(forward_ctx *r)
{
    if (r->chunk_done)
        r->chunk_done(r);
}

tensor forward_groupnorm(forward_ctx *r, tensor a, tensor b, affine_ref norm, int groups, float eps)
{
    tensor affine = scratch_alloc(&r->mem, DT_F32, a.n, 1, 2, a.c + b.c);
    tensor sums = scratch_alloc(&r->mem, DT_F32, a.n, band_units(a.h), groups, 4);
    op_groupnorm_sums(r->d, sums, a, b, 0, a.h);
    op_groupnorm(r->d, affine, sums, a.h, a.w, forward_vector(r, norm.weight),
                 forward_vector(r, norm.bias), eps);
    scratch_free(&r->mem, sums);
    return affine;
}

hold hold_acquire(forward_ctx *r, wref w)
{
    const pack_tensor *t = model_tensor(r->m, w);
    hold h = { .w = w, .first = (int)t->first_chunk, .n = (int)t->n_chunks };
    assert(h.n <= HOLD_MAX);
    for (int i = 0; i < h.n; i++)
        h.p[i] = r->w->acquire(r->w, h.first + i);
    return h;
}

void hold_release(forward_ctx *r, const hold *h)
{
    for (int i = 0; i < h->n; i++)
        r->w->release(r->w, h->first + i);
    report_chunk_done(r);
}

static conv_geometry conv_geometry_of(const forward_ctx *r, wref w, int stride, int pad, int row0,
                                      int rows)
{
    const weight_entry *e = model_entry(r->m, w);
    return (conv_geometry){ e->kh, e->kw, stride, pad, row0, rows };
}

/* A matrix and what it meets; `space` is where the input lies that has been prepared for it. */
typedef struct product {
    bool linear;
    tensor y;
    conv_geometry g;
    epilogue e;
    void *space;
    prepared_input x;
} product;

/* Bytes of the prepared input; where a device would normalise while it reads, `in` is told to be
 * written out if there is room. */
static size_t prepared_input_bytes(forward_ctx *r, matrix_input *in, conv_geometry g)
{
    const size_t needed = op_prepare_bytes(r->d, in, g);
    if (needed || !tensor_present(in->affine))
        return needed;
    matrix_input out = *in;
    out.detach = true;
    const size_t bytes = op_prepare_bytes(r->d, &out, g);
    if (!scratch_fits(&r->mem, bytes, r->norms_within))
        return 0;
    *in = out;
    return bytes;
}

static void begin_product(forward_ctx *r, product *p, affine_ref w, matrix_input in)
{
    in.quantised = model_tensor(r->m, w.weight)->dtype == DT_I8G64;
    const size_t bytes = prepared_input_bytes(r, &in, p->g);
    p->space = bytes ? scratch_bytes(&r->mem, bytes) : NULL;
    p->x = op_prepare(r->d, p->space, &in, p->g);
    p->e.bias = forward_vector(r, w.bias);
}

static void end_product(forward_ctx *r, const product *p) { scratch_free_bytes(&r->mem, p->space); }

/* The rows of chunks [first, end); at: where their weights are on the device. */
static matrix_rows chunk_matrix_rows(const forward_ctx *r, int first, int end,
                                     const void *const *at)
{
    const uint32_t row0 = pack_chunk_at(r->m->p, first)->row0;
    matrix_rows w = one_block(model_rows(r->m, first, at[0]));
    for (int i = 1; first + i < end; i++) {
        const pack_chunk *k = pack_chunk_at(r->m->p, first + i);
        w.all.n += (int)k->rows;
        w.row0[i] = (int)(k->row0 - row0);
        w.data[i] = at[i];
        w.blocks++;
    }
    return w;
}

static void multiply_chunks(forward_ctx *r, const product *p, int first, int end,
                            const void *const *at)
{
    const matrix_rows w = chunk_matrix_rows(r, first, end, at);
    const int half = p->e.act == ACT_GEGLU ? 2 : 1;
    const int row0 = (int)pack_chunk_at(r->m->p, first)->row0, rows = w.all.n;
    const epilogue e = epilogue_rows(p->e, row0, rows);
    const tensor y = tensor_channels(p->y, row0 / half, rows / half);
    if (p->linear)
        op_linear(r->d, y, &p->x, &w, &e);
    else
        op_conv2d(r->d, y, &p->x, &w, p->g, &e);
}

static void forward_product(forward_ctx *r, product *p, affine_ref w, matrix_input in)
{
    const pack_tensor *t = model_tensor(r->m, w.weight);
    begin_product(r, p, w, in);
    for (int c = (int)t->first_chunk, end; c < (int)(t->first_chunk + t->n_chunks); c = end) {
        const void *at[MATRIX_BLOCKS_MAX];
        end = pack_group_end(r->m->p, c, r->together);
        for (int i = c; i < end; i++)
            at[i - c] = r->w->acquire(r->w, i);
        multiply_chunks(r, p, c, end, at);
        for (int i = c; i < end; i++) {
            r->w->release(r->w, i);
            report_chunk_done(r);
        }
    }
    end_product(r, p);
}

void forward_linear(forward_ctx *r, tensor y, tensor x, affine_ref w, epilogue e)
{
    product p = { .linear = true, .y = y, .g = linear_geometry(x), .e = e };
    forward_product(r, &p, w, linear_input(x, false));
}

void forward_conv(forward_ctx *r, tensor y, const matrix_input *in, affine_ref w, int stride,
                  int pad, epilogue e)
{
    product p = { .y = y, .g = conv_geometry_of(r, w.weight, stride, pad, 0, y.h), .e = e };
    forward_product(r, &p, w, *in);
}

void forward_conv_band(forward_ctx *r, tensor y, const matrix_input *in, const hold *h,
                       affine_ref w, int stride, int pad, int row0, int rows, epilogue e)
{
    product p = { .y = y, .g = conv_geometry_of(r, w.weight, stride, pad, row0, rows), .e = e };
    begin_product(r, &p, w, *in);
    for (int c = h->first, end; c < h->first + h->n; c = end) {
        end = pack_group_end(r->m->p, c, dev_max_blocks(r->d));
        multiply_chunks(r, &p, c, end, h->p + (c - h->first));
    }
    end_product(r, &p);
}

void forward_report(forward_ctx *r, tensor t, const char *fmt, ...)
{
    char name[WEIGHT_NAME];
    va_list ap;
    if (!r->layer_output)
        return;
    va_start(ap, fmt);
    (void)vsnprintf(name, sizeof name, fmt, ap);
    va_end(ap);
    r->layer_output(r, name, t);
}

tensor tensor_row_band(tensor t, int row0, int rows)
{
    assert(t.n == 1);
    if (t.data)
        t.data = (char *)t.data +
                 (size_t)row0 * (size_t)t.w * (size_t)t.stride * dtype_bytes(t.type);
    t.h = rows;
    return t;
}
