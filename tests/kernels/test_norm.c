/* tests/kernels/test_norm.c -- norms and elementwise operators on the CPU device against the
 * referee, and against itself cut up differently.
 *
 * Tolerance.  Statistics are doubles on both sides, so an affine agrees to an ulp or two of
 * its own magnitude; a normalised value to a few ulps, plus what storing it costs.
 */
#include "tests/support/norm_case.h"

#include <criterion/criterion.h>
#include <string.h>

static void expect_cpu_norm_like_ref(dev *cpu, field_body *body, const norm_case *c, double ulps)
{
    double peak;
    const double distance = norm_distance(cpu, body, c, &peak);
    const double tolerance = ulps * 0x1p-23 * peak + 2 * norm_rounding(body, c, peak);
    cr_expect(distance <= tolerance, "%d x %dx%d x %d+%d type %d offset %g: off by %g of %g", c->n,
              c->h, c->w, c->a, c->b, c->type, (double)c->offset, distance, tolerance);
}

Test(kernels_norm, groupnorm_agrees_with_the_referee)
{
    dev *cpu = field_cpu(DT_BF16, 2);
    for (int i = 0; i < N_NORM_CASES; i++)
        expect_cpu_norm_like_ref(cpu, norm_group, &NORM_CASES[i], 2);
    dev_close(cpu);
}

Test(kernels_norm, apply_norm_agrees_with_the_referee)
{
    dev *cpu = field_cpu(DT_BF16, 2);
    for (int i = 0; i < N_NORM_CASES; i++)
        expect_cpu_norm_like_ref(cpu, norm_apply, &NORM_CASES[i], 4);
    dev_close(cpu);
}

Test(kernels_norm, layernorm_agrees_with_the_referee)
{
    dev *cpu = field_cpu(DT_BF16, 2);
    for (int i = 0; i < N_NORM_CASES; i++) {
        norm_case c = NORM_CASES[i];
        c.b = 0;
        /* x - mean is exact to an ulp of the mean, which is 170 deviations where it is far. */
        expect_cpu_norm_like_ref(cpu, norm_layer, &c, c.offset > 1 ? 400 : 8);
    }
    dev_close(cpu);
}

Test(kernels_norm, silu_agrees_with_the_referee)
{
    dev *cpu = field_cpu(DT_BF16, 2);
    for (int i = 0; i < N_NORM_CASES; i++) {
        norm_case c = NORM_CASES[i];
        c.b = 0;
        expect_cpu_norm_like_ref(cpu, norm_silu, &c, 4);
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
        field_run(cpu, p, 2, norm_convert, NULL);
        cr_expect(field_same_bytes(&y, &expected), "%d to %d", types[i / 3], types[i % 3]);
        field_free(&x);
        field_free(&y);
        field_free(&expected);
    }
    dev_close(cpu);
}

/* Sums of squares and squares of sums differ by roundings that are larger than eps. */
Test(kernels_norm, groupnorm_of_one_large_value_is_finite)
{
    static const norm_case CASE = { 1, 9, 7, 6, 0, 2, DT_F32, 0, 0, ACT_NONE };
    dev *cpu = field_cpu(DT_BF16, 2);
    for (int i = 1; i <= 16; i++) {
        field f[NORM_FIELDS];
        norm_fields(f, &CASE, norm_group);
        for (size_t p = 0; p < field_pixels(&f[NORM_A]); p++)
            for (int c = 0; c < CASE.a; c++)
                field_set(&f[NORM_A], p, c, 1234567.0f * (float)i);
        norm_run(cpu, f, norm_group, &CASE);
        cr_expect_eq(field_distance(&f[NORM_Y], &f[NORM_Y]), 0, "value %d", i);
        norm_free_fields(f);
    }
    dev_close(cpu);
}

Test(kernels_norm, groupnorm_does_not_depend_on_threads_images_or_bands)
{
    const norm_case c = { 3, 43, 17, 40, 24, 4, DT_F32, 0, 1, ACT_NONE };
    field one = { 0 };
    for (int threads = 1; threads <= 3; threads++) {
        field f[NORM_FIELDS];
        dev *cpu = field_cpu(DT_F32, threads);
        norm_fields(f, &c, norm_group);
        norm_run(cpu, f, norm_group, &c);
        if (threads == 1)
            one = field_copy(&f[NORM_Y]);
        cr_expect(field_same_bytes(&f[NORM_Y], &one), "%d threads", threads);
        norm_run(cpu, f, norm_group_images, &c);
        cr_expect(field_same_bytes(&f[NORM_Y], &one), "%d threads, image by image", threads);
        norm_run(cpu, f, norm_group_bands, &c);
        cr_expect(field_same_bytes(&f[NORM_Y], &one), "%d threads, in bands", threads);
        norm_free_fields(f);
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
    field_run(cpu, apart, 2, norm_silu, NULL);
    field_run(cpu, over, 1, run_silu_in_place, NULL);
    cr_expect(field_same_bytes(&y, &z));
    field_free(&x);
    field_free(&y);
    field_free(&z);
    dev_close(cpu);
}
