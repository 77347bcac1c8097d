/* kernels/ops.c -- the checked front door to every operator.
 *
 * A wrong shape is our bug, so it asserts.  A failed device is the world's, so it is
 * sticky and the operator does nothing.  Backends may therefore assume valid shapes and a
 * live device.
 */
#include "kernels/backend.h"

#include <assert.h>

static bool is_live_device(const dev *d) { return dev_status(d) == REFINE_OK; }

/* Whether an operator of this kind is to be enqueued: then whoever listens has been told. */
static bool begin_operator(dev *d, dev_kind kind)
{
    if (!is_live_device(d))
        return false;
    if (d->told && d->kind != kind)
        d->told(d->told_context, kind);
    d->kind = kind;
    return true;
}

static bool is_tensor(tensor t)
{
    return t.n > 0 && t.h > 0 && t.w > 0 && t.c > 0 && t.stride >= t.c;
}

static bool is_activation(tensor t) { return is_tensor(t) && t.type != DT_I8G64; }

static bool has_same_pixels(tensor a, tensor b) { return a.n == b.n && a.h == b.h && a.w == b.w; }
static bool has_same_shape(tensor a, tensor b) { return has_same_pixels(a, b) && a.c == b.c; }

static bool is_vector(tensor t, int c)
{
    return is_tensor(t) && t.type == DT_F32 && t.n == 1 && t.h == 1 && t.w == 1 && t.c == c;
}

static bool is_matrix(tensor w, int kh, int kw, int c)
{
    return is_tensor(w) && w.h == kh && w.w == kw && w.c == c && w.stride == c;
}

/* Does e fit a product of `rows` output channels that is stored in y? */
static bool fits_epilogue(const epilogue *e, tensor y, int rows)
{
    const int half = e->act == ACT_GEGLU ? 2 : 1;
    if (rows != y.c * half)
        return false;
    if (tensor_present(e->bias) && !is_vector(e->bias, rows))
        return false;
    if (tensor_present(e->per_image) &&
        !(half == 1 && e->per_image.type == DT_F32 && e->per_image.n == y.n &&
          tensor_pixels(e->per_image) == 1 && e->per_image.c == y.c))
        return false;
    return !tensor_present(e->residual) ||
           (is_activation(e->residual) && has_same_shape(e->residual, y));
}

/* [a | b] with a plain or absent b. */
static bool is_pair(tensor a, tensor b)
{
    return is_activation(a) && (!tensor_present(b) || (is_activation(b) && has_same_pixels(a, b)));
}

static bool is_affine(tensor affine, tensor a, tensor b)
{
    return is_tensor(affine) && affine.type == DT_F32 && affine.n == a.n && affine.h == 1 &&
           affine.w == 2 && affine.c == a.c + b.c && affine.stride == affine.c;
}

static bool is_sums(tensor t)
{
    return is_tensor(t) && t.type == DT_F32 && t.c == 4 && t.stride == 4;
}

/* Whole units, or up to the end of the image. */
static bool is_band(int row0, int rows, int h)
{
    return row0 >= 0 && rows > 0 && row0 % BAND_UNIT == 0 && row0 <= h - rows &&
           (rows % BAND_UNIT == 0 || row0 + rows == h);
}

void op_groupnorm_sums(dev *d, tensor sums, tensor a, tensor b, int row0, int rows)
{
    assert(is_pair(a, b) && is_sums(sums) && sums.n == a.n && sums.h == band_units(a.h));
    assert((a.c + b.c) % sums.w == 0 && is_band(row0, rows, a.h));
    if (begin_operator(d, DEV_MEMORY))
        d->ops->groupnorm_sums(d, sums, a, b, row0, rows);
}

void op_groupnorm(dev *d, tensor affine, tensor sums, int h, int w, tensor gain, tensor bias,
                  float eps)
{
    const int c = affine.c;
    assert(is_sums(sums) && sums.h == band_units(h) && is_tensor(affine) && affine.type == DT_F32 &&
           affine.n == sums.n);
    assert(affine.h == 1 && affine.w == 2 && affine.stride == c && c % sums.w == 0 && w > 0);
    assert(is_vector(gain, c) && is_vector(bias, c));
    if (begin_operator(d, DEV_MEMORY))
        d->ops->groupnorm(d, affine, sums, h, w, gain, bias, eps);
}

void op_apply_norm(dev *d, tensor y, tensor a, tensor b, tensor affine, act f)
{
    assert(is_pair(a, b) && is_affine(affine, a, b) && is_activation(y));
    assert(has_same_pixels(y, a) && y.c == a.c + b.c && f != ACT_GEGLU);
    if (begin_operator(d, DEV_MEMORY))
        d->ops->apply_norm(d, y, a, b, affine, f);
}

static bool is_matrix_input(const matrix_input *in)
{
    return is_pair(in->a, in->b) && in->h > 0 && in->w > 0 &&
           (!tensor_present(in->affine) || is_affine(in->affine, in->a, in->b));
}

static bool is_geometry(conv_geometry g)
{
    const bool kernel = (g.kh == 3 && g.kw == 3) || (g.kh == 1 && g.kw == 1);
    const bool strides = g.stride == 1 || (g.stride == 2 && g.kh == 3);
    return kernel && strides && g.pad >= 0 && g.pad <= g.kh / 2 && g.row0 >= 0 && g.rows > 0 &&
           g.row0 % BAND_UNIT == 0;
}

/* Rows (or columns) of the output for `in` rows of the input.  Stride 1 keeps the size;
 * stride 2 reads at most one row past the end. */
static int output_size(conv_geometry g, int in)
{
    if (g.stride == 1)
        return in + 2 * g.pad - g.kh + 1;
    return g.pad ? (in + 1) / 2 : in / 2;
}

size_t op_prepare_bytes(dev *d, const matrix_input *in, conv_geometry g)
{
    assert(is_matrix_input(in) && is_geometry(g));
    return d->ops->prepare_bytes(d, in, g);
}

prepared_input op_prepare(dev *d, void *p, const matrix_input *in, conv_geometry g)
{
    assert(is_matrix_input(in) && is_geometry(g));
    /* No memory: it takes none, or all is only planned. */
    if (p ? begin_operator(d, DEV_MEMORY) : is_live_device(d))
        return d->ops->prepare(d, p, in, g);
    return (prepared_input){ .in = *in };
}

static bool is_linear_input(const matrix_input *in)
{
    return is_activation(in->a) && !tensor_present(in->b) && !tensor_present(in->affine) &&
           !in->silu && in->h == in->a.h && in->w == in->a.w;
}

int dev_max_blocks(const dev *d) { return d->blocks > 0 ? d->blocks : 1; }

/* In pieces that the device takes, of whole tiles. */
static bool has_valid_blocks(const dev *d, const matrix_rows *w)
{
    const tensor all = w->all;
    if (w->blocks < 1 || w->blocks > dev_max_blocks(d) || w->row0[0] != 0 || w->data[0] != all.data)
        return false;
    for (int i = 1; i < w->blocks; i++)
        if (w->row0[i] <= w->row0[i - 1] || w->row0[i] >= all.n ||
            w->row0[i] % tile_rows(all.h, all.w) != 0)
            return false;
    return true;
}

void op_linear(dev *d, tensor y, const prepared_input *x, const matrix_rows *w, const epilogue *e)
{
    const tensor from = x->in.a;
    assert(is_linear_input(&x->in) && is_activation(y) && has_same_pixels(from, y));
    assert(is_matrix(w->all, 1, 1, from.c) && fits_epilogue(e, y, w->all.n));
    assert((w->all.type == DT_I8G64) == x->in.quantised && has_valid_blocks(d, w));
    assert(!y.data || y.data != from.data);
    const linear_args a = { y, *x, *w, *e };
    if (begin_operator(d, DEV_LINEAR))
        d->ops->linear(d, &a);
}

void op_conv2d(dev *d, tensor y, const prepared_input *x, const matrix_rows *w, conv_geometry g,
               const epilogue *e)
{
    assert(is_matrix_input(&x->in) && is_geometry(g) && is_activation(y) && y.n == x->in.a.n);
    assert(is_matrix(w->all, g.kh, g.kw, x->in.a.c + x->in.b.c));
    assert(fits_epilogue(e, y, w->all.n) && has_valid_blocks(d, w));
    assert((w->all.type == DT_I8G64) == x->in.quantised);
    assert(y.h == output_size(g, x->in.h) && y.w == output_size(g, x->in.w));
    assert(g.row0 + g.rows == y.h || (g.row0 + g.rows < y.h && g.rows % BAND_UNIT == 0));
    const conv_args a = { y, *x, *w, g, *e };
    if (begin_operator(d, DEV_CONV))
        d->ops->conv2d(d, &a);
}

void op_attention(dev *d, tensor y, tensor q, tensor k, tensor v, int heads, float scale,
                  bool causal)
{
    assert(is_activation(q) && is_activation(y) && has_same_shape(y, q));
    assert(is_activation(k) && is_activation(v) && has_same_shape(k, v));
    assert(k.n == q.n && k.c == q.c && heads > 0 && q.c % heads == 0);
    assert(!causal || tensor_pixels(k) == tensor_pixels(q));
    const attention_args a = { y, q, k, v, heads, scale, causal };
    if (begin_operator(d, DEV_ATTENTION))
        d->ops->attention(d, &a);
}

void op_layernorm(dev *d, tensor y, tensor x, tensor gain, tensor bias, float eps)
{
    assert(is_activation(x) && is_activation(y) && has_same_shape(y, x));
    assert(is_vector(gain, x.c) && is_vector(bias, x.c));
    if (begin_operator(d, DEV_MEMORY))
        d->ops->layernorm(d, y, x, gain, bias, eps);
}

void op_silu(dev *d, tensor y, tensor x)
{
    assert(is_activation(x) && is_activation(y) && has_same_shape(y, x));
    if (begin_operator(d, DEV_MEMORY))
        d->ops->silu(d, y, x);
}

void op_convert(dev *d, tensor y, tensor x)
{
    assert(is_activation(x) && is_activation(y) && has_same_shape(y, x));
    if (begin_operator(d, DEV_MEMORY))
        d->ops->convert(d, y, x);
}
