/* kernels/cuda/product.cu -- what a product is told, and which kernel it takes.
 *
 * The kernels are in a file for each tile and kind of operands, which are compiled side by side.
 * On tensor cores there are several tiles.  None changes a bit; how long a product takes with each
 * is estimated from the blocks that it would have and those that the card holds.
 */
#include "kernels/cuda/product_args.cuh"
#include "kernels/cuda/quantise.cuh"

#include <cassert>
#include <climits>
#include <cmath>

static bool in_half_vectors(const matrix_rows *rows)
{
    for (int i = 0; i < rows->blocks; i++)
        if (reinterpret_cast<uintptr_t>(rows->data[i]) % 16)
            return false;
    return rows->all.type == DT_F16 && rows->all.c % 8 == 0;
}

product_args product_begin(tensor y, const matrix_rows *rows, const epilogue *e)
{
    const tensor w = rows->all;
    product_args p = {};
    p.blocks = rows->blocks;
    for (int i = 0; i < rows->blocks; i++) {
        p.block[i] = rows->data[i];
        p.block_row0[i] = rows->row0[i];
    }
    p.w_type = w.type;
    p.half_vectors = in_half_vectors(rows);
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

/* Where the rows of an input lie, which holds those from `first` on of images of h. */
static void set_rows(product_args *p, tensor held, int h, int first)
{
    assert(static_cast<uint64_t>(held.n) * held.h * held.w <= INT_MAX); /* pixels_of_thread */
    p->source_h = h;
    p->source_w = held.w;
    p->held_h = held.h;
    p->first = first;
    p->pixels = held.n * p->rows * p->y_w;
    p->scale = 1.0f;
}

void product_source(product_args *p, tensor a, tensor b, tensor affine, bool silu, int h,
                    int first)
{
    p->in = normed_of(a, b, affine, silu ? ACT_SILU : ACT_NONE);
    set_rows(p, a, h, first);
    if (normed_raw(p->in)) {
        p->scale = p->in.a.scale;
        p->in.b.scale *= p->in.a.inverse;
        p->in.a.scale = 1.0f;
    }
}

void product_source_int8(product_args *p, tensor ready, int h, int first)
{
    const size_t pixels = static_cast<size_t>(ready.n) * tensor_pixels(ready);
    p->in = normed();
    p->in.c = ready.c;
    p->q = static_cast<const int8_t *>(ready.data);
    p->q_scale = quantised_scales(ready.data, pixels, ready.c);
    p->groups = i8_slabs(ready.c);
    set_rows(p, ready, h, first);
}

/* ---- which kernel ---- */

/* F16 pixels, as they are or silu of their norm, and F16 or int8 rows, all in whole vectors. */
static bool in_vectors(const product_args &p)
{
    const normed &in = p.in;
    const bool same = !in.b.data || (in.b.type == DT_F16 && in.b.scale == in.a.scale);
    const bool rows = p.w_type == DT_I8G64 || p.half_vectors;
    return in.a.type == DT_F16 && same && in.whole_vectors && rows &&
           (normed_raw(in) || normed_silu(in));
}

/* ---- which tile ---- */

/* By cuda_tile. */
static const product_way *const TILES[CUDA_TILES] = { &product_large, &product_medium,
                                                      &product_small };

/* Cycles of a stage that nothing hides where a multiprocessor has a single block, and bytes that
 * it fetches a cycle: modelled, not measured (docs/speed.md). */
static const double EXPOSED = 530, FETCHED = 32;

/* A tile is taken before a smaller one unless that is by so much faster: it fetches less. */
static const double WORTH_SMALLER = 0.97;

/* Cycles of a stage of k of so many blocks on a multiprocessor. */
static double stage_cycles(const cuda_dev *c, const product_way *t, int blocks)
{
    const double products = static_cast<double>(t->m) * t->n * STEP / c->mma_rate;
    const double fetching = (t->m + t->n) * STEP * 2 / FETCHED;
    return fmax(fmax(blocks * products, products + EXPOSED), blocks * fetching);
}

/* Blocks go in waves of as many as the card holds; those that are left are spread evenly. */
static double cycles_of(const cuda_dev *c, const product_args &p, cuda_tile tile)
{
    const product_way *t = TILES[tile];
    const int held = c->held[tile] > 0 ? c->held[tile] : 1;
    const int64_t blocks = static_cast<int64_t>(blocks_of(static_cast<size_t>(p.n), t->n)) *
                           blocks_of(static_cast<size_t>(p.pixels), t->m);
    const int64_t wave = static_cast<int64_t>(c->processors) * held, left = blocks % wave;
    const double whole = static_cast<double>(blocks / wave) * stage_cycles(c, t, held);
    const int most = static_cast<int>((left + c->processors - 1) / c->processors);
    return left ? whole + stage_cycles(c, t, most) : whole;
}

static bool can_read_input(const product_way *t, const product_args &p)
{
    return t->norms || normed_raw(p.in);
}

static const product_way &fastest_tile(const cuda_dev *c, const product_args &p)
{
    const product_way *best = TILES[CUDA_128X128];
    double least = cycles_of(c, p, CUDA_128X128);
    for (int i = CUDA_128X128 + 1; i < CUDA_TILES; i++) {
        const double cycles = cycles_of(c, p, static_cast<cuda_tile>(i));
        if (!can_read_input(TILES[i], p) || cycles >= least * WORTH_SMALLER)
            continue;
        least = cycles;
        best = TILES[i];
    }
    if (c->only < CUDA_TILES && can_read_input(TILES[c->only], p))
        best = TILES[c->only];
    return *best;
}

static const product_way &choose_product_way(const cuda_dev *c, const product_args &p)
{
    if (p.q)
        return product_int8;
    const bool vectors = in_vectors(p);
    if (c->math == CUDA_F32)
        return product_floats;
    if (c->math == CUDA_HALF2)
        return vectors ? product_halves : product_halves_any;
    return vectors ? fastest_tile(c, p) : product_small_any;
}

void product_run(dev *d, const product_args &p) { choose_product_way(cuda_of(d), p).run(d, p); }

extern "C" void cuda_load_products(dev *d)
{
    cuda_dev *c = cuda_of(d);
    if (c->compute == DT_F32) {
        (void)product_floats.load(d);
        return;
    }
    for (int i = 0; i < CUDA_TILES; i++)
        c->held[i] = TILES[i]->load(d);
    (void)product_int8.load(d);
    (void)product_small_any.load(d);
    (void)product_halves.load(d);
    (void)product_halves_any.load(d);
}
