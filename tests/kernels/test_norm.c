/* tests/kernels/test_norm.c -- norms and elementwise operators on the CPU device against the
 * referee, and against itself cut up differently.
 *
 * Tolerance.  Statistics are doubles on both sides, so an affine agrees to an ulp or two of
 * its own magnitude; a normalised value to a few ulps, plus what storing it costs.
 */
#include "tests/support/field.h"

#include <criterion/criterion.h>
#include <string.h>

enum { Y, A, B, GAIN, BIAS, AFFINE, SUMS, N_FIELDS };

typedef struct norm_case {
    int n, h, w, a, b, groups;
    dtype type;
    int exp2;
    float offset; /* added to the input: a mean far from zero */
    act act;
} norm_case;

static void run_groupnorm(dev *d, const tensor *t, const void *context)
{
    const norm_case *c = context;
    op_groupnorm_sums(d, t[SUMS], t[A], t[B], 0, c->h);
    op_groupnorm(d, t[Y], t[SUMS], c->h, c->w, t[GAIN], t[BIAS], 1e-5f);
}

static void run_groupnorm_each_image(dev *d, const tensor *t, const void *context)
{
    const norm_case *c = context;
    for (int n = 0; n < c->n; n++) {
        const tensor sums = tensor_images(t[SUMS], n, 1);
        op_groupnorm_sums(d, sums, tensor_images(t[A], n, 1),
                          tensor_present(t[B]) ? tensor_images(t[B], n, 1) : t[B], 0, c->h);
        op_groupnorm(d, tensor_images(t[Y], n, 1), sums, c->h, c->w, t[GAIN], t[BIAS], 1e-5f);
    }
}

/* Bands of two units, the last one first. */
static void run_groupnorm_in_bands(dev *d, const tensor *t, const void *context)
{
    const norm_case *c = context;
    const int band = 2 * BAND_UNIT;
    for (int row = (c->h - 1) / band * band; row >= 0; row -= band)
        op_groupnorm_sums(d, t[SUMS], t[A], t[B], row, c->h - row < band ? c->h - row : band);
    op_groupnorm(d, t[Y], t[SUMS], c->h, c->w, t[GAIN], t[BIAS], 1e-5f);
}

static void run_apply(dev *d, const tensor *t, const void *context)
{
    const norm_case *c = context;
    op_apply_norm(d, t[Y], t[A], t[B], t[AFFINE], c->act);
}

static void run_layernorm(dev *d, const tensor *t, const void *context)
{
    (void)context;
    op_layernorm(d, t[Y], t[A], t[GAIN], t[BIAS], 1e-5f);
}

static void run_silu(dev *d, const tensor *t, const void *context)
{
    (void)context;
    op_silu(d, t[Y], t[A]);
}

static void run_convert(dev *d, const tensor *t, const void *context)
{
    (void)context;
    op_convert(d, t[Y], t[A]);
}

static void shift(field *f, float by)
{
    for (size_t p = 0; p < field_pixels(f); p++)
        for (int c = 0; c < f->c; c++)
            field_set(f, p, c, field_at(f, p, c) + by);
}

static void make_fields(field f[N_FIELDS], const norm_case *c)
{
    const int ch = c->a + c->b;
    for (int i = 0; i < N_FIELDS; i++)
        f[i] = (field){ 0 };
    f[A] = field_view(2, c->type, c->n, c->h, c->w, c->a, 2, c->a + 5, c->exp2, 1);
    if (c->b)
        f[B] = field_view(3, c->type, c->n, c->h, c->w, c->b, 1, c->b + 1, c->exp2, 1);
    f[GAIN] = field_random(4, DT_F32, 1, 1, 1, ch, 1);
    f[BIAS] = field_random(5, DT_F32, 1, 1, 1, ch, 1);
    if (c->groups)
        f[SUMS] = field_random(7, DT_F32, c->n, band_units(c->h), c->groups, 4, 1);
    f[AFFINE] = field_random(6, DT_F32, c->n, 1, 2, ch, 1);
    shift(&f[A], c->offset);
}

static void make_output(field f[N_FIELDS], const norm_case *c, field_body *body)
{
    if (body == run_groupnorm)
        f[Y] = field_random(1, DT_F32, c->n, 1, 2, c->a + c->b, 1);
    else
        f[Y] = field_view(1, c->type, c->n, c->h, c->w, c->a + c->b, 3, c->a + c->b + 4, c->exp2,
                          1);
}

static void free_fields(field f[N_FIELDS])
{
    for (int i = 0; i < N_FIELDS; i++)
        field_free(&f[i]);
}

static void run_on(dev *d, field f[N_FIELDS], field_body *body, const norm_case *c)
{
    field *p[N_FIELDS];
    for (int i = 0; i < N_FIELDS; i++)
        p[i] = &f[i];
    field_run(d, p, N_FIELDS, body, c);
}

static void expect_like_ref(dev *cpu, field_body *body, const norm_case *c, double ulps)
{
    field f[N_FIELDS];
    dev *ref = field_ref();

    make_fields(f, c);
    make_output(f, c, body);
    run_on(ref, f, body, c);
    field theirs = field_copy(&f[Y]);
    run_on(cpu, f, body, c);

    const double peak = field_peak(&theirs);
    const double tolerance = ulps * 0x1p-23 * peak + 2 * field_rounding(f[Y].type, peak);
    const double distance = field_distance(&f[Y], &theirs);
    cr_expect(distance <= tolerance, "%d x %dx%d x %d+%d type %d offset %g: off by %g of %g", c->n,
              c->h, c->w, c->a, c->b, c->type, (double)c->offset, distance, tolerance);
    field_free(&theirs);
    free_fields(f);
    dev_close(ref);
}

static const norm_case CASES[] = {
    { 2, 16, 16, 64, 0, 32, DT_F32, 0, 0, ACT_NONE },
    { 2, 9, 21, 24, 40, 4, DT_F32, 0, 0, ACT_SILU },  /* groups of 16: one straddles */
    { 1, 33, 5, 30, 0, 3, DT_F32, 0, 100, ACT_SILU }, /* mean 170 deviations from zero */
    { 2, 7, 5, 12, 4, 2, DT_BF16, 0, 1, ACT_SILU },
    { 1, 40, 9, 32, 0, 8, DT_F16, 6, 0, ACT_SILU },
    { 1, 1, 1, 8, 0, 2, DT_F32, 0, 0, ACT_GELU },
    { 1, 2, 3, 2500, 600, 31, DT_F32, 0, 0, ACT_NONE },
};

enum { N_CASES = sizeof CASES / sizeof CASES[0] };

Test(kernels_norm, groupnorm_agrees_with_the_referee)
{
    dev *cpu = field_cpu(DT_BF16, 2);
    for (int i = 0; i < N_CASES; i++)
        expect_like_ref(cpu, run_groupnorm, &CASES[i], 2);
    dev_close(cpu);
}

Test(kernels_norm, apply_norm_agrees_with_the_referee)
{
    dev *cpu = field_cpu(DT_BF16, 2);
    for (int i = 0; i < N_CASES; i++)
        expect_like_ref(cpu, run_apply, &CASES[i], 4);
    dev_close(cpu);
}

Test(kernels_norm, layernorm_agrees_with_the_referee)
{
    dev *cpu = field_cpu(DT_BF16, 2);
    for (int i = 0; i < N_CASES; i++) {
        norm_case c = CASES[i];
        c.b = 0;
        /* x - mean is exact to an ulp of the mean, which is 170 deviations where it is far. */
        expect_like_ref(cpu, run_layernorm, &c, c.offset > 1 ? 400 : 8);
    }
    dev_close(cpu);
}

Test(kernels_norm, silu_agrees_with_the_referee)
{
    dev *cpu = field_cpu(DT_BF16, 2);
    for (int i = 0; i < N_CASES; i++) {
        norm_case c = CASES[i];
        c.b = 0;
        expect_like_ref(cpu, run_silu, &c, 4);
    }
    dev_close(cpu);
}

Test(kernels_norm, convert_rounds_as_the_formats_say)
{
    dev *cpu = field_cpu(DT_BF16, 2);
    const dtype types[] = { DT_F32, DT_F16, DT_BF16 };
    for (int i = 0; i < 9; i++) {
        field x = field_view(1, types[i / 3], 2, 3, 5, 37, 1, 40, i, 3);
        field y = field_view(2, types[i % 3], 2, 3, 5, 37, 2, 39, -i, 1);
        field expected = field_copy(&y), *p[] = { &y, &x };
        for (size_t k = 0; k < field_pixels(&x); k++)
            for (int c = 0; c < x.c; c++)
                field_set(&expected, k, c, field_at(&x, k, c));
        field_run(cpu, p, 2, run_convert, NULL);
        cr_expect(field_same_bytes(&y, &expected), "%d to %d", types[i / 3], types[i % 3]);
        field_free(&x);
        field_free(&y);
        field_free(&expected);
    }
    dev_close(cpu);
}

Test(kernels_norm, groupnorm_does_not_depend_on_threads_images_or_bands)
{
    const norm_case c = { 3, 43, 17, 40, 24, 4, DT_F32, 0, 1, ACT_NONE };
    field one = { 0 };
    for (int threads = 1; threads <= 3; threads++) {
        field f[N_FIELDS];
        dev *cpu = field_cpu(DT_F32, threads);
        make_fields(f, &c);
        make_output(f, &c, run_groupnorm);
        run_on(cpu, f, run_groupnorm, &c);
        if (threads == 1)
            one = field_copy(&f[Y]);
        cr_expect(field_same_bytes(&f[Y], &one), "%d threads", threads);
        run_on(cpu, f, run_groupnorm_each_image, &c);
        cr_expect(field_same_bytes(&f[Y], &one), "%d threads, image by image", threads);
        run_on(cpu, f, run_groupnorm_in_bands, &c);
        cr_expect(field_same_bytes(&f[Y], &one), "%d threads, in bands", threads);
        free_fields(f);
        dev_close(cpu);
    }
    field_free(&one);
}

static void run_silu_in_place(dev *d, const tensor *t, const void *context)
{
    (void)context;
    op_silu(d, t[0], t[0]);
}

Test(kernels_norm, silu_may_overwrite_its_input)
{
    dev *cpu = field_cpu(DT_F32, 2);
    field x = field_random(1, DT_F32, 1, 4, 9, 21, 4), y = field_copy(&x), z = field_copy(&x);
    field *apart[] = { &y, &x }, *over[] = { &z };
    field_run(cpu, apart, 2, run_silu, NULL);
    field_run(cpu, over, 1, run_silu_in_place, NULL);
    cr_expect(field_same_bytes(&y, &z));
    field_free(&x);
    field_free(&y);
    field_free(&z);
    dev_close(cpu);
}
