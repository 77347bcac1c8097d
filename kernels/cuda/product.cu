/* kernels/cuda/product.cu -- what a product is told, and which kernel it takes.
 *
 * The kernels are in a file for each tile and kind of operands, which are compiled side by side.
 * On tensor cores the tile depends on how many blocks there are to be, and changes no bit.
 */
#include "kernels/cuda/product_args.cuh"

product_args product_begin(tensor y, tensor w, const epilogue *e)
{
    product_args p = {};
    p.w = w.data;
    p.w_type = w.type;
    p.n = w.n;
    p.kh = w.h;
    p.kw = w.w;
    p.k = w.h * w.w * w.c;
    p.tile = tile_rows(w.h, w.w);
    p.tile_bytes = i8_bytes(p.tile, w.h * w.w, w.c);
    p.steps = w.h * w.w * ((w.c + STEP - 1) / STEP);
    p.stride = 1;
    p.rows = p.y_h = y.h;
    p.y_w = y.w;
    p.y = view_of(y);
    p.bias = static_cast<const float *>(e->bias.data);
    p.per_image = static_cast<const float *>(e->per_image.data);
    p.per_image_stride = static_cast<size_t>(e->per_image.stride);
    p.residual = view_of(e->residual);
    p.act = e->act;
    return p;
}

void product_source(product_args *p, tensor a, tensor b, tensor affine, bool silu, int h,
                    int first)
{
    p->in = normed_of(a, b, affine, silu ? ACT_SILU : ACT_NONE);
    p->source_h = h;
    p->source_w = a.w;
    p->held_h = a.h;
    p->first = first;
    p->pixels = a.n * p->rows * p->y_w;
    p->scale = 1.0f;
    if (normed_raw(p->in)) {
        p->scale = p->in.a.scale;
        p->in.b.scale *= p->in.a.inverse;
        p->in.a.scale = 1.0f;
    }
}

/* ---- which kernel ---- */

/* F16 pixels, as they are or silu of their norm, and F16 or int8 rows, all in whole vectors. */
static bool in_vectors(const product_args &p)
{
    const normed &in = p.in;
    const bool same = !in.b.data || (in.b.type == DT_F16 && in.b.scale == in.a.scale);
    const bool rows = p.w_type == DT_I8G64 ||
                      (p.w_type == DT_F16 && in.c % 8 == 0 &&
                       reinterpret_cast<uintptr_t>(p.w) % 16 == 0);
    return in.a.type == DT_F16 && same && in.whole_vectors && rows &&
           (normed_raw(in) || normed_silu(in));
}

/* Are there as many large blocks as the card computes at a time? */
static bool fills_card(const cuda_dev *c, const product_args &p)
{
    return static_cast<size_t>(blocks_of(static_cast<size_t>(p.n), PRODUCT_LARGE)) *
               blocks_of(static_cast<size_t>(p.pixels), PRODUCT_LARGE) >=
           static_cast<size_t>(c->processors);
}

static const product_way &way_of(const cuda_dev *c, const product_args &p)
{
    const bool vectors = in_vectors(p);
    if (c->math == CUDA_F32)
        return product_floats;
    if (c->math == CUDA_HALF2)
        return vectors ? product_halves : product_halves_any;
    if (fills_card(c, p))
        return vectors ? product_large : product_large_any;
    return vectors ? product_small : product_small_any;
}

void product_run(dev *d, const product_args &p) { way_of(cuda_of(d), p).run(d, p); }

extern "C" void cuda_load_products(dev *d)
{
    static const product_way *const HALVES[] = { &product_large,      &product_large_any,
                                                 &product_small,      &product_small_any,
                                                 &product_halves,     &product_halves_any };
    if (cuda_of(d)->compute == DT_F32) {
        product_floats.load(d);
        return;
    }
    for (const product_way *w : HALVES)
        w->load(d);
}
