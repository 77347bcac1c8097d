/* engine/model/resnet.c -- the residual block of UNet and VAE.
 *
 *     h   = conv1(silu(norm1(x))) + emb          one value per image and channel
 *     out = shortcut(x) + conv2(silu(norm2(h)))  shortcut: 1x1 conv iff c_in != c_out
 *
 * where x is the concatenation [x | skip] in the UNet's up path, never materialised:
 * norm and convolutions read two sources, so that a group of norm1 may straddle them.
 *
 * Reference: diffusers ResnetBlock2D with time_embedding_norm "default".  The VAE's
 * blocks have no embedding.  Weights are touched in the order conv1, shortcut, conv2.
 *
 * Memory.  The peak is x, skip, the prepared input of conv1 and h; x and skip are given
 * back as soon as the shortcut has been taken.  In the VAE, whose feature maps are the largest
 * of all, conv2 adds into x itself; where channels shrink, `out` is laid over x row by
 * row, which is safe because out's row i ends before x's row i + 1 begins.
 */
#include "engine/model/resnet.h"

#include "engine/base/num.h"

resnet resnet_declare(weight_builder *b, segment seg, const char *at, int c_in, int c_out,
                      int c_emb, int groups, float eps)
{
    resnet r = { .c_in = c_in, .c_out = c_out, .groups = groups, .eps = eps };
    r.norm1 = declare_norm(b, at, "norm1", c_in);
    r.conv1 = declare_conv(b, seg, at, "conv1", c_out, 3, c_in);
    if (c_emb)
        r.emb = declare_linear(b, SEG_ONCE, at, "time_emb_proj", c_out, c_emb);
    r.norm2 = declare_norm(b, at, "norm2", c_out);
    if (c_in != c_out)
        r.shortcut = declare_conv(b, seg, at, "conv_shortcut", c_out, 1, c_in);
    r.conv2 = declare_conv(b, seg, at, "conv2", c_out, 3, c_out);
    return r;
}

/* silu(norm([a | b])), as what a convolution reads. */
static matrix_input normalised_input(forward_ctx *r, tensor a, tensor b, affine_ref norm,
                                     const resnet *blk)
{
    return (matrix_input){
        .a = a,
        .b = b,
        .affine = forward_groupnorm(r, a, b, norm, blk->groups, blk->eps),
        .silu = true,
        .h = a.h,
        .w = a.w,
    };
}

tensor resnet_forward(forward_ctx *r, const resnet *b, tensor x, tensor skip, tensor emb,
                      bool consume)
{
    const bool has_shortcut = weight_present(b->shortcut.weight);
    const epilogue add_emb = { .per_image = emb };

    /* h = conv1(silu(norm1(x))) + emb */
    tensor h = scratch_alloc(&r->mem, r->act, x.n, x.h, x.w, b->c_out);
    const matrix_input in1 = normalised_input(r, x, skip, b->norm1, b);
    forward_conv(r, h, &in1, b->conv1, 1, 1, add_emb);
    scratch_free(&r->mem, in1.affine);

    /* out = shortcut(x), or x itself */
    tensor out = x;
    if (has_shortcut || !consume)
        out = scratch_alloc(&r->mem, r->act, x.n, x.h, x.w, b->c_out);
    if (has_shortcut) {
        const matrix_input in = { .a = x, .b = skip, .h = x.h, .w = x.w };
        forward_conv(r, out, &in, b->shortcut, 1, 0, (epilogue){ 0 });
        if (consume) {
            scratch_free(&r->mem, x);
            scratch_free(&r->mem, skip);
        }
    }

    /* out += conv2(silu(norm2(h))) */
    const matrix_input in2 = normalised_input(r, h, (tensor){ 0 }, b->norm2, b);
    forward_conv(r, out, &in2, b->conv2, 1, 1, (epilogue){ .residual = has_shortcut ? out : x });
    scratch_free(&r->mem, in2.affine);
    scratch_free(&r->mem, h);
    return out;
}

/* What a band of the second half works in; NULL where the feature map is on the device. */
typedef struct windows {
    void *h, *x, *out;
} windows;

/* Rows [row, row + rows) of out = shortcut(x) + conv2(in2).  Without a shortcut out is x. */
static void second_half_band(forward_ctx *r, const resnet *b, feature_map *out,
                             const feature_map *x, const feature_map *h, matrix_input in2,
                             const windows *w, const hold *shortcut, const hold *conv2, int row,
                             int rows)
{
    const conv_rows read = conv_rows_read(&in2, (conv_geometry){ 3, 3, 1, 1, row, rows });
    tensor o = feature_map_load(r, x, w->x, row, rows);

    if (shortcut->n) {
        const matrix_input raw = { .a = o, .h = o.h, .w = o.w, .detach = true };
        o = feature_map_view(out, w->out, row);
        forward_conv_band(r, o, &raw, shortcut, b->shortcut, 1, 0, row, rows, (epilogue){ 0 });
    }
    in2.a = feature_map_load(r, h, w->h, read.first, read.end - read.first);
    forward_conv_band(r, o, &in2, conv2, b->conv2, 1, 1, row, rows, (epilogue){ .residual = o });
    feature_map_store(r, out, o, row, rows);
}

static void second_half(forward_ctx *r, const resnet *b, feature_map *out, const feature_map *x,
                        const feature_map *h, matrix_input in2)
{
    const bool has_shortcut = weight_present(b->shortcut.weight);
    const hold shortcut = has_shortcut ? hold_acquire(r, b->shortcut.weight) : (hold){ 0 };
    const hold conv2 = hold_acquire(r, b->conv2.weight);
    const windows w = {
        .h = feature_map_window(r, h, r->band_rows + 2),
        .x = feature_map_window(r, x, r->band_rows),
        .out = has_shortcut ? feature_map_window(r, out, r->band_rows) : NULL,
    };

    for (int row = 0; row < h->t.h; row += r->band_rows) {
        const int rows = (int)num_min((size_t)r->band_rows, (size_t)(h->t.h - row));
        second_half_band(r, b, out, x, h, in2, &w, &shortcut, &conv2, row, rows);
    }
    scratch_free_bytes(&r->mem, w.out);
    scratch_free_bytes(&r->mem, w.x);
    scratch_free_bytes(&r->mem, w.h);
    if (has_shortcut)
        hold_release(r, &shortcut);
    hold_release(r, &conv2);
}

static matrix_input normalised_map(forward_ctx *r, const feature_map *x, affine_ref norm,
                                   const resnet *blk)
{
    return (matrix_input){ .a = x->t,
                           .affine = feature_map_affine(r, x, norm, blk->eps),
                           .silu = true,
                           .h = x->t.h,
                           .w = x->t.w };
}

feature_map resnet_forward_banded(forward_ctx *r, const resnet *b, feature_map x)
{
    feature_map h = feature_map_alloc(r, x.t.h, x.t.w, b->c_out, b->groups, 0);
    const matrix_input in1 = normalised_map(r, &x, b->norm1, b);
    feature_map_conv(r, &h, &x, in1, b->conv1, 1, 1);
    scratch_free(&r->mem, in1.affine);

    const bool grows = b->c_out > b->c_in;
    feature_map out = grows ? feature_map_alloc(r, x.t.h, x.t.w, b->c_out, b->groups, 0)
                            : feature_map_narrow(x, b->c_out);
    const matrix_input in2 = normalised_map(r, &h, b->norm2, b);
    second_half(r, b, &out, &x, &h, in2);
    scratch_free(&r->mem, in2.affine);
    feature_map_free(r, h);
    if (grows)
        feature_map_free(r, x);
    else if (b->c_out < b->c_in)
        feature_map_trim(r, &x, &out);
    return out;
}
