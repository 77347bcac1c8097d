/* tests/bench/operators.c -- each operator between operator_begins and operator_ended. */
#include "tests/bench/operators.h"

#include "kernels/cuda/cuda.h"

#include <stdio.h>

dev *__real_dev_open_cuda(const dev_options *o, int ordinal, refine_error *err);
dev *__wrap_dev_open_cuda(const dev_options *o, int ordinal, refine_error *err);

/* The engine opens one device. */
static struct dev_ops ours;
static const struct dev_ops *theirs;

static double observed_pixels(tensor t) { return (double)t.n * (double)tensor_pixels(t); }
static double tensor_moved_bytes(tensor t)
{
    return observed_pixels(t) * t.c * (double)dtype_bytes(t.type);
}
static const char *weight_kind_suffix(tensor w) { return w.type == DT_I8G64 ? ", int8" : ""; }

static void begin_observed_call(dev *d, operator_call c, const char *kind, const char *weights,
                                int h, int w)
{
    (void)snprintf(c.name, sizeof c.name, "%s%s at %dx%d", kind, weights, h, w);
    operator_begins(d, &c);
}

static void begin_matrix_product(dev *d, const char *kind, tensor y, tensor w)
{
    const int taps = w.h * w.w;
    const operator_call c = { .macs = observed_pixels(y) * w.n * (double)taps * w.c,
                              .k = w.c,
                              .taps = taps };
    begin_observed_call(d, c, kind, weight_kind_suffix(w), y.h, y.w);
}

static void begin_moving(dev *d, const char *kind, double bytes, int h, int w)
{
    begin_observed_call(d, (operator_call){ .bytes = bytes }, kind, "", h, w);
}

static void observe_linear(dev *d, const linear_args *a)
{
    begin_matrix_product(d, a->e.act == ACT_GEGLU ? "linear, GEGLU" : "linear", a->y, a->w.all);
    theirs->linear(d, a);
    operator_ended(d);
}

static void observe_conv2d(dev *d, const conv_args *a)
{
    const bool norm = tensor_present(a->x.in.affine) && !tensor_present(a->x.ready);
    const char *kind = a->g.kh == 1       ? "conv 1x1"
                       : a->g.stride == 2 ? "conv 3x3, down"
                       : norm             ? "conv 3x3, normed on load"
                                          : "conv 3x3";
    begin_matrix_product(d, kind, a->y, a->w.all);
    theirs->conv2d(d, a);
    operator_ended(d);
}

static prepared_input observe_prepare(dev *d, void *p, const matrix_input *in, conv_geometry g)
{
    const double bytes = 2 * (double)theirs->prepare_bytes(d, in, g);
    begin_moving(d, "conv, preparing", bytes, in->a.h, in->a.w);
    const prepared_input s = theirs->prepare(d, p, in, g);
    operator_ended(d);
    return s;
}

static void observe_attention(dev *d, const attention_args *a)
{
    const double keys = (double)tensor_pixels(a->k);
    const operator_call c = { .macs = 2 * observed_pixels(a->q) * keys * a->q.c,
                              .k = (int)keys,
                              .taps = 1 };
    begin_observed_call(
        d, c, keys == (double)tensor_pixels(a->q) ? "attention, self" : "attention, cross", "",
        a->y.h, a->y.w);
    theirs->attention(d, a);
    operator_ended(d);
}

static void observe_groupnorm_sums(dev *d, tensor sums, tensor a, tensor b, int row0, int rows)
{
    const double bytes = (tensor_moved_bytes(a) + tensor_moved_bytes(b)) / a.h * rows;
    begin_moving(d, "groupnorm, sums", bytes, a.h, a.w);
    theirs->groupnorm_sums(d, sums, a, b, row0, rows);
    operator_ended(d);
}

static void observe_groupnorm(dev *d, tensor affine, tensor sums, int h, int w, tensor gain,
                              tensor bias, float eps)
{
    begin_moving(d, "groupnorm, folding", tensor_moved_bytes(affine) + tensor_moved_bytes(sums), h,
                 w);
    theirs->groupnorm(d, affine, sums, h, w, gain, bias, eps);
    operator_ended(d);
}

static void observe_apply_norm(dev *d, tensor y, tensor a, tensor b, tensor affine, act f)
{
    begin_moving(d, "groupnorm, applied",
                 tensor_moved_bytes(y) + tensor_moved_bytes(a) + tensor_moved_bytes(b), y.h, y.w);
    theirs->apply_norm(d, y, a, b, affine, f);
    operator_ended(d);
}

static void observe_layernorm(dev *d, tensor y, tensor x, tensor gain, tensor bias, float eps)
{
    begin_moving(d, "layernorm", tensor_moved_bytes(y) + tensor_moved_bytes(x), y.h, y.w);
    theirs->layernorm(d, y, x, gain, bias, eps);
    operator_ended(d);
}

static void observe_silu(dev *d, tensor y, tensor x)
{
    begin_moving(d, "silu", tensor_moved_bytes(y) + tensor_moved_bytes(x), y.h, y.w);
    theirs->silu(d, y, x);
    operator_ended(d);
}

static void observe_convert(dev *d, tensor y, tensor x)
{
    begin_moving(d, "convert", tensor_moved_bytes(y) + tensor_moved_bytes(x), y.h, y.w);
    theirs->convert(d, y, x);
    operator_ended(d);
}

dev *__wrap_dev_open_cuda(const dev_options *o, int ordinal, refine_error *err)
{
    dev *d = __real_dev_open_cuda(o, ordinal, err);
    if (!d)
        return NULL;
    theirs = d->ops;
    ours = *theirs;
    ours.linear = observe_linear;
    ours.conv2d = observe_conv2d;
    ours.prepare = observe_prepare;
    ours.attention = observe_attention;
    ours.groupnorm_sums = observe_groupnorm_sums;
    ours.groupnorm = observe_groupnorm;
    ours.apply_norm = observe_apply_norm;
    ours.layernorm = observe_layernorm;
    ours.silu = observe_silu;
    ours.convert = observe_convert;
    d->ops = &ours;
    operators_of(d);
    return d;
}
