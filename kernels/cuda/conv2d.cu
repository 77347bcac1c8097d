/* kernels/cuda/conv2d.cu -- convolution, its input normalised as it is read; and what is prepared.
 *
 * That is nothing, unless it is asked for, or the product is one of integers: then the rows that
 * the band reads are copied first, normalised if they are to be, at the resolution they have.
 */
#include "kernels/cuda/element.cuh"
#include "kernels/cuda/product_args.cuh"
#include "kernels/cuda/quantise.cuh"

/* What is prepared: of the input's own type and scale if it is copied as it is. */
static tensor cuda_prepared_tensor(const dev *d, void *p, const matrix_input *in, conv_geometry g,
                                   int *first)
{
    const conv_rows rows = conv_rows_read(in, g);
    const bool copied = !tensor_present(in->affine) && !in->silu;
    tensor t = tensor_make(p, copied ? in->a.type : cuda_peek(d)->compute, in->a.n,
                           rows.end - rows.first, in->a.w, in->a.c + in->b.c);
    *first = rows.first;
    t.exp2 = copied ? in->a.exp2 : 0;
    return t;
}

/* What is kept in fp16 and unscaled is multiplied in integers where int8 weights come; the VAE's is
 * scaled, and text is F32. */
static bool is_multiplied_in_ints(const dev *d, const matrix_input *in)
{
    return cuda_peek(d)->int8_math && in->quantised && in->a.type == DT_F16 && in->a.exp2 == 0;
}

extern "C" size_t cuda_prepare_bytes(const dev *d, const matrix_input *in, conv_geometry g)
{
    int first;
    const tensor t = cuda_prepared_tensor(d, NULL, in, g, &first);
    if (is_multiplied_in_ints(d, in))
        return quantised_bytes(static_cast<size_t>(t.n) * tensor_pixels(t), t.c);
    return in->detach ? tensor_bytes(t) : 0;
}

extern "C" prepared_input cuda_prepare(dev *d, void *space, const matrix_input *in,
                                       conv_geometry g)
{
    prepared_input s = {};
    s.in = *in;
    if (!in->detach && !is_multiplied_in_ints(d, in))
        return s;
    s.ready = cuda_prepared_tensor(d, space, in, g, &s.first);

    const normed from = normed_of(in->a, in->b, in->affine, in->silu ? ACT_SILU : ACT_NONE);
    const int pixels = s.ready.h * s.ready.w;
    const size_t first = static_cast<size_t>(s.first) * in->a.w;
    if (is_multiplied_in_ints(d, in)) {
        s.ready.type = DT_I8G64;
        quantise_run(d, space, s.ready.n, pixels, from, first, tensor_pixels(in->a));
    } else {
        element_run(d, view_of(s.ready), s.ready.n, pixels, from, first, tensor_pixels(in->a));
    }
    return s;
}

extern "C" size_t cuda_conv2d_workspace(const dev *, const conv_args *) { return 0; }

extern "C" void cuda_conv2d(dev *d, const conv_args *a)
{
    const prepared_input *x = &a->x;
    product_args p = product_begin(a->y, &a->w, &a->e);
    p.stride = a->g.stride;
    p.pad = a->g.pad;
    p.row0 = a->g.row0;
    p.rows = a->g.rows;
    p.in_h = x->in.h;
    p.in_w = x->in.w;
    if (x->ready.type == DT_I8G64)
        product_source_int8(&p, x->ready, x->in.a.h, x->first);
    else if (tensor_present(x->ready))
        product_source(&p, x->ready, tensor(), tensor(), false, x->in.a.h, x->first);
    else
        product_source(&p, x->in.a, x->in.b, x->in.affine, x->in.silu, x->in.a.h, 0);
    product_run(d, p);
}
