/* tests/cuda/test_norm.c -- norms and elementwise operators on the CUDA device against the referee,
 * and against itself cut up differently.
 *
 * Tolerance.  Statistics are folded in doubles from F32 sums of a thread, some tens of values
 * each: an affine agrees to a few ulps of its magnitude, a normalised value likewise.
 */
#include "tests/support/norm_case.h"

#include <criterion/criterion.h>
#include <math.h>

static void expect_cuda_norm_like_ref(dev *d, field_body *body, const norm_case *c, double ulps)
{
    double peak;
    const double distance = norm_distance(d, body, c, &peak);
    const double tolerance = ulps * 0x1p-23 * peak + 2 * norm_rounding(body, c, peak);
    cr_expect(distance <= tolerance, "%d x %dx%d x %d+%d type %d offset %g: off by %g of %g", c->n,
              c->h, c->w, c->a, c->b, c->type, (double)c->offset, distance, tolerance);
}

/* Of both types; b: may there be a second source? */
static void expect_norm_cases(field_body *body, bool b, double ulps)
{
    dev *d = field_cuda(DT_F16);
    for (int i = 0; i < N_NORM_CASES; i++) {
        norm_case c = NORM_CASES[i];
        const double far = body == norm_layer && c.offset > 1 ? 50 : 1;
        if (!b)
            c.b = 0;
        expect_cuda_norm_like_ref(d, body, &c, ulps * far);
        if (c.offset <= 1) { /* in halves a far mean leaves nothing to normalise */
            c.type = DT_F16;
            expect_cuda_norm_like_ref(d, body, &c, ulps);
        }
    }
    dev_close(d);
}

Test(cuda_norm, groupnorm_agrees_with_the_referee) { expect_norm_cases(norm_group, true, 4); }
Test(cuda_norm, apply_norm_agrees_with_the_referee) { expect_norm_cases(norm_apply, true, 8); }
Test(cuda_norm, layernorm_agrees_with_the_referee) { expect_norm_cases(norm_layer, false, 8); }
Test(cuda_norm, silu_agrees_with_the_referee) { expect_norm_cases(norm_silu, false, 8); }

/* Where e^-x overflows or vanishes, silu is 0 or its argument, and never NaN. */
Test(cuda_norm, silu_of_any_finite_value_is_finite_and_right)
{
    static const float FAR[] = { 0,     -0.0f,  17,   -17,   80,    -80,    87,     -87,
                                 88,    -88,    89,   -89,   104,   -104,   700,    -700,
                                 65504, -65504, 1e9f, -1e9f, 3e38f, -3e38f, 1e-38f, -1e-38f };
    enum { N = sizeof FAR / sizeof FAR[0] };
    dev *d = field_cuda(DT_F32);
    field x = field_random(1, DT_F32, 1, 1, 1, N, 1), y = field_random(2, DT_F32, 1, 1, 1, N, 1);
    for (int i = 0; i < N; i++)
        field_set(&x, 0, i, FAR[i]);
    field f[NORM_FIELDS] = { [NORM_Y] = y, [NORM_A] = x };
    norm_run(d, f, norm_silu, NULL);
    for (int i = 0; i < N; i++) {
        const double right = (double)FAR[i] / (1 + exp(-(double)FAR[i]));
        const double got = (double)field_at(&f[NORM_Y], 0, i);
        cr_expect(fabs(got - right) <= 1e-5 * fabs(right) + 0x1p-120, "silu(%g) is %g",
                  (double)FAR[i], got);
    }
    norm_free_fields(f);
    dev_close(d);
}

/* Widths and groups of the model: 384, 768, 1536 and what concatenation makes of them; the VAE. */
Test(cuda_norm, agrees_with_the_referee_on_layers_of_the_model)
{
    static const norm_case LAYERS[] = {
        { 2, 16, 16, 384, 0, 32, DT_F16, 0, 0, ACT_SILU },
        { 1, 8, 16, 768, 384, 32, DT_F16, 0, 0, ACT_SILU },
        { 1, 8, 8, 1536, 1536, 32, DT_F16, 0, 0, ACT_SILU },
        { 1, 40, 64, 128, 0, 32, DT_F16, 5, 0, ACT_SILU },
        { 1, 8, 16, 512, 0, 32, DT_F32, 0, 0, ACT_NONE },
    };
    dev *d = field_cuda(DT_F16);
    for (size_t i = 0; i < sizeof LAYERS / sizeof LAYERS[0]; i++) {
        expect_cuda_norm_like_ref(d, norm_group, &LAYERS[i], 4);
        expect_cuda_norm_like_ref(d, norm_apply, &LAYERS[i], 8);
    }
    dev_close(d);
}

Test(cuda_norm, convert_rounds_as_the_formats_say)
{
    dev *d = field_cuda(DT_F16);
    const dtype types[] = { DT_F32, DT_F16, DT_BF16 };
    for (int i = 0; i < 9; i++) {
        field x = field_view(1, types[i / 3], 2, 3, 5, 37, 1, 40, i, 3);
        field y = field_view(2, types[i % 3], 2, 3, 5, 37, 2, 39, -i, 1);
        field f[NORM_FIELDS] = { [NORM_Y] = y, [NORM_A] = x };
        field expected = field_copy(&y);
        for (size_t k = 0; k < field_pixels(&x); k++)
            for (int c = 0; c < x.c; c++)
                field_set(&expected, k, c, field_at(&x, k, c));
        norm_run(d, f, norm_convert, NULL);
        cr_expect(field_same_bytes(&f[NORM_Y], &expected), "%d to %d", types[i / 3], types[i % 3]);
        norm_free_fields(f);
        field_free(&expected);
    }
    dev_close(d);
}

Test(cuda_norm, groupnorm_does_not_depend_on_images_or_bands)
{
    static const norm_case CASES[] = {
        { 3, 43, 17, 40, 24, 4, DT_F32, 0, 1, ACT_NONE },
        { 2, 27, 9, 64, 64, 32, DT_F16, 0, 0, ACT_NONE },
    };
    dev *d = field_cuda(DT_F16);
    for (int i = 0; i < 2; i++) {
        field f[NORM_FIELDS];
        norm_fields(f, &CASES[i], norm_group);
        norm_run(d, f, norm_group, &CASES[i]);
        field whole = field_copy(&f[NORM_Y]);
        norm_run(d, f, norm_group_images, &CASES[i]);
        cr_expect(field_same_bytes(&f[NORM_Y], &whole), "case %d, image by image", i);
        norm_run(d, f, norm_group_bands, &CASES[i]);
        cr_expect(field_same_bytes(&f[NORM_Y], &whole), "case %d, in bands", i);
        field_free(&whole);
        norm_free_fields(f);
    }
    dev_close(d);
}
