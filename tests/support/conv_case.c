/* tests/support/conv_case.c -- the cases and how one is run. */
#include "tests/support/conv_case.h"

#include <string.h>

static int size_in(int source, int to) { return to ? to : source; }

static int size_out(const conv_case *c, int in)
{
    return c->stride == 1 ? in : c->pad ? (in + 1) / 2 : in / 2;
}

void conv_fields(field f[CONV_FIELDS], const conv_cut *k)
{
    const conv_case *c = k->c;
    const int wide = view_margin(c->views, 5), in = c->a + c->b, e = c->exp2;
    const int h = size_out(c, size_in(c->h, c->to_h)), w = size_out(c, size_in(c->w, c->to_w));
    for (int i = 0; i < CONV_FIELDS; i++)
        f[i] = (field){ 0 };
    f[CONV_Y] = field_view(1, c->type, c->n, h, w, c->rows, wide, c->rows + 2 * wide, e, 1);
    f[CONV_A] = field_view(2, c->type, c->n, c->h, c->w, c->a, wide, c->a + 2 * wide, e, 1);
    if (c->b)
        f[CONV_B] = field_view(3, c->type, c->n, c->h, c->w, c->b, wide, c->b + 2 * wide, e, 1);
    if (k->exact) {
        field_make_exact(&f[CONV_A]);
        if (c->b)
            field_make_exact(&f[CONV_B]);
    }
    if (c->norm)
        f[CONV_AFFINE] = field_random(4, DT_F32, c->n, 1, 2, in, 1);
    f[CONV_W] = field_random(5, c->weights, c->rows, c->kh, c->kh, in, 1);
    f[CONV_BIAS] = field_random(6, DT_F32, 1, 1, 1, c->rows, 1);
    if (c->per_image)
        f[CONV_PER_IMAGE] = field_view(7, DT_F32, c->n, 1, 1, c->rows, 2, c->rows + 3, 0, 1);
    if (c->residual)
        f[CONV_RESIDUAL] = field_view(8, c->type, c->n, h, w, c->rows, wide, c->rows + 2 * wide, e,
                                      1);
}

void conv_free_fields(field f[CONV_FIELDS])
{
    for (int i = 0; i < CONV_FIELDS; i++)
        field_free(&f[i]);
}

static int clamp_blocks(const dev *d, int together)
{
    const int most = dev_max_blocks(d);
    return together < 1 ? 1 : together < most ? together : most;
}

static void convolve_chunks(dev *d, const tensor *t, const prepared_input *src, conv_geometry g,
                            const conv_cut *k)
{
    const tensor residual = k->in_place ? t[CONV_Y] : t[CONV_RESIDUAL];
    const int all = t[CONV_W].n, chunk = k->chunk ? k->chunk : all;
    for (int row = 0, rows; row < all; row += rows) {
        int block[MATRIX_BLOCKS_MAX], n = 0;
        for (rows = 0; row + rows < all && n < clamp_blocks(d, k->together); rows += block[n++])
            block[n] = all - row - rows < chunk ? all - row - rows : chunk;
        field_blocks w = field_blocks_of(d, t[CONV_W], row, block, n);
        epilogue e = { .bias = tensor_channels(t[CONV_BIAS], row, rows) };
        if (tensor_present(t[CONV_PER_IMAGE]))
            e.per_image = tensor_channels(t[CONV_PER_IMAGE], row, rows);
        if (tensor_present(residual))
            e.residual = tensor_channels(residual, row, rows);
        op_conv2d(d, tensor_channels(t[CONV_Y], row, rows), src, &w.w, g, &e);
        field_blocks_free(d, &w);
    }
}

static void run_band(dev *d, const tensor *t, const conv_cut *k, int row0, int rows)
{
    const conv_case *c = k->c;
    const conv_geometry g = { c->kh, c->kh, c->stride, c->pad, row0, rows };
    const matrix_input in = { t[CONV_A],
                              t[CONV_B],
                              k->no_affine ? (tensor){ 0 } : t[CONV_AFFINE],
                              c->norm && !k->no_silu,
                              k->detach,
                              size_in(c->h, c->to_h),
                              size_in(c->w, c->to_w),
                              t[CONV_W].type == DT_I8G64 };
    const size_t bytes = op_prepare_bytes(d, &in, g);
    void *space = bytes ? dev_alloc(d, bytes, DEV_VRAM) : NULL;
    field_poison(d, space, bytes);
    const prepared_input src = op_prepare(d, space, &in, g);
    convolve_chunks(d, t, &src, g, k);
    dev_free(d, space, bytes, DEV_VRAM);
}

static void run_conv_case(dev *d, const tensor *t, const void *context)
{
    const conv_cut *k = context;
    const int band = k->band ? k->band : t[CONV_Y].h;
    for (int n = 0; n < (k->per_image_calls ? t[CONV_Y].n : 1); n++) {
        tensor one[CONV_FIELDS];
        memcpy(one, t, sizeof one);
        if (k->per_image_calls)
            for (int i = 0; i < CONV_FIELDS; i++)
                if (i != CONV_W && i != CONV_BIAS && tensor_present(t[i]))
                    one[i] = tensor_images(t[i], n, 1);
        for (int row = 0; row < t[CONV_Y].h; row += band)
            run_band(d, one, k, row, t[CONV_Y].h - row < band ? t[CONV_Y].h - row : band);
    }
}

void conv_run(dev *d, field f[CONV_FIELDS], const conv_cut *k)
{
    field *p[CONV_FIELDS];
    for (int i = 0; i < CONV_FIELDS; i++)
        p[i] = &f[i];
    if (k->in_place)
        field_fill(&f[CONV_Y], &f[CONV_RESIDUAL]);
    field_run(d, p, CONV_FIELDS, run_conv_case, k);
}

field conv_result(dev *d, const conv_cut *k)
{
    field f[CONV_FIELDS];
    conv_fields(f, k);
    conv_run(d, f, k);
    field y = field_copy(&f[CONV_Y]);
    conv_free_fields(f);
    return y;
}

double conv_distance(dev *d, const conv_cut *k, double *peak)
{
    dev *ref = field_ref();
    field theirs = conv_result(ref, k), mine = conv_result(d, k);
    const double distance = field_distance(&mine, &theirs);
    *peak = field_peak(&theirs);
    field_free(&theirs);
    field_free(&mine);
    dev_close(ref);
    return distance;
}

const conv_case CONV_CASES[] = {
    { 2, 7, 9, 40, 24, 72, 3, 1, 1, 0, 0, DT_F32, DT_F16, true, false, true, VIEW_VECTORS, 0 },
    { 2, 7, 9, 40, 24, 72, 3, 1, 1, 0, 0, DT_F32, DT_F16, false, false, true, VIEW_VECTORS, 0 },
    /* conv_in, conv_out of UNet and VAE, quant_conv */
    { 2, 9, 11, 4, 0, 96, 3, 1, 1, 0, 0, DT_F32, DT_F16, false, false, false, false, 0 },
    { 2, 12, 8, 96, 0, 4, 3, 1, 1, 0, 0, DT_F32, DT_F16, true, false, false, false, 0 },
    { 1, 21, 30, 3, 0, 32, 3, 1, 1, 0, 0, DT_F32, DT_F16, false, false, false, false, 0 },
    { 1, 21, 30, 32, 0, 3, 3, 1, 1, 0, 0, DT_F32, DT_F16, true, false, false, false, 0 },
    { 1, 7, 9, 8, 0, 8, 1, 1, 0, 0, 0, DT_F32, DT_F16, false, false, false, false, 0 },
    /* resnet: conv1 with an embedding, conv2 with a residual; two sources */
    { 2, 16, 16, 64, 0, 128, 3, 1, 1, 0, 0, DT_F32, DT_F16, true, true, false, false, 0 },
    { 2, 16, 16, 64, 0, 64, 3, 1, 1, 0, 0, DT_F32, DT_BF16, true, false, true, false, 0 },
    { 2, 8, 8, 64, 32, 72, 3, 1, 1, 0, 0, DT_F32, DT_F16, true, true, false, true, 0 },
    { 1, 19, 10, 20, 13, 50, 3, 1, 1, 0, 0, DT_F32, DT_F32, true, false, true, true, 0 },
    /* shortcuts */
    { 2, 10, 10, 64, 32, 48, 1, 1, 0, 0, 0, DT_F32, DT_F16, false, false, false, false, 0 },
    { 2, 17, 13, 64, 0, 200, 1, 1, 0, 0, 0, DT_F32, DT_F16, false, false, true, false, 0 },
    { 1, 5, 7, 30, 0, 33, 1, 1, 0, 0, 0, DT_F32, DT_F16, true, false, false, true, 0 },
    { 1, 6, 5, 384, 330, 40, 1, 1, 0, 0, 0, DT_F32, DT_F16, false, false, false, false, 0 },
    /* down: UNet pads in front, VAE does not; even and odd */
    { 2, 16, 16, 48, 0, 48, 3, 2, 1, 0, 0, DT_F32, DT_F16, false, false, false, false, 0 },
    { 1, 19, 37, 16, 0, 64, 3, 2, 1, 0, 0, DT_F32, DT_F16, false, false, false, true, 0 },
    { 1, 20, 22, 32, 0, 32, 3, 2, 0, 0, 0, DT_F32, DT_F16, false, false, false, false, 0 },
    { 1, 19, 17, 32, 0, 32, 3, 2, 0, 0, 0, DT_F32, DT_F16, false, false, false, false, 0 },
    /* up */
    { 2, 8, 8, 32, 0, 32, 3, 1, 1, 16, 16, DT_F32, DT_F16, false, false, false, false, 0 },
    { 1, 10, 5, 32, 0, 32, 3, 1, 1, 19, 10, DT_F32, DT_F16, false, false, false, false, 0 },
    /* a single pixel; a row; more pixels per unit than fit one product */
    { 1, 1, 1, 16, 0, 16, 3, 1, 1, 0, 0, DT_F32, DT_F16, true, false, false, false, 0 },
    { 1, 1, 40, 16, 0, 16, 3, 1, 1, 0, 0, DT_F32, DT_F16, false, false, false, false, 0 },
    { 1, 12, 130, 16, 0, 24, 3, 1, 1, 0, 0, DT_F32, DT_F16, false, false, false, false, 0 },
    /* the VAE in scaled fp16 */
    { 1, 16, 12, 32, 0, 32, 3, 1, 1, 0, 0, DT_F16, DT_F16, true, false, true, false, 5 },
    { 1, 16, 12, 32, 0, 16, 1, 1, 0, 0, 0, DT_F16, DT_F16, false, false, false, true, -2 },
};

const conv_case CONV_INT8[] = {
    { 2, 16, 16, 64, 0, 128, 3, 1, 1, 0, 0, DT_F32, DT_I8G64, true, true, false, false, 0 },
    { 2, 8, 8, 64, 32, 72, 3, 1, 1, 0, 0, DT_F32, DT_I8G64, true, true, false, true, 0 },
    { 1, 19, 10, 20, 73, 50, 3, 1, 1, 0, 0, DT_F32, DT_I8G64, false, false, true, true, 0 },
    { 2, 10, 10, 64, 32, 200, 1, 1, 0, 0, 0, DT_F32, DT_I8G64, false, false, false, false, 0 },
    { 1, 5, 7, 130, 0, 33, 1, 1, 0, 0, 0, DT_F32, DT_I8G64, true, false, false, true, 0 },
    { 1, 6, 5, 384, 330, 40, 1, 1, 0, 0, 0, DT_F32, DT_I8G64, false, false, false, false, 0 },
    { 1, 19, 37, 64, 0, 64, 3, 2, 1, 0, 0, DT_F32, DT_I8G64, false, false, false, true, 0 },
    { 1, 20, 22, 64, 0, 32, 3, 2, 0, 0, 0, DT_F32, DT_I8G64, false, false, false, false, 0 },
    { 1, 10, 5, 64, 0, 40, 3, 1, 1, 19, 10, DT_F32, DT_I8G64, false, false, false, false, 0 },
    { 1, 16, 12, 64, 0, 32, 3, 1, 1, 0, 0, DT_F16, DT_I8G64, true, false, true, false, 5 },
};

const conv_case CONV_INVARIANT[] = {
    { 2, 35, 21, 48, 24, 160, 3, 1, 1, 0, 0, DT_F32, DT_F16, true, true, true, false, 0 },
    { 2, 67, 40, 32, 0, 130, 3, 2, 1, 0, 0, DT_F32, DT_F16, false, false, false, false, 0 },
    { 2, 19, 12, 32, 0, 70, 3, 1, 1, 37, 24, DT_F32, DT_F16, false, false, false, false, 0 },
    { 2, 35, 21, 48, 24, 300, 1, 1, 0, 0, 0, DT_F32, DT_F16, false, false, true, false, 0 },
    { 2, 35, 21, 48, 0, 300, 1, 1, 0, 0, 0, DT_F32, DT_F16, false, false, true, true, 0 },
    { 2, 35, 21, 48, 90, 160, 3, 1, 1, 0, 0, DT_F32, DT_I8G64, true, true, true, false, 0 },
    { 2, 67, 40, 32, 0, 130, 3, 2, 1, 0, 0, DT_F32, DT_I8G64, false, false, false, false, 0 },
    { 2, 35, 21, 48, 90, 300, 1, 1, 0, 0, 0, DT_F32, DT_I8G64, false, false, true, false, 0 },
    { 1, 67, 40, 32, 0, 64, 3, 1, 1, 0, 0, DT_F16, DT_F16, true, false, true, false, 4 },
};

const int N_CONV_CASES = sizeof CONV_CASES / sizeof CONV_CASES[0];
const int N_CONV_INT8 = sizeof CONV_INT8 / sizeof CONV_INT8[0];
const int N_CONV_INVARIANT = sizeof CONV_INVARIANT / sizeof CONV_INVARIANT[0];
