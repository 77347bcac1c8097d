/* tests/support/linear_case.c -- the cases and how one is run. */
#include "tests/support/linear_case.h"

#include <string.h>

typedef struct prepared {
    void *space;
    size_t bytes;
    prepared_input x;
} prepared;

/* poisoned: the device has memory, and is no plan. */
static prepared prepare_linear_input(dev *d, tensor x, tensor w, bool poisoned)
{
    const matrix_input in = linear_input(x, w.type == DT_I8G64);
    const conv_geometry g = linear_geometry(x);
    prepared p = { .bytes = op_prepare_bytes(d, &in, g) };
    p.space = p.bytes ? dev_alloc(d, p.bytes, DEV_VRAM) : NULL;
    if (poisoned)
        field_poison(d, p.space, p.bytes);
    p.x = op_prepare(d, p.space, &in, g);
    return p;
}

void linear_once(dev *d, tensor y, tensor x, tensor w, const epilogue *e)
{
    const prepared p = prepare_linear_input(d, x, w, x.data != NULL);
    const matrix_rows rows = one_block(w);
    op_linear(d, y, &p.x, &rows, e);
    dev_free(d, p.space, p.bytes, DEV_VRAM);
}

static void linear_whole(dev *d, const tensor *t, const void *context)
{
    const act *f = context;
    const epilogue e = { t[LINEAR_BIAS], t[LINEAR_PER_IMAGE], t[LINEAR_RESIDUAL], *f };
    linear_once(d, t[LINEAR_Y], t[LINEAR_X], t[LINEAR_W], &e);
}

static void linear_in_place(dev *d, const tensor *t, const void *context)
{
    const act *f = context;
    const epilogue e = { t[LINEAR_BIAS], t[LINEAR_PER_IMAGE], t[LINEAR_Y], *f };
    linear_once(d, t[LINEAR_Y], t[LINEAR_X], t[LINEAR_W], &e);
}

typedef struct chunked {
    linear_cut cut;
    act act;
} chunked;

static void by_chunks(dev *d, const tensor *t, const void *context)
{
    const chunked *c = context;
    const linear_cut *k = &c->cut;
    const int half = c->act == ACT_GEGLU ? 2 : 1;
    const prepared p = prepare_linear_input(d, t[LINEAR_X], t[LINEAR_W], t[LINEAR_X].data != NULL);
    const int step = k->together ? k->n : 1;
    int row = 0;
    for (int i = 0; i < k->n; i += step) {
        field_blocks w = field_blocks_of(d, t[LINEAR_W], row, k->rows + i, step);
        const int rows = w.w.all.n;
        const epilogue e = { .bias = tensor_channels(t[LINEAR_BIAS], row, rows), .act = c->act };
        op_linear(d, tensor_channels(t[LINEAR_Y], row / half, rows / half), &p.x, &w.w, &e);
        field_blocks_free(d, &w);
        row += rows;
    }
    dev_free(d, p.space, p.bytes, DEV_VRAM);
}

static void linear_by_images(dev *d, const tensor *t, const void *context)
{
    (void)context;
    for (int n = 0; n < t[LINEAR_Y].n; n++) {
        const epilogue e = { .bias = t[LINEAR_BIAS] };
        linear_once(d, tensor_images(t[LINEAR_Y], n, 1), tensor_images(t[LINEAR_X], n, 1),
                    t[LINEAR_W], &e);
    }
}

void linear_fields(field f[LINEAR_FIELDS], const linear_case *c, bool exact)
{
    const int out = c->act == ACT_GEGLU ? c->rows / 2 : c->rows, wide = view_margin(c->views, 7);
    const int e = c->exp2;
    for (int i = 0; i < LINEAR_FIELDS; i++)
        f[i] = (field){ 0 };
    f[LINEAR_Y] = field_view(1, c->type, c->n, c->h, c->w, out, wide, out + 2 * wide, e, 1);
    f[LINEAR_X] = field_view(2, c->type, c->n, c->h, c->w, c->k, wide, c->k + 2 * wide, e, 1);
    if (exact)
        field_make_exact(&f[LINEAR_X]);
    f[LINEAR_W] = field_random(3, c->weights, c->rows, 1, 1, c->k, 1);
    if (c->bias)
        f[LINEAR_BIAS] = field_random(4, DT_F32, 1, 1, 1, c->rows, 1);
    if (c->per_image)
        f[LINEAR_PER_IMAGE] = field_view(5, DT_F32, c->n, 1, 1, out, 3, out + 5, 0, 1);
    if (c->residual)
        f[LINEAR_RESIDUAL] = field_view(6, c->type, c->n, c->h, c->w, out, wide, out + 2 * wide, e,
                                        1);
}

void linear_free_fields(field f[LINEAR_FIELDS])
{
    for (int i = 0; i < LINEAR_FIELDS; i++)
        field_free(&f[i]);
}

static void run_linear_case(dev *d, field f[LINEAR_FIELDS], field_body *body, const void *context)
{
    field *p[LINEAR_FIELDS];
    for (int i = 0; i < LINEAR_FIELDS; i++)
        p[i] = &f[i];
    field_run(d, p, LINEAR_FIELDS, body, context);
}

void linear_run(dev *d, field f[LINEAR_FIELDS], act a) { run_linear_case(d, f, linear_whole, &a); }
void linear_run_images(dev *d, field f[LINEAR_FIELDS])
{
    run_linear_case(d, f, linear_by_images, NULL);
}

void linear_run_in_place(dev *d, field f[LINEAR_FIELDS], act a)
{
    field_fill(&f[LINEAR_Y], &f[LINEAR_RESIDUAL]);
    run_linear_case(d, f, linear_in_place, &a);
}

void linear_run_chunks(dev *d, field f[LINEAR_FIELDS], act a, const linear_cut *cut)
{
    const chunked c = { *cut, a };
    run_linear_case(d, f, by_chunks, &c);
}

double linear_distance(dev *d, const linear_case *c, bool exact, double *peak)
{
    field f[LINEAR_FIELDS];
    dev *ref = field_ref();

    linear_fields(f, c, exact);
    field before = field_copy(&f[LINEAR_Y]);
    linear_run(ref, f, c->act);
    field theirs = field_copy(&f[LINEAR_Y]);
    memcpy(f[LINEAR_Y].data, before.data, before.bytes);
    linear_run(d, f, c->act);
    const double distance = field_distance(&f[LINEAR_Y], &theirs);
    *peak = field_peak(&theirs);
    field_free(&before);
    field_free(&theirs);
    linear_free_fields(f);
    dev_close(ref);
    return distance;
}

const linear_case LINEAR_CASES[] = {
    { 2, 7, 9, 136, 72, DT_F32, DT_F16, ACT_NONE, true, false, true, VIEW_VECTORS, 0 },
    { 1, 1, 77, 128, 128, DT_F32, DT_F16, ACT_NONE, true, false, false, false, 0 },
    { 2, 16, 16, 96, 384, DT_F32, DT_F16, ACT_NONE, false, false, true, false, 0 },
    { 2, 5, 7, 64, 200, DT_F32, DT_F16, ACT_SILU, true, true, true, false, 0 },
    { 1, 1, 1, 320, 256, DT_F32, DT_F32, ACT_SILU, true, true, false, false, 0 },
    { 3, 1, 9, 40, 24, DT_F32, DT_BF16, ACT_GELU, true, false, true, true, 0 },
    { 3, 1, 9, 40, 27, DT_F32, DT_F16, ACT_QUICK_GELU, true, false, true, true, 0 },
    { 2, 8, 8, 64, 512, DT_F32, DT_F16, ACT_GEGLU, true, false, false, false, 0 },
    { 1, 3, 67, 33, 50, DT_F32, DT_F16, ACT_GEGLU, true, false, true, true, 0 },
    { 1, 20, 20, 1280, 130, DT_F32, DT_F16, ACT_NONE, true, false, true, true, 0 },
    { 1, 12, 12, 64, 64, DT_F16, DT_F16, ACT_NONE, true, false, true, false, 4 },
    { 1, 12, 12, 64, 64, DT_F16, DT_F16, ACT_NONE, true, false, true, true, -3 },
    { 1, 5, 12, 64, 64, DT_F32, DT_F16, ACT_NONE, true, false, true, true, 3 },
    /* more of the matrix than is laid out at a time */
    { 1, 1, 2, 2048, 1300, DT_F32, DT_F16, ACT_NONE, true, false, false, false, 0 },
};

const linear_case LINEAR_INT8[] = {
    { 1, 1, 77, 128, 128, DT_F32, DT_I8G64, ACT_NONE, true, false, false, false, 0 },
    { 2, 5, 7, 64, 200, DT_F32, DT_I8G64, ACT_SILU, true, true, true, false, 0 },
    { 3, 1, 9, 40, 24, DT_F32, DT_I8G64, ACT_GELU, true, false, true, true, 0 },
    { 1, 3, 67, 130, 50, DT_F32, DT_I8G64, ACT_GEGLU, true, false, true, true, 0 },
    { 2, 16, 16, 640, 268, DT_F32, DT_I8G64, ACT_NONE, true, false, true, true, 0 },
    { 1, 12, 12, 64, 64, DT_F16, DT_I8G64, ACT_NONE, true, false, true, false, 4 },
};

const int N_LINEAR_CASES = sizeof LINEAR_CASES / sizeof LINEAR_CASES[0];
const int N_LINEAR_INT8 = sizeof LINEAR_INT8 / sizeof LINEAR_INT8[0];
