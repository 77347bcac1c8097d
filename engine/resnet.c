/* engine/resnet.c -- the residual block of UNet and VAE.
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
 * back as soon as the shortcut has been taken.  In the VAE, whose tensors are the largest
 * of all, conv2 adds into x itself; where channels shrink, `out` is laid over x row by
 * row, which is safe because out's row i ends before x's row i + 1 begins.
 */
#include "engine/resnet.h"

#include "engine/base/num.h"

resnet resnet_bind(const model *m, const char *at, int c_in, int c_out, int c_emb, int groups,
                   float eps)
{
    const affine_ref none = { NO_WEIGHT, NO_WEIGHT };
    return (resnet){
        .c_in = c_in,
        .c_out = c_out,
        .groups = groups,
        .eps = eps,
        .norm1 = run_bind(m, true, "%s.norm1", at),
        .conv1 = run_bind(m, true, "%s.conv1", at),
        .emb = c_emb ? run_bind(m, true, "%s.time_emb_proj", at) : none,
        .norm2 = run_bind(m, true, "%s.norm2", at),
        .conv2 = run_bind(m, true, "%s.conv2", at),
        .shortcut = c_in != c_out ? run_bind(m, true, "%s.conv_shortcut", at) : none,
    };
}

/* silu(norm([a | b])), as what a convolution reads. */
static conv_input normalised(run *r, tensor a, tensor b, affine_ref norm, const resnet *blk)
{
    return (conv_input){
        .a = a,
        .b = b,
        .affine = run_groupnorm(r, a, b, norm, blk->groups, blk->eps),
        .silu = true,
        .h = a.h,
        .w = a.w,
    };
}

tensor resnet_forward(run *r, const resnet *b, tensor x, tensor skip, tensor emb, bool consume)
{
    const bool has_shortcut = b->shortcut.weight != NO_WEIGHT;
    const epilogue add_emb = { .per_image = emb };

    /* h = conv1(silu(norm1(x))) + emb */
    tensor h = scratch_take(&r->mem, r->act, x.n, x.h, x.w, b->c_out);
    const conv_input in1 = normalised(r, x, skip, b->norm1, b);
    run_conv(r, h, &in1, b->conv1, 1, 1, h.h, add_emb);
    scratch_give(&r->mem, in1.affine);

    /* out = shortcut(x), or x itself */
    tensor out = x;
    if (has_shortcut || !consume)
        out = scratch_take(&r->mem, r->act, x.n, x.h, x.w, b->c_out);
    if (has_shortcut) {
        const conv_input in = { .a = x, .b = skip, .h = x.h, .w = x.w };
        run_conv(r, out, &in, b->shortcut, 1, 0, out.h, (epilogue){ 0 });
        if (consume) {
            scratch_give(&r->mem, x);
            scratch_give(&r->mem, skip);
        }
    }

    /* out += conv2(silu(norm2(h))) */
    const conv_input in2 = normalised(r, h, (tensor){ 0 }, b->norm2, b);
    run_conv(r, out, &in2, b->conv2, 1, 1, out.h, (epilogue){ .residual = has_shortcut ? out : x });
    scratch_give(&r->mem, in2.affine);
    scratch_give(&r->mem, h);
    return out;
}

/* out = shortcut(x) + conv2(silu(norm2(h))), band by band, out perhaps lying over x. */
static void second_half(run *r, const resnet *b, tensor out, tensor x, const conv_input *in2)
{
    const bool has_shortcut = b->shortcut.weight != NO_WEIGHT;
    const conv_input raw = { .a = x, .h = x.h, .w = x.w, .detach = true };
    hold shortcut = { 0 };

    if (has_shortcut)
        shortcut = run_hold(r, b->shortcut.weight);
    const hold conv2 = run_hold(r, b->conv2.weight);
    for (int row = 0; row < out.h; row += r->band_rows) {
        const int rows = (int)num_min((size_t)r->band_rows, (size_t)(out.h - row));
        if (has_shortcut)
            run_conv_band(r, out, &raw, &shortcut, b->shortcut, 1, 0, row, rows, (epilogue){ 0 });
        run_conv_band(r, out, in2, &conv2, b->conv2, 1, 1, row, rows,
                      (epilogue){ .residual = out });
    }
    if (has_shortcut)
        run_release(r, &shortcut);
    run_release(r, &conv2);
}

tensor resnet_forward_banded(run *r, const resnet *b, tensor x)
{
    tensor h = scratch_take(&r->mem, x.type, x.n, x.h, x.w, b->c_out);
    h.exp2 = x.exp2;
    const conv_input in1 = normalised(r, x, (tensor){ 0 }, b->norm1, b);
    run_conv(r, h, &in1, b->conv1, 1, 1, r->band_rows, (epilogue){ 0 });
    scratch_give(&r->mem, in1.affine);

    tensor out = x;
    if (b->c_out > b->c_in) {
        out = scratch_take(&r->mem, x.type, x.n, x.h, x.w, b->c_out);
        out.exp2 = x.exp2;
    } else {
        out.c = out.stride = b->c_out;
    }
    const conv_input in2 = normalised(r, h, (tensor){ 0 }, b->norm2, b);
    second_half(r, b, out, x, &in2);
    scratch_give(&r->mem, in2.affine);
    scratch_give(&r->mem, h);
    if (b->c_out > b->c_in)
        scratch_give(&r->mem, x);
    else if (b->c_out < b->c_in)
        scratch_trim(&r->mem, x.data, tensor_bytes(out));
    return out;
}
