/* tests/kernels/test_linear.c -- op_linear on the CPU device against the referee, and
 * against itself cut up differently.
 *
 * Tolerance.  x and w are uniform in [-1, 1], so a product has variance 1/9 and the k-th
 * partial sum of it a magnitude of sqrt(k)/3.  Rounding it errs by 2^-25 of that at most;
 * K such errors add up to a deviation below 2^-25 * K / 4.  K * 2^-24 is eight of these.
 *
 * In BF16 weights are rounded, by 2^-9 of themselves at most: each product then deviates by
 * 2^-9 / 3 / sqrt(3), their sum by sqrt(K) times as much; six of these.
 */
#include "tests/support/linear_case.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

static void expect_cpu_linear_like_ref(dev *cpu, const linear_case *c, bool exact)
{
    double peak;
    const double distance = linear_distance(cpu, c, exact, &peak);
    /* The product of two sums errs by both times the other's magnitude. */
    const double rounded = c->type == DT_BF16 ? 6 * 0x1p-9 * sqrt(c->k) / 3 / sqrt(3) : 0;
    const double sum = (c->k * 0x1p-24 + rounded) * (c->act == ACT_GEGLU ? 2 * sqrt(peak) : 1);
    const double tolerance = sum + 1e-6 * peak + 2 * field_rounding(c->type, peak);
    cr_expect(distance <= tolerance, "%dx%dx%d k %d rows %d type %d act %d: off by %g of %g", c->n,
              c->h, c->w, c->k, c->rows, c->type, c->act, distance, tolerance);
}

Test(kernels_linear, agrees_with_the_referee)
{
    dev *cpu = field_cpu(DT_F32, 2);
    for (int i = 0; i < N_LINEAR_CASES; i++)
        expect_cpu_linear_like_ref(cpu, &LINEAR_CASES[i], false);
    dev_close(cpu);
}

Test(kernels_linear, agrees_with_the_referee_when_activations_are_bf16)
{
    dev *cpu = field_cpu(DT_BF16, 2);
    for (int i = 0; i < N_LINEAR_CASES; i++) {
        linear_case c = LINEAR_CASES[i];
        if (c.type == DT_F32)
            c.type = DT_BF16;
        expect_cpu_linear_like_ref(cpu, &c, false);
    }
    dev_close(cpu);
}

Test(kernels_linear, may_add_to_what_it_overwrites)
{
    const linear_case c = {
        2, 9, 9, 96, 160, DT_F32, DT_F16, ACT_NONE, true, false, true, false, 0
    };
    field f[LINEAR_FIELDS];
    dev *cpu = field_cpu(DT_F32, 2);

    linear_fields(f, &c, false);
    linear_run(cpu, f, c.act);
    field expected = field_copy(&f[LINEAR_Y]);
    linear_run_in_place(cpu, f, c.act);
    cr_expect(field_same_bytes(&f[LINEAR_Y], &expected));
    field_free(&expected);
    linear_free_fields(f);
    dev_close(cpu);
}

/* ---- int8 weights ---- */

Test(kernels_linear, decodes_int8_weights)
{
    dev *f32 = field_cpu(DT_F32, 2), *bf16 = field_cpu(DT_BF16, 2);
    for (int i = 0; i < N_LINEAR_INT8; i++) {
        linear_case c = LINEAR_INT8[i];
        expect_cpu_linear_like_ref(f32, &c, false);
        if (c.type == DT_F32)
            c.type = DT_BF16;
        expect_cpu_linear_like_ref(bf16, &c, false);
    }
    dev_close(f32);
    dev_close(bf16);
}

/* Inputs that int8 holds exactly: only then must integers agree with the referee. */
Test(kernels_linear, multiplies_integers_exactly)
{
    dev *cpu = field_cpu_ints(DT_F32, 2);
    for (int i = 0; i < N_LINEAR_INT8; i++)
        expect_cpu_linear_like_ref(cpu, &LINEAR_INT8[i], true);
    dev_close(cpu);
}

/* K errors of at most half a step of 1/127, each times a weight in [-1, 1], add up to a
 * deviation of sqrt(K) / 127 / 6; five of these, and at least a fifth of one somewhere. */
Test(kernels_linear, loses_what_rounding_the_input_loses)
{
    const linear_case c = { 1,        24,    24,    640,   256,   DT_F32, DT_I8G64,
                            ACT_NONE, false, false, false, false, 0 };
    dev *exact = field_cpu(DT_F32, 2), *int8_math = field_cpu_ints(DT_F32, 2);
    field f[LINEAR_FIELDS];

    linear_fields(f, &c, false);
    linear_run(exact, f, c.act);
    field want = field_copy(&f[LINEAR_Y]);
    linear_run(int8_math, f, c.act);
    const double deviation = sqrt(c.k) / 127 / 6, distance = field_distance(&f[LINEAR_Y], &want);
    cr_expect(distance < 6 * deviation && distance > 0.2 * deviation, "%g of %g", distance,
              deviation);
    field_free(&want);
    linear_free_fields(f);
    dev_close(exact);
    dev_close(int8_math);
}

/* What is not of the compute type (the VAE's images) meets decoded weights. */
Test(kernels_linear, multiplies_integers_only_for_inputs_of_the_compute_type)
{
    const linear_case c = { 1,        12,   12,    64,    64,    DT_F16, DT_I8G64,
                            ACT_NONE, true, false, false, false, 4 };
    dev *plain = field_cpu(DT_F32, 2), *int8_math = field_cpu_ints(DT_F32, 2);
    field f[LINEAR_FIELDS];

    linear_fields(f, &c, false);
    linear_run(plain, f, c.act);
    field want = field_copy(&f[LINEAR_Y]);
    linear_run(int8_math, f, c.act);
    cr_expect(field_same_bytes(&f[LINEAR_Y], &want));
    field_free(&want);
    linear_free_fields(f);
    dev_close(plain);
    dev_close(int8_math);
}

/* ---- invariances: not one bit may differ ---- */

static field result_with_threads(const linear_case *c, int threads)
{
    field f[LINEAR_FIELDS];
    dev *cpu = field_cpu_ints(DT_F32, threads);
    linear_fields(f, c, false);
    linear_run(cpu, f, c->act);
    field y = field_copy(&f[LINEAR_Y]);
    linear_free_fields(f);
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

static void expect_same_cpu_linear_for_all_cuts(dev *cpu, dtype weights)
{
    const linear_case c = { 2,         10,   13,    144,   640,   DT_F32, weights,
                            ACT_GEGLU, true, false, false, false, 0 };
    const linear_cut cuts[] = { { { 640 }, 1, false },
                                { { 128, 384, 128 }, 3, false },
                                { { 256, 128, 256 }, 3, false } };
    field f[LINEAR_FIELDS], first = { 0 };

    linear_fields(f, &c, false);
    for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
        linear_run_chunks(cpu, f, ACT_GEGLU, &cuts[i]);
        if (i == 0)
            first = field_copy(&f[LINEAR_Y]);
        cr_expect(field_same_bytes(&f[LINEAR_Y], &first), "cut %zu", i);
    }
    field_free(&first);
    linear_free_fields(f);
}

Test(kernels_linear, does_not_depend_on_how_the_matrix_is_cut_into_chunks)
{
    dev *floats = field_cpu(DT_F32, 2), *int8_math = field_cpu_ints(DT_F32, 2);
    expect_same_cpu_linear_for_all_cuts(floats, DT_F16);
    expect_same_cpu_linear_for_all_cuts(floats, DT_I8G64);
    expect_same_cpu_linear_for_all_cuts(int8_math, DT_I8G64);
    dev_close(floats);
    dev_close(int8_math);
}

Test(kernels_linear, does_not_depend_on_how_many_images_travel_together)
{
    const linear_case c = { 3,        11,   12,    80,    144,   DT_F32, DT_F16,
                            ACT_NONE, true, false, false, false, 0 };
    field f[LINEAR_FIELDS];
    dev *cpu = field_cpu(DT_F32, 2);

    linear_fields(f, &c, false);
    linear_run(cpu, f, ACT_NONE);
    field together = field_copy(&f[LINEAR_Y]);
    linear_run_images(cpu, f);
    cr_expect(field_same_bytes(&f[LINEAR_Y], &together));
    field_free(&together);
    linear_free_fields(f);
    dev_close(cpu);
}

Test(kernels_linear, fails_the_device_when_the_workspace_is_too_small)
{
    const linear_case c = {
        1, 8, 8, 64, 64, DT_F32, DT_F16, ACT_NONE, false, false, false, false, 0
    };
    field f[LINEAR_FIELDS];
    dev *cpu = field_cpu(DT_F32, 1);
    const epilogue none = { .act = ACT_NONE };
    static char small[64];

    linear_fields(f, &c, false);
    dev_workspace_set(cpu, small, sizeof small);
    linear_once(cpu, tensor_make(f[LINEAR_Y].data, DT_F32, 1, 8, 8, 64),
                tensor_make(f[LINEAR_X].data, DT_F32, 1, 8, 8, 64),
                tensor_make(f[LINEAR_W].data, DT_F16, 64, 1, 1, 64), &none);
    cr_expect(dev_status(cpu) == REFINE_EBUDGET);
    cr_expect(dev_why(cpu)[0] != '\0');
    linear_free_fields(f);
    dev_close(cpu);
}
