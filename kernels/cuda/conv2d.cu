/* kernels/cuda/conv2d.cu -- convolution, its input normalised as it is read.
 *
 * Nothing is prepared, unless the output will overwrite the input: then the rows that the band
 * reads are copied first, normalised if they are to be, at the resolution they have.
 */
#include "kernels/cuda/product.cuh"

enum { PREPARE_THREADS = 256 };

/* A thread prepares eight channels of a pixel; y holds the rows from `first` on. */
__global__ void __launch_bounds__(PREPARE_THREADS) prepare_kernel(const product_args p, view y)
{
    const int vectors = (p.c + VECTOR - 1) / VECTOR;
    const int at = static_cast<int>(blockIdx.x * PREPARE_THREADS + threadIdx.x);
    const int pixel = at / vectors, c = at % vectors * VECTOR;
    if (pixel >= p.pixels)
        return;
    const int band = p.rows * p.y_w, image = pixel / band;
    const size_t from = (static_cast<size_t>(image) * p.source_h + p.row0) * p.y_w + pixel % band;
    float x[8];
    gather8(x, p, from, c);
    if (p.affine)
        normalise8(x, p, image, c);
    store8(y, static_cast<size_t>(pixel), c, x);
}

/* Rows of the source that a band needs, the first of them in *first: the band's window on the
 * resampled image, through the map of nearest resampling. */
static int rows_needed(const conv_input *in, conv_geometry g, int *first)
{
    int from = g.row0 * g.stride - g.pad, end = (g.row0 + g.rows - 1) * g.stride - g.pad + g.kh;
    from = from < 0 ? 0 : from;
    end = end > in->h ? in->h : end;
    *first = static_cast<int>(static_cast<int64_t>(from) * in->a.h / in->h);
    return static_cast<int>(static_cast<int64_t>(end - 1) * in->a.h / in->h) + 1 - *first;
}

/* What is prepared: of the input's own type and scale if it is copied as it is. */
static tensor prepared(const dev *d, void *p, const conv_input *in, conv_geometry g, int *first)
{
    const int rows = rows_needed(in, g, first);
    const bool norm = tensor_present(in->affine);
    tensor t = tensor_make(p, norm ? cuda_peek(d)->compute : in->a.type, in->a.n, rows, in->a.w,
                           in->a.c + in->b.c);
    t.exp2 = norm ? 0 : in->a.exp2;
    return t;
}

extern "C" size_t cuda_conv_prepare_bytes(const dev *d, const conv_input *in, conv_geometry g)
{
    int first;
    return in->detach ? tensor_bytes(prepared(d, NULL, in, g, &first)) : 0;
}

static void set_norm(product_args *p, const conv_input *in)
{
    p->affine = static_cast<const float *>(in->affine.data);
    p->silu = in->silu;
}

extern "C" conv_source cuda_conv_prepare(dev *d, void *space, const conv_input *in,
                                         conv_geometry g)
{
    conv_source s = {};
    s.in = *in;
    if (!in->detach)
        return s;
    s.ready = prepared(d, space, in, g, &s.first);

    product_args p = {};
    p.c = s.ready.c;
    p.rows = s.ready.h;
    p.row0 = s.first;
    p.y_w = in->a.w;
    set_norm(&p, in);
    product_source(&p, in->a, in->b, in->a.h, 0);
    view y = view_of(s.ready);
    if (!p.affine)
        y.scale = y.inverse = 1.0f; /* in the units that a is read in */
    const size_t work = static_cast<size_t>(p.pixels) * ((p.c + VECTOR - 1) / VECTOR);
    launch(d, prepare_kernel, blocks_of(work, PREPARE_THREADS), PREPARE_THREADS, 0, p, y);
    return s;
}

extern "C" size_t cuda_conv2d_workspace(const dev *, const conv_args *) { return 0; }

extern "C" void cuda_conv2d(dev *d, const conv_args *a)
{
    const conv_source *x = &a->x;
    product_args p = product_begin(a->y, a->w, &a->e);
    p.stride = a->g.stride;
    p.pad = a->g.pad;
    p.row0 = a->g.row0;
    p.rows = a->g.rows;
    p.in_h = x->in.h;
    p.in_w = x->in.w;
    if (tensor_present(x->ready)) {
        product_source(&p, x->ready, tensor(), x->in.a.h, x->first);
    } else {
        set_norm(&p, &x->in);
        product_source(&p, x->in.a, x->in.b, x->in.a.h, 0);
    }
    product_run(d, p);
}
