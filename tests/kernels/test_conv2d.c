/* tests/kernels/test_conv2d.c -- op_conv_prepare and op_conv2d on the CPU device against the
 * referee, and against itself cut up differently.
 *
 * Tolerance: as in test_linear.c, K * 2^-24 * (the input's magnitude) for K products of
 * weights in [-1, 1]; the normalised input errs by 2^-22 of its own magnitude more.
 */
#include "tests/support/field.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

enum { Y, A, B, AFFINE, W, BIAS, PER_IMAGE, RESIDUAL, N_FIELDS };

typedef struct conv_case {
    int n, h, w, a, b, rows; /* source size and channels; output channels */
    int kh, stride, pad;
    int to_h, to_w; /* resampled to; 0: not */
    dtype type, weights;
    bool norm, per_image, residual, views;
    int exp2;
} conv_case;

/* How the work is cut; the default is all at once. */
typedef struct conv_cut {
    const conv_case *c;
    int band, chunk; /* rows at a time; 0: all */
    bool detach, in_place, per_image_calls;
} conv_cut;

static int size_in(int source, int to) { return to ? to : source; }

static int size_out(const conv_case *c, int in)
{
    return c->stride == 1 ? in : c->pad ? (in + 1) / 2 : in / 2;
}

static bool exact_inputs; /* of the test's own process */

static void make_fields(field f[N_FIELDS], const conv_case *c)
{
    const int wide = c->views ? 5 : 0, in = c->a + c->b, e = c->exp2;
    const int h = size_out(c, size_in(c->h, c->to_h)), w = size_out(c, size_in(c->w, c->to_w));
    for (int i = 0; i < N_FIELDS; i++)
        f[i] = (field){ 0 };
    f[Y] = field_view(1, c->type, c->n, h, w, c->rows, wide, c->rows + 2 * wide, e, 1);
    f[A] = field_view(2, c->type, c->n, c->h, c->w, c->a, wide, c->a + 2 * wide, e, 1);
    if (c->b)
        f[B] = field_view(3, c->type, c->n, c->h, c->w, c->b, wide, c->b + 2 * wide, e, 1);
    if (exact_inputs) {
        field_make_exact(&f[A]);
        if (c->b)
            field_make_exact(&f[B]);
    }
    if (c->norm)
        f[AFFINE] = field_random(4, DT_F32, c->n, 1, 2, in, 1);
    f[W] = field_random(5, c->weights, c->rows, c->kh, c->kh, in, 1);
    f[BIAS] = field_random(6, DT_F32, 1, 1, 1, c->rows, 1);
    if (c->per_image)
        f[PER_IMAGE] = field_view(7, DT_F32, c->n, 1, 1, c->rows, 2, c->rows + 3, 0, 1);
    if (c->residual)
        f[RESIDUAL] = field_view(8, c->type, c->n, h, w, c->rows, wide, c->rows + 2 * wide, e, 1);
}

static void free_fields(field f[N_FIELDS])
{
    for (int i = 0; i < N_FIELDS; i++)
        field_free(&f[i]);
}

static void convolve_chunks(dev *d, const tensor *t, const conv_source *src, conv_geometry g,
                            const conv_cut *k)
{
    const tensor residual = k->in_place ? t[Y] : t[RESIDUAL];
    const int chunk = k->chunk ? k->chunk : t[W].n;
    for (int row = 0; row < t[W].n; row += chunk) {
        const int rows = t[W].n - row < chunk ? t[W].n - row : chunk;
        epilogue e = { .bias = tensor_channels(t[BIAS], row, rows) };
        if (tensor_present(t[PER_IMAGE]))
            e.per_image = tensor_channels(t[PER_IMAGE], row, rows);
        if (tensor_present(residual))
            e.residual = tensor_channels(residual, row, rows);
        op_conv2d(d, tensor_channels(t[Y], row, rows), src, field_matrix_rows(t[W], row, rows), g,
                  &e);
    }
}

static void run_band(dev *d, const tensor *t, const conv_cut *k, int row0, int rows)
{
    const conv_case *c = k->c;
    const conv_geometry g = { c->kh, c->kh, c->stride, c->pad, row0, rows };
    const conv_input in = { t[A],
                            t[B],
                            t[AFFINE],
                            c->norm,
                            k->detach,
                            size_in(c->h, c->to_h),
                            size_in(c->w, c->to_w),
                            t[W].type == DT_I8G64 };
    const size_t bytes = op_conv_prepare_bytes(d, &in, g);
    void *space = bytes ? dev_alloc(d, bytes, DEV_VRAM) : NULL;
    field_poison(d, space, bytes);
    const conv_source src = op_conv_prepare(d, space, &in, g);
    convolve_chunks(d, t, &src, g, k);
    dev_free(d, space, bytes, DEV_VRAM);
}

static void run_conv(dev *d, const tensor *t, const void *context)
{
    const conv_cut *k = context;
    const int band = k->band ? k->band : t[Y].h;
    for (int n = 0; n < (k->per_image_calls ? t[Y].n : 1); n++) {
        tensor one[N_FIELDS];
        memcpy(one, t, sizeof one);
        if (k->per_image_calls)
            for (int i = 0; i < N_FIELDS; i++)
                if (i != W && i != BIAS && tensor_present(t[i]))
                    one[i] = tensor_images(t[i], n, 1);
        for (int row = 0; row < t[Y].h; row += band)
            run_band(d, one, k, row, t[Y].h - row < band ? t[Y].h - row : band);
    }
}

static void run_on(dev *d, field f[N_FIELDS], const conv_cut *k)
{
    field *p[N_FIELDS];
    for (int i = 0; i < N_FIELDS; i++)
        p[i] = &f[i];
    field_run(d, p, N_FIELDS, run_conv, k);
}

static field result(dev *cpu, const conv_cut *k)
{
    field f[N_FIELDS];
    make_fields(f, k->c);
    run_on(cpu, f, k);
    field y = field_copy(&f[Y]);
    free_fields(f);
    return y;
}

static void expect_like_ref(dev *cpu, const conv_case *c)
{
    const conv_cut whole = { .c = c };
    field f[N_FIELDS];
    dev *ref = field_ref();

    make_fields(f, c);
    run_on(ref, f, &whole);
    field theirs = field_copy(&f[Y]);
    run_on(cpu, f, &whole);

    const double peak = field_peak(&theirs), input = c->norm ? 2 : 1;
    const int k = c->kh * c->kh * (c->a + c->b);
    const double tolerance = k * 0x1p-24 * input + 1e-6 * peak + 2 * field_rounding(c->type, peak);
    const double distance = field_distance(&f[Y], &theirs);
    cr_expect(distance <= tolerance,
              "%d x %dx%d %d+%d -> %d, %dx%d stride %d type %d: off by %g of %g", c->n, c->h, c->w,
              c->a, c->b, c->rows, c->kh, c->kh, c->stride, c->type, distance, tolerance);
    field_free(&theirs);
    free_fields(f);
    dev_close(ref);
}

static const conv_case CASES[] = {
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
    { 1, 17, 13, 64, 0, 200, 1, 1, 0, 0, 0, DT_F32, DT_F16, false, false, true, false, 0 },
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

enum { N_CASES = sizeof CASES / sizeof CASES[0] };

Test(kernels_conv2d, agrees_with_the_referee)
{
    dev *cpu = field_cpu(DT_F32, 2);
    for (int i = 0; i < N_CASES; i++)
        expect_like_ref(cpu, &CASES[i]);
    dev_close(cpu);
}

Test(kernels_conv2d, agrees_with_the_referee_when_activations_are_bf16)
{
    dev *cpu = field_cpu(DT_BF16, 2);
    for (int i = 0; i < N_CASES; i++) {
        conv_case c = CASES[i];
        if (c.type == DT_F32)
            c.type = DT_BF16;
        expect_like_ref(cpu, &c);
    }
    dev_close(cpu);
}

/* ---- int8 weights ---- */

static const conv_case INT8_CASES[] = {
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

enum { N_INT8 = sizeof INT8_CASES / sizeof INT8_CASES[0] };

Test(kernels_conv2d, decodes_int8_weights)
{
    dev *f32 = field_cpu(DT_F32, 2), *bf16 = field_cpu(DT_BF16, 2);
    for (int i = 0; i < N_INT8; i++) {
        conv_case c = INT8_CASES[i];
        expect_like_ref(f32, &c);
        if (c.type == DT_F32)
            c.type = DT_BF16;
        expect_like_ref(bf16, &c);
    }
    dev_close(f32);
    dev_close(bf16);
}

/* Inputs that int8 holds exactly: only then must integers agree with the referee.  With two
 * sources the groups of the second do not begin at its channel 0. */
Test(kernels_conv2d, multiplies_integers_exactly)
{
    dev *cpu = field_cpu_ints(DT_F32, 2);
    exact_inputs = true;
    for (int i = 0; i < N_INT8; i++)
        if (!INT8_CASES[i].norm && (!INT8_CASES[i].b || INT8_CASES[i].a % 64 == 0))
            expect_like_ref(cpu, &INT8_CASES[i]);
    dev_close(cpu);
}

/* Half a step of 1/127 of the group's largest for each of K inputs, as in test_linear.c; what
 * is normalised and through silu lies in [-0.3, 2], so that a step is twice as large. */
Test(kernels_conv2d, loses_what_rounding_the_input_loses)
{
    dev *exact = field_cpu(DT_F32, 2), *ints = field_cpu_ints(DT_F32, 2);
    for (int i = 0; i < N_INT8; i++) {
        const conv_case *c = &INT8_CASES[i];
        const conv_cut whole = { .c = c };
        if (c->type != DT_F32)
            continue;
        field want = result(exact, &whole), got = result(ints, &whole);
        const int k = c->kh * c->kh * (c->a + c->b);
        const double deviation = sqrt(k) / 127 / 6 * (c->norm ? 2 : 1);
        const double distance = field_distance(&got, &want);
        cr_expect(distance < 6 * deviation && distance > 0.1 * deviation, "case %d: %g of %g", i,
                  distance, deviation);
        field_free(&want);
        field_free(&got);
    }
    dev_close(exact);
    dev_close(ints);
}

/* ---- invariances: not one bit may differ ---- */

static const conv_case INVARIANT[] = {
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

enum { N_INVARIANT = sizeof INVARIANT / sizeof INVARIANT[0] };

static void expect_same(dev *d, const conv_cut *k, const field *whole, const char *what, int size)
{
    field y = result(d, k);
    cr_expect(field_same_bytes(&y, whole), "case %d, %s %d", (int)(k->c - INVARIANT), what, size);
    field_free(&y);
}

Test(kernels_conv2d, does_not_depend_on_bands)
{
    dev *cpu = field_cpu_ints(DT_F32, 2);
    for (int i = 0; i < N_INVARIANT; i++) {
        const conv_cut whole = { .c = &INVARIANT[i] };
        field all = result(cpu, &whole);
        for (int band = BAND_UNIT; band <= 4 * BAND_UNIT; band *= 2) {
            const conv_cut k = { .c = &INVARIANT[i], .band = band };
            expect_same(cpu, &k, &all, "band", band);
        }
        field_free(&all);
    }
    dev_close(cpu);
}

Test(kernels_conv2d, does_not_depend_on_how_the_matrix_is_cut_into_chunks)
{
    dev *cpu = field_cpu_ints(DT_F32, 2);
    for (int i = 0; i < N_INVARIANT; i++) {
        const conv_case *c = &INVARIANT[i];
        const conv_cut whole = { .c = c };
        field all = result(cpu, &whole);
        for (int tiles = 1; tiles <= 2; tiles++) {
            const conv_cut k = { .c = c, .chunk = tiles * tile_rows(c->kh, c->kh) };
            expect_same(cpu, &k, &all, "chunk", k.chunk);
        }
        field_free(&all);
    }
    dev_close(cpu);
}

Test(kernels_conv2d, does_not_depend_on_the_number_of_threads)
{
    for (int i = 0; i < N_INVARIANT; i++) {
        const conv_cut whole = { .c = &INVARIANT[i] };
        dev *one = field_cpu_ints(DT_F32, 1);
        field all = result(one, &whole);
        dev_close(one);
        for (int threads = 2; threads <= 3; threads++) {
            dev *many = field_cpu_ints(DT_F32, threads);
            expect_same(many, &whole, &all, "threads", threads);
            dev_close(many);
        }
        field_free(&all);
    }
}

Test(kernels_conv2d, does_not_depend_on_how_many_images_travel_together)
{
    dev *cpu = field_cpu_ints(DT_F32, 2);
    for (int i = 0; i < N_INVARIANT; i++) {
        const conv_cut whole = { .c = &INVARIANT[i] };
        const conv_cut each = { .c = &INVARIANT[i], .per_image_calls = true };
        field all = result(cpu, &whole);
        expect_same(cpu, &each, &all, "images", 1);
        field_free(&all);
    }
    dev_close(cpu);
}

Test(kernels_conv2d, does_not_depend_on_whether_the_input_is_copied)
{
    dev *cpu = field_cpu_ints(DT_F32, 2);
    for (int i = 0; i < N_INVARIANT; i++) {
        const conv_cut whole = { .c = &INVARIANT[i] };
        const conv_cut copied = { .c = &INVARIANT[i], .detach = true };
        field all = result(cpu, &whole);
        expect_same(cpu, &copied, &all, "detached", 1);
        field_free(&all);
    }
    dev_close(cpu);
}

/* ---- laying the output over things ---- */

Test(kernels_conv2d, may_add_to_what_it_overwrites)
{
    const conv_case c = { 2, 13, 14,     32,     0,    80,    3,    1,     1,
                          0, 0,  DT_F32, DT_F16, true, false, true, false, 0 };
    const conv_cut apart = { .c = &c }, over = { .c = &c, .in_place = true };
    field f[N_FIELDS];
    dev *cpu = field_cpu(DT_F32, 2);

    make_fields(f, &c);
    field y = field_copy(&f[RESIDUAL]);
    run_on(cpu, f, &apart);
    field expected = field_copy(&f[Y]);
    memcpy(f[Y].data, y.data, y.bytes);
    run_on(cpu, f, &over);
    cr_expect(field_same_bytes(&f[Y], &expected));
    field_free(&y);
    field_free(&expected);
    free_fields(f);
    dev_close(cpu);
}

/* The second half of a VAE block whose channels shrink: band by band, over its own input. */
static void run_over_input(dev *d, const tensor *t, const void *context)
{
    const int rows = *(const int *)context;
    tensor y = t[0];
    y.c = y.stride = t[1].n;
    for (int row = 0; row < y.h; row += BAND_UNIT) {
        const conv_geometry g = { 1, 1, 1, 0, row, y.h - row < rows ? y.h - row : rows };
        const conv_input in = { .a = t[0], .detach = true, .h = y.h, .w = y.w };
        const size_t bytes = op_conv_prepare_bytes(d, &in, g);
        void *space = dev_alloc(d, bytes, DEV_VRAM);
        const conv_source src = op_conv_prepare(d, space, &in, g);
        const epilogue none = { .act = ACT_NONE };
        op_conv2d(d, y, &src, t[1], g, &none);
        dev_free(d, space, bytes, DEV_VRAM);
    }
}

Test(kernels_conv2d, may_be_laid_over_its_detached_input)
{
    const int rows = BAND_UNIT, h = 20, w = 11, c_in = 64, c_out = 32;
    field x = field_random(1, DT_F32, 1, h, w, c_in, 1),
          weights = field_random(2, DT_F16, c_out, 1, 1, c_in, 1);
    field mine = field_copy(&x), theirs = field_copy(&x);
    field *on_cpu[] = { &mine, &weights }, *on_ref[] = { &theirs, &weights };
    dev *cpu = field_cpu(DT_F32, 2), *ref = field_ref();

    field_run(cpu, on_cpu, 2, run_over_input, &rows);
    field_run(ref, on_ref, 2, run_over_input, &rows);
    mine.w = theirs.w = w / 2; /* what was written, as pixels of the old stride */
    cr_expect(field_distance(&mine, &theirs) <= c_in * 0x1p-24 + 1e-5);
    field_free(&x);
    field_free(&weights);
    field_free(&mine);
    field_free(&theirs);
    dev_close(cpu);
    dev_close(ref);
}
