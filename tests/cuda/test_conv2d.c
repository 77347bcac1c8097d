/* tests/cuda/test_conv2d.c -- op_prepare and op_conv2d on the CUDA device against the referee,
 * in each way of multiplying, and against itself cut up differently.
 *
 * Tolerance: that of tests/kernels/test_conv2d.c, and what fp16 operands cost.
 */
#include "tests/support/conv_case.h"
#include "tests/support/cuda_math.h"

#include <criterion/criterion.h>
#include <string.h>

static void expect_cuda_conv_like_ref(dev *d, cuda_math m, const conv_cut *k)
{
    const conv_case *c = k->c;
    double peak;
    const double distance = conv_distance(d, k, &peak), input = c->norm ? 2 : 1;
    const double tolerance = (conv_k(c) * 0x1p-24 + cuda_math_error(m, conv_k(c))) * input +
                             2e-6 * peak + 2 * field_rounding(c->type, peak);
    cuda_math_note(c->weights == DT_I8G64 ? "conv int8" : "conv", m, distance, tolerance, peak);
    cr_expect(distance <= tolerance,
              "math %d: %d x %dx%d %d+%d -> %d, %dx%d stride %d type %d: off by %g of %g", m, c->n,
              c->h, c->w, c->a, c->b, c->rows, c->kh, c->kh, c->stride, c->type, distance,
              tolerance);
}

static void expect_conv_cases(cuda_math m, const conv_case *cases, int n)
{
    dev *d = cuda_math_open(m);
    for (int i = 0; i < n; i++) {
        conv_case c = cases[i];
        const conv_cut whole = { .c = &c };
        if (CUDA_MATH_ALL_TYPES)
            expect_cuda_conv_like_ref(d, m, &whole);
        c.type = cuda_math_type(m, c.exp2);
        expect_cuda_conv_like_ref(d, m, &whole);
    }
    dev_close(d);
}

Test(cuda_conv2d, agrees_with_the_referee_on_tensor_cores)
{
    expect_conv_cases(CUDA_TENSOR_CORES, CONV_CASES, N_CONV_CASES);
    expect_conv_cases(CUDA_TENSOR_CORES, CONV_INT8, N_CONV_INT8);
}

Test(cuda_conv2d, agrees_with_the_referee_in_pairs_of_halves)
{
    expect_conv_cases(CUDA_HALF2, CONV_CASES, N_CONV_CASES);
    expect_conv_cases(CUDA_HALF2, CONV_INT8, N_CONV_INT8);
}

Test(cuda_conv2d, agrees_with_the_referee_in_f32)
{
    expect_conv_cases(CUDA_F32, CONV_CASES, N_CONV_CASES);
    expect_conv_cases(CUDA_F32, CONV_INT8, N_CONV_INT8);
}

/* The engine has no such layers; the operator allows them. */
Test(cuda_conv2d, agrees_with_the_referee_where_norm_and_silu_do_not_go_together)
{
    static const conv_case C = { 2, 9, 7,      64,     0,    72,    3,     1,     1,
                                 0, 0, DT_F16, DT_F16, true, false, false, false, 0 };
    const conv_cut cuts[] = { { .c = &C, .no_silu = true }, { .c = &C, .no_affine = true } };
    for (int m = CUDA_TENSOR_CORES; m <= CUDA_HALF2; m++) {
        dev *d = cuda_math_open((cuda_math)m);
        for (int i = 0; d && i < 2; i++)
            expect_cuda_conv_like_ref(d, (cuda_math)m, &cuts[i]);
        dev_close(d);
    }
}

/* Real widths: the lowest level, and concatenation on the way up. */
Test(cuda_conv2d, agrees_with_the_referee_on_layers_of_the_model)
{
    static const conv_case LAYERS[] = {
        { 2, 8, 8, 1536, 0, 64, 3, 1, 1, 0, 0, DT_F16, DT_F16, true, true, false, false, 0 },
        { 1, 8, 8, 768, 384, 64, 3, 1, 1, 0, 0, DT_F16, DT_I8G64, true, true, false, false, 0 },
        { 1, 8, 8, 1536, 768, 128, 1, 1, 0, 0, 0, DT_F16, DT_F16, false, false, false, false, 0 },
        { 1, 8, 8, 512, 0, 64, 3, 1, 1, 16, 16, DT_F16, DT_F16, false, false, false, false, 5 },
    };
    expect_conv_cases(CUDA_TENSOR_CORES, LAYERS, sizeof LAYERS / sizeof LAYERS[0]);
}

/* ---- invariances: not one bit may differ ---- */

static void expect_same_cuda_conv(dev *d, const conv_cut *k, const field *whole, const char *what,
                                  int size)
{
    field y = conv_result(d, k);
    cr_expect(field_same_bytes(&y, whole), "%s %d of %d+%d channels, type %d", what, size, k->c->a,
              k->c->b, k->c->type);
    field_free(&y);
}

static void expect_same_cuda_conv_for_all_cuts(dev *d, const conv_case *c)
{
    const conv_cut whole = { .c = c }, images = { .c = c, .per_image_calls = true };
    const conv_cut copied = { .c = c, .detach = true };
    field all = conv_result(d, &whole);
    for (int band = BAND_UNIT; band <= 4 * BAND_UNIT; band *= 2) {
        const conv_cut k = { .c = c, .band = band };
        expect_same_cuda_conv(d, &k, &all, "band", band);
    }
    for (int tiles = 1; tiles <= 2; tiles++) {
        const conv_cut k = { .c = c, .chunk = tiles * tile_rows(c->kh, c->kh) };
        expect_same_cuda_conv(d, &k, &all, "chunk", k.chunk);
    }
    for (int together = 2; together <= MATRIX_BLOCKS_MAX; together *= 2) {
        const conv_cut k = { .c = c, .chunk = tile_rows(c->kh, c->kh), .together = together };
        expect_same_cuda_conv(d, &k, &all, "together", together);
    }
    expect_same_cuda_conv(d, &images, &all, "images", 1);
    expect_same_cuda_conv(d, &copied, &all, "detached", 1);
    field_free(&all);
}

static void expect_invariance(cuda_math m)
{
    dev *d = cuda_math_open(m);
    for (int i = 0; i < N_CONV_INVARIANT; i++) {
        conv_case c = CONV_INVARIANT[i];
        if (m != CUDA_F32)
            c.type = DT_F16;
        expect_same_cuda_conv_for_all_cuts(d, &c);
    }
    dev_close(d);
}

Test(cuda_conv2d, does_not_depend_on_how_it_is_cut_on_tensor_cores)
{
    expect_invariance(CUDA_TENSOR_CORES);
}

Test(cuda_conv2d, does_not_depend_on_how_it_is_cut_in_f32) { expect_invariance(CUDA_F32); }

/* What is computed on the way is as wide there as here, whatever the input's own type. */
Test(cuda_conv2d, silu_alone_of_scaled_halves_is_the_same_written_out)
{
    const conv_case c = { 1, 9, 7,      20,     0,    24,    1,     1,     0,
                          0, 0, DT_F16, DT_F16, true, false, false, false, -3 };
    const conv_cut fused = { .c = &c, .no_affine = true };
    const conv_cut copied = { .c = &c, .no_affine = true, .detach = true };
    dev *d = cuda_math_open(CUDA_F32);
    field want = conv_result(d, &fused);
    expect_same_cuda_conv(d, &copied, &want, "detached", 1);
    field_free(&want);
    dev_close(d);
}

Test(cuda_conv2d, may_add_to_what_it_overwrites)
{
    const conv_case c = { 2, 13, 14,     32,     0,    80,    3,    1,     1,
                          0, 0,  DT_F16, DT_F16, true, false, true, false, 0 };
    const conv_cut apart = { .c = &c }, over = { .c = &c, .in_place = true };
    dev *d = field_cuda(DT_F16);
    field y = conv_result(d, &over), expected = conv_result(d, &apart);

    cr_expect(field_same_bytes(&y, &expected));
    field_free(&y);
    field_free(&expected);
    dev_close(d);
}
