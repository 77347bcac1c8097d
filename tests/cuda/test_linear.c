/* tests/cuda/test_linear.c -- op_linear on the CUDA device against the referee, in each way of
 * multiplying, and against itself cut up differently.
 *
 * Tolerance: that of tests/kernels/test_linear.c, and what fp16 operands cost.
 */
#include "tests/support/cuda_math.h"
#include "tests/support/linear_case.h"

#include <criterion/criterion.h>
#include <math.h>

static void expect_cuda_linear_like_ref(dev *d, cuda_math m, const linear_case *c)
{
    double peak;
    const double distance = linear_distance(d, c, false, &peak);
    const double sum = c->k * 0x1p-24 + cuda_math_error(m, c->k);
    const double tolerance = sum * (c->act == ACT_GEGLU ? 2 * sqrt(peak) : 1) + 1e-6 * peak +
                             2 * field_rounding(c->type, peak);
    cuda_math_note(c->weights == DT_I8G64 ? "linear int8" : "linear", m, distance, tolerance, peak);
    cr_expect(distance <= tolerance,
              "math %d: %dx%dx%d k %d rows %d type %d act %d: off by %g of %g", m, c->n, c->h, c->w,
              c->k, c->rows, c->type, c->act, distance, tolerance);
}

static void expect_linear_cases(cuda_math m, const linear_case *cases, int n)
{
    dev *d = cuda_math_open(m);
    for (int i = 0; i < n; i++) {
        linear_case c = cases[i];
        if (CUDA_MATH_ALL_TYPES)
            expect_cuda_linear_like_ref(d, m, &c);
        c.type = cuda_math_type(m, c.exp2);
        expect_cuda_linear_like_ref(d, m, &c);
    }
    dev_close(d);
}

Test(cuda_linear, agrees_with_the_referee_on_tensor_cores)
{
    expect_linear_cases(CUDA_TENSOR_CORES, LINEAR_CASES, N_LINEAR_CASES);
    expect_linear_cases(CUDA_TENSOR_CORES, LINEAR_INT8, N_LINEAR_INT8);
}

Test(cuda_linear, agrees_with_the_referee_in_pairs_of_halves)
{
    expect_linear_cases(CUDA_HALF2, LINEAR_CASES, N_LINEAR_CASES);
    expect_linear_cases(CUDA_HALF2, LINEAR_INT8, N_LINEAR_INT8);
}

Test(cuda_linear, agrees_with_the_referee_in_f32)
{
    expect_linear_cases(CUDA_F32, LINEAR_CASES, N_LINEAR_CASES);
    expect_linear_cases(CUDA_F32, LINEAR_INT8, N_LINEAR_INT8);
}

/* Real widths: 1536 in, GEGLU; and few rows, as chunks of the lowest level have. */
Test(cuda_linear, agrees_with_the_referee_on_layers_of_the_model)
{
    static const linear_case LAYERS[] = {
        { 2, 8, 8, 1536, 256, DT_F16, DT_F16, ACT_GEGLU, true, false, false, false, 0 },
        { 2, 8, 8, 1536, 128, DT_F16, DT_I8G64, ACT_NONE, true, false, true, false, 0 },
        { 1, 1, 77, 1280, 128, DT_F32, DT_F16, ACT_GELU, true, false, false, false, 0 },
    };
    expect_linear_cases(CUDA_TENSOR_CORES, LAYERS, sizeof LAYERS / sizeof LAYERS[0]);
}

/* ---- invariances: not one bit may differ ---- */

static void expect_same_cuda_linear_for_all_cuts(cuda_math m, dtype type, dtype weights)
{
    const linear_case c = { 2,         10,   13,    144,   640,   type, weights,
                            ACT_GEGLU, true, false, false, false, 0 };
    const linear_cut cuts[] = { { { 640 }, 1, false },
                                { { 128, 384, 128 }, 3, false },
                                { { 256, 128, 256 }, 3, false },
                                { { 256, 128, 256 }, 3, true },
                                { { 128, 128, 128, 128, 128 }, 5, true } };
    field f[LINEAR_FIELDS], first = { 0 };
    dev *d = cuda_math_open(m);

    linear_fields(f, &c, false);
    for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
        linear_run_chunks(d, f, ACT_GEGLU, &cuts[i]);
        if (i == 0)
            first = field_copy(&f[LINEAR_Y]);
        cr_expect(field_same_bytes(&f[LINEAR_Y], &first), "math %d, cut %zu", m, i);
    }
    field_free(&first);
    linear_free_fields(f);
    dev_close(d);
}

Test(cuda_linear, does_not_depend_on_how_the_matrix_is_cut_into_chunks)
{
    expect_same_cuda_linear_for_all_cuts(CUDA_TENSOR_CORES, DT_F16, DT_F16);
    expect_same_cuda_linear_for_all_cuts(CUDA_TENSOR_CORES, DT_F32, DT_I8G64);
    expect_same_cuda_linear_for_all_cuts(CUDA_HALF2, DT_F16, DT_F16);
    expect_same_cuda_linear_for_all_cuts(CUDA_F32, DT_F32, DT_I8G64);
}

Test(cuda_linear, does_not_depend_on_how_many_images_travel_together)
{
    for (cuda_math m = CUDA_TENSOR_CORES; m <= CUDA_F32; m++) {
        const linear_case c = { 3,        11,   12,    80,    144,   DT_F16, DT_F16,
                                ACT_NONE, true, false, false, false, 0 };
        field f[LINEAR_FIELDS];
        dev *d = cuda_math_open(m);
        linear_fields(f, &c, false);
        linear_run(d, f, ACT_NONE);
        field together = field_copy(&f[LINEAR_Y]);
        linear_run_images(d, f);
        cr_expect(field_same_bytes(&f[LINEAR_Y], &together), "math %d", m);
        field_free(&together);
        linear_free_fields(f);
        dev_close(d);
    }
}

/* ---- in integers; their bits are those of the CPU (tests/property/test_operators.c) ---- */

/* A group that has no largest number leaves none in its pixel, and all others as they are. */
Test(cuda_linear, what_is_not_finite_stays_so_in_integers)
{
    static const float BAD[] = { INFINITY, -INFINITY, NAN };
    const linear_case c = { 1,        1,    9,     150,   70,    DT_F16, DT_I8G64,
                            ACT_NONE, true, false, false, false, 0 };
    enum { PIXEL = 5 };
    dev *d = cuda_math_open(CUDA_TENSOR_CORES);
    field f[LINEAR_FIELDS];
    cuda_of(d)->int8_math = true;
    linear_fields(f, &c, false);
    linear_run(d, f, ACT_NONE);
    const field good = field_copy(&f[LINEAR_Y]);
    for (int i = 0; i < 3; i++) {
        const int channel = 70 * i;
        const float was = field_at(&f[LINEAR_X], PIXEL, channel);
        field_set(&f[LINEAR_X], PIXEL, channel, BAD[i]);
        linear_run(d, f, ACT_NONE);
        field_set(&f[LINEAR_X], PIXEL, channel, was);
        for (size_t p = 0; p < 9; p++)
            for (int r = 0; r < c.rows; r++) {
                const float y = field_at(&f[LINEAR_Y], p, r);
                cr_expect(p == PIXEL ? isnan(y) : y == field_at(&good, p, r), "%g: %g at %zu, %d",
                          (double)BAD[i], (double)y, p, r);
            }
    }
    field_free(&f[LINEAR_Y]);
    f[LINEAR_Y] = good;
    linear_free_fields(f);
    dev_close(d);
}

static bool is_rounded(dev *d, int exp2)
{
    const linear_case c = { 1,        1,    9,     150,   70,    DT_F16, DT_I8G64,
                            ACT_NONE, true, false, false, false, exp2 };
    field f[LINEAR_FIELDS];
    linear_fields(f, &c, false);
    cuda_of(d)->int8_math = false;
    linear_run(d, f, ACT_NONE);
    field plain = field_copy(&f[LINEAR_Y]);
    cuda_of(d)->int8_math = true;
    linear_run(d, f, ACT_NONE);
    const bool differs = !field_same_bytes(&f[LINEAR_Y], &plain);
    field_free(&plain);
    linear_free_fields(f);
    return differs;
}

/* Scaled ones are the VAE's, which no precision rounds to int8. */
Test(cuda_linear, scaled_pixels_are_not_rounded_to_int8)
{
    dev *d = cuda_math_open(CUDA_TENSOR_CORES);
    cr_expect(is_rounded(d, 0));
    cr_expect_not(is_rounded(d, 2));
    dev_close(d);
}
