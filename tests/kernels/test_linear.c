/* tests/kernels/test_linear.c -- op_linear on the CPU device against the referee, and
 * against itself cut up differently.
 *
 * Tolerance.  x and w are uniform in [-1, 1], so a product has variance 1/9 and the k-th
 * partial sum of it a magnitude of sqrt(k)/3.  Rounding it errs by 2^-25 of that at most;
 * K such errors add up to a deviation below 2^-25 * K / 4.  K * 2^-24 is eight of these.
 */
#include "tests/support/field.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

enum { Y, X, W, BIAS, PER_IMAGE, RESIDUAL, N_FIELDS };

typedef struct linear_case {
    int n, h, w, k, rows;
    dtype type, weights;
    act act;
    bool bias, per_image, residual, views;
    int exp2;
} linear_case;

static void run_linear(dev *d, const tensor *t, const void *context)
{
    const act *f = context;
    const epilogue e = { t[BIAS], t[PER_IMAGE], t[RESIDUAL], *f };
    op_linear(d, t[Y], t[X], t[W], &e);
}

/* The residual is y itself: it holds what is to be added. */
static void run_in_place(dev *d, const tensor *t, const void *context)
{
    const act *f = context;
    const epilogue e = { t[BIAS], t[PER_IMAGE], t[Y], *f };
    op_linear(d, t[Y], t[X], t[W], &e);
}

static bool exact_inputs; /* of the test's own process */

static void make_fields(field f[N_FIELDS], const linear_case *c)
{
    const int out = c->act == ACT_GEGLU ? c->rows / 2 : c->rows, wide = c->views ? 7 : 0;
    const int e = c->exp2;
    for (int i = 0; i < N_FIELDS; i++)
        f[i] = (field){ 0 };
    f[Y] = field_view(1, c->type, c->n, c->h, c->w, out, wide, out + 2 * wide, e, 1);
    f[X] = field_view(2, c->type, c->n, c->h, c->w, c->k, wide, c->k + 2 * wide, e, 1);
    if (exact_inputs)
        field_make_exact(&f[X]);
    f[W] = field_random(3, c->weights, c->rows, 1, 1, c->k, 1);
    if (c->bias)
        f[BIAS] = field_random(4, DT_F32, 1, 1, 1, c->rows, 1);
    if (c->per_image)
        f[PER_IMAGE] = field_view(5, DT_F32, c->n, 1, 1, out, 3, out + 5, 0, 1);
    if (c->residual)
        f[RESIDUAL] = field_view(6, c->type, c->n, c->h, c->w, out, wide, out + 2 * wide, e, 1);
}

static void free_fields(field f[N_FIELDS])
{
    for (int i = 0; i < N_FIELDS; i++)
        field_free(&f[i]);
}

static void run_on(dev *d, field f[N_FIELDS], field_body *body, act a)
{
    field *p[N_FIELDS];
    for (int i = 0; i < N_FIELDS; i++)
        p[i] = &f[i];
    field_run(d, p, N_FIELDS, body, &a);
}

static void expect_like_ref(dev *cpu, const linear_case *c)
{
    field f[N_FIELDS];
    dev *ref = field_ref();

    make_fields(f, c);
    field mine = field_copy(&f[Y]), theirs = field_copy(&f[Y]);
    run_on(ref, f, run_linear, c->act);
    theirs = (field_free(&theirs), field_copy(&f[Y]));
    memcpy(f[Y].data, mine.data, mine.bytes);
    run_on(cpu, f, run_linear, c->act);

    /* The product of two sums errs by both times the other's magnitude. */
    const double peak = field_peak(&theirs);
    const double sum = c->k * 0x1p-24 * (c->act == ACT_GEGLU ? 2 * sqrt(peak) : 1);
    const double tolerance = sum + 1e-6 * peak + 2 * field_rounding(c->type, peak);
    const double distance = field_distance(&f[Y], &theirs);
    cr_expect(distance <= tolerance, "%dx%dx%d k %d rows %d type %d act %d: off by %g of %g", c->n,
              c->h, c->w, c->k, c->rows, c->type, c->act, distance, tolerance);
    field_free(&mine);
    field_free(&theirs);
    free_fields(f);
    dev_close(ref);
}

static const linear_case CASES[] = {
    { 1, 1, 77, 128, 128, DT_F32, DT_F16, ACT_NONE, true, false, false, false, 0 },
    { 2, 16, 16, 96, 384, DT_F32, DT_F16, ACT_NONE, false, false, true, false, 0 },
    { 2, 5, 7, 64, 200, DT_F32, DT_F16, ACT_SILU, true, true, true, false, 0 },
    { 1, 1, 1, 320, 256, DT_F32, DT_F32, ACT_SILU, true, true, false, false, 0 },
    { 3, 1, 9, 40, 24, DT_F32, DT_BF16, ACT_GELU, true, false, true, true, 0 },
    { 2, 8, 8, 64, 512, DT_F32, DT_F16, ACT_GEGLU, true, false, false, false, 0 },
    { 1, 3, 67, 33, 50, DT_F32, DT_F16, ACT_GEGLU, true, false, true, true, 0 },
    { 1, 20, 20, 1280, 130, DT_F32, DT_F16, ACT_NONE, true, false, true, true, 0 },
    { 1, 12, 12, 64, 64, DT_F16, DT_F16, ACT_NONE, true, false, true, false, 4 },
    { 1, 12, 12, 64, 64, DT_F16, DT_F16, ACT_NONE, true, false, true, true, -3 },
};

Test(kernels_linear, agrees_with_the_referee)
{
    dev *cpu = field_cpu(DT_F32, 2);
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++)
        expect_like_ref(cpu, &CASES[i]);
    dev_close(cpu);
}

Test(kernels_linear, agrees_with_the_referee_when_activations_are_bf16)
{
    dev *cpu = field_cpu(DT_BF16, 2);
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        linear_case c = CASES[i];
        if (c.type == DT_F32)
            c.type = DT_BF16;
        expect_like_ref(cpu, &c);
    }
    dev_close(cpu);
}

Test(kernels_linear, leaves_what_lies_outside_the_view_alone)
{
    const linear_case c = {
        1, 4, 5, 48, 40, DT_F32, DT_F16, ACT_NONE, true, false, false, true, 0
    };
    field f[N_FIELDS];
    dev *cpu = field_cpu(DT_F32, 2);

    make_fields(f, &c);
    field before = field_copy(&f[Y]);
    run_on(cpu, f, run_linear, c.act);
    for (size_t p = 0; p < field_pixels(&f[Y]); p++)
        for (int i = -f[Y].c0; i < f[Y].stride - f[Y].c0; i++)
            if (i < 0 || i >= f[Y].c)
                cr_assert(field_at(&f[Y], p, i) == field_at(&before, p, i));
    field_free(&before);
    free_fields(f);
    dev_close(cpu);
}

Test(kernels_linear, may_add_to_what_it_overwrites)
{
    const linear_case c = {
        2, 9, 9, 96, 160, DT_F32, DT_F16, ACT_NONE, true, false, true, false, 0
    };
    field f[N_FIELDS];
    dev *cpu = field_cpu(DT_F32, 2);

    make_fields(f, &c);
    field y = field_copy(&f[RESIDUAL]);
    run_on(cpu, f, run_linear, c.act);
    field expected = field_copy(&f[Y]);
    memcpy(f[Y].data, y.data, y.bytes);
    run_on(cpu, f, run_in_place, c.act);
    cr_expect(field_same_bytes(&f[Y], &expected));
    field_free(&y);
    field_free(&expected);
    free_fields(f);
    dev_close(cpu);
}

/* ---- int8 weights ---- */

static const linear_case INT8_CASES[] = {
    { 1, 1, 77, 128, 128, DT_F32, DT_I8G64, ACT_NONE, true, false, false, false, 0 },
    { 2, 5, 7, 64, 200, DT_F32, DT_I8G64, ACT_SILU, true, true, true, false, 0 },
    { 3, 1, 9, 40, 24, DT_F32, DT_I8G64, ACT_GELU, true, false, true, true, 0 },
    { 1, 3, 67, 130, 50, DT_F32, DT_I8G64, ACT_GEGLU, true, false, true, true, 0 },
    { 2, 16, 16, 640, 268, DT_F32, DT_I8G64, ACT_NONE, true, false, true, true, 0 },
    { 1, 12, 12, 64, 64, DT_F16, DT_I8G64, ACT_NONE, true, false, true, false, 4 },
};

enum { N_INT8 = sizeof INT8_CASES / sizeof INT8_CASES[0] };

Test(kernels_linear, decodes_int8_weights)
{
    dev *f32 = field_cpu(DT_F32, 2), *bf16 = field_cpu(DT_BF16, 2);
    for (int i = 0; i < N_INT8; i++) {
        linear_case c = INT8_CASES[i];
        expect_like_ref(f32, &c);
        if (c.type == DT_F32)
            c.type = DT_BF16;
        expect_like_ref(bf16, &c);
    }
    dev_close(f32);
    dev_close(bf16);
}

/* Inputs that int8 holds exactly: only then must integers agree with the referee. */
Test(kernels_linear, multiplies_integers_exactly)
{
    dev *cpu = field_cpu_ints(DT_F32, 2);
    exact_inputs = true;
    for (int i = 0; i < N_INT8; i++)
        expect_like_ref(cpu, &INT8_CASES[i]);
    dev_close(cpu);
}

/* K errors of at most half a step of 1/127, each times a weight in [-1, 1], add up to a
 * deviation of sqrt(K) / 127 / 6; five of these, and at least a fifth of one somewhere. */
Test(kernels_linear, loses_what_rounding_the_input_loses)
{
    const linear_case c = { 1,        24,    24,    640,   256,   DT_F32, DT_I8G64,
                            ACT_NONE, false, false, false, false, 0 };
    dev *exact = field_cpu(DT_F32, 2), *ints = field_cpu_ints(DT_F32, 2);
    field f[N_FIELDS];

    make_fields(f, &c);
    run_on(exact, f, run_linear, c.act);
    field want = field_copy(&f[Y]);
    run_on(ints, f, run_linear, c.act);
    const double deviation = sqrt(c.k) / 127 / 6, distance = field_distance(&f[Y], &want);
    cr_expect(distance < 6 * deviation && distance > 0.2 * deviation, "%g of %g", distance,
              deviation);
    field_free(&want);
    free_fields(f);
    dev_close(exact);
    dev_close(ints);
}

/* What is not of the compute type (the VAE's pictures) meets decoded weights. */
Test(kernels_linear, multiplies_integers_only_for_inputs_of_the_compute_type)
{
    const linear_case c = { 1,        12,   12,    64,    64,    DT_F16, DT_I8G64,
                            ACT_NONE, true, false, false, false, 4 };
    dev *plain = field_cpu(DT_F32, 2), *ints = field_cpu_ints(DT_F32, 2);
    field f[N_FIELDS];

    make_fields(f, &c);
    run_on(plain, f, run_linear, c.act);
    field want = field_copy(&f[Y]);
    run_on(ints, f, run_linear, c.act);
    cr_expect(field_same_bytes(&f[Y], &want));
    field_free(&want);
    free_fields(f);
    dev_close(plain);
    dev_close(ints);
}

/* ---- invariances: not one bit may differ ---- */

static field result_with_threads(const linear_case *c, int threads)
{
    field f[N_FIELDS];
    dev *cpu = field_cpu_ints(DT_F32, threads);
    make_fields(f, c);
    run_on(cpu, f, run_linear, c->act);
    field y = field_copy(&f[Y]);
    free_fields(f);
    dev_close(cpu);
    return y;
}

static void expect_same_for_all_threads(dtype weights)
{
    const linear_case c = { 2,        17,   19,   208,   300,   DT_F32, weights,
                            ACT_GELU, true, true, false, false, 0 };
    field one = result_with_threads(&c, 1);
    for (int threads = 2; threads <= 3; threads++) {
        field many = result_with_threads(&c, threads);
        cr_expect(field_same_bytes(&one, &many), "%d threads", threads);
        field_free(&many);
    }
    field_free(&one);
}

Test(kernels_linear, does_not_depend_on_the_number_of_threads)
{
    expect_same_for_all_threads(DT_F16);
    expect_same_for_all_threads(DT_I8G64);
}

typedef struct cut {
    int rows[4], n;
} cut;

static void run_chunks(dev *d, const tensor *t, const void *context)
{
    const cut *k = context;
    int row = 0;
    for (int i = 0; i < k->n; i++) {
        const tensor w = field_matrix_rows(t[W], row, k->rows[i]);
        const epilogue e = { .bias = tensor_channels(t[BIAS], row, w.n), .act = ACT_GEGLU };
        op_linear(d, tensor_channels(t[Y], row / 2, w.n / 2), t[X], w, &e);
        row += w.n;
    }
}

static void expect_same_for_all_cuts(dev *cpu, dtype weights)
{
    const linear_case c = { 2,         10,   13,    144,   640,   DT_F32, weights,
                            ACT_GEGLU, true, false, false, false, 0 };
    const cut cuts[] = { { { 640 }, 1 }, { { 128, 384, 128 }, 3 }, { { 256, 128, 256 }, 3 } };
    field f[N_FIELDS], first = { 0 };
    field *p[N_FIELDS];

    make_fields(f, &c);
    for (int i = 0; i < N_FIELDS; i++)
        p[i] = &f[i];
    for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
        field_run(cpu, p, N_FIELDS, run_chunks, &cuts[i]);
        if (i == 0)
            first = field_copy(&f[Y]);
        cr_expect(field_same_bytes(&f[Y], &first), "cut %zu", i);
    }
    field_free(&first);
    free_fields(f);
}

Test(kernels_linear, does_not_depend_on_how_the_matrix_is_cut_into_chunks)
{
    dev *floats = field_cpu(DT_F32, 2), *ints = field_cpu_ints(DT_F32, 2);
    expect_same_for_all_cuts(floats, DT_F16);
    expect_same_for_all_cuts(floats, DT_I8G64);
    expect_same_for_all_cuts(ints, DT_I8G64);
    dev_close(floats);
    dev_close(ints);
}

static void run_each_image(dev *d, const tensor *t, const void *context)
{
    (void)context;
    for (int n = 0; n < t[Y].n; n++) {
        const epilogue e = { .bias = t[BIAS] };
        op_linear(d, tensor_images(t[Y], n, 1), tensor_images(t[X], n, 1), t[W], &e);
    }
}

Test(kernels_linear, does_not_depend_on_how_many_images_travel_together)
{
    const linear_case c = { 3,        11,   12,    80,    144,   DT_F32, DT_F16,
                            ACT_NONE, true, false, false, false, 0 };
    field f[N_FIELDS];
    dev *cpu = field_cpu(DT_F32, 2);

    make_fields(f, &c);
    run_on(cpu, f, run_linear, ACT_NONE);
    field together = field_copy(&f[Y]);
    run_on(cpu, f, run_each_image, ACT_NONE);
    cr_expect(field_same_bytes(&f[Y], &together));
    field_free(&together);
    free_fields(f);
    dev_close(cpu);
}

Test(kernels_linear, fails_the_device_when_the_workspace_is_too_small)
{
    const linear_case c = {
        1, 8, 8, 64, 64, DT_F32, DT_F16, ACT_NONE, false, false, false, false, 0
    };
    field f[N_FIELDS];
    dev *cpu = field_cpu(DT_F32, 1);
    const epilogue none = { .act = ACT_NONE };
    static char small[64];

    make_fields(f, &c);
    dev_workspace_set(cpu, small, sizeof small);
    op_linear(cpu, tensor_make(f[Y].data, DT_F32, 1, 8, 8, 64),
              tensor_make(f[X].data, DT_F32, 1, 8, 8, 64),
              tensor_make(f[W].data, DT_F16, 64, 1, 1, 64), &none);
    cr_expect(dev_status(cpu) == REFINE_EBUDGET);
    cr_expect(dev_why(cpu)[0] != '\0');
    free_fields(f);
    dev_close(cpu);
}
