/* tests/kernels/test_conv2d.c -- op_prepare and op_conv2d on the CPU device against the
 * referee, and against itself cut up differently.
 *
 * Tolerance: as in test_linear.c, K * 2^-24 * (the input's magnitude) for K products of
 * weights in [-1, 1]; the normalised input errs by 2^-22 of its own magnitude more.  In BF16 the
 * weights and the normalised input are rounded, both by 2^-9 of themselves at most.
 */
#include "tests/support/conv_case.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

static void expect_cpu_conv_like_ref(dev *cpu, const conv_case *c, bool exact)
{
    const conv_cut whole = { .c = c, .exact = exact };
    double peak;
    const double distance = conv_distance(cpu, &whole, &peak), input = c->norm ? 2 : 1;
    const double rounded = c->type == DT_BF16 ? 6 * 0x1p-9 * sqrt(conv_k(c) / 3.0) / 3 * sqrt(2)
                                              : 0;
    const double tolerance = (conv_k(c) * 0x1p-24 + rounded) * input + 1e-6 * peak +
                             2 * field_rounding(c->type, peak);
    cr_expect(distance <= tolerance,
              "%d x %dx%d %d+%d -> %d, %dx%d stride %d type %d: off by %g of %g", c->n, c->h, c->w,
              c->a, c->b, c->rows, c->kh, c->kh, c->stride, c->type, distance, tolerance);
}

Test(kernels_conv2d, agrees_with_the_referee)
{
    dev *cpu = field_cpu(DT_F32, 2);
    for (int i = 0; i < N_CONV_CASES; i++)
        expect_cpu_conv_like_ref(cpu, &CONV_CASES[i], false);
    dev_close(cpu);
}

Test(kernels_conv2d, agrees_with_the_referee_when_activations_are_bf16)
{
    dev *cpu = field_cpu(DT_BF16, 2);
    for (int i = 0; i < N_CONV_CASES; i++) {
        conv_case c = CONV_CASES[i];
        if (c.type == DT_F32)
            c.type = DT_BF16;
        expect_cpu_conv_like_ref(cpu, &c, false);
    }
    dev_close(cpu);
}

/* ---- int8 weights ---- */

Test(kernels_conv2d, decodes_int8_weights)
{
    dev *f32 = field_cpu(DT_F32, 2), *bf16 = field_cpu(DT_BF16, 2);
    for (int i = 0; i < N_CONV_INT8; i++) {
        conv_case c = CONV_INT8[i];
        expect_cpu_conv_like_ref(f32, &c, false);
        if (c.type == DT_F32)
            c.type = DT_BF16;
        expect_cpu_conv_like_ref(bf16, &c, false);
    }
    dev_close(f32);
    dev_close(bf16);
}

/* Inputs that int8 holds exactly: only then must integers agree with the referee.  With two
 * sources the groups of the second do not begin at its channel 0. */
Test(kernels_conv2d, multiplies_integers_exactly)
{
    dev *cpu = field_cpu_ints(DT_F32, 2);
    for (int i = 0; i < N_CONV_INT8; i++)
        if (!CONV_INT8[i].norm && (!CONV_INT8[i].b || CONV_INT8[i].a % 64 == 0))
            expect_cpu_conv_like_ref(cpu, &CONV_INT8[i], true);
    dev_close(cpu);
}

/* Half a step of 1/127 of the group's largest for each of K inputs, as in test_linear.c; what
 * is normalised and through silu lies in [-0.3, 2], so that a step is twice as large. */
Test(kernels_conv2d, loses_what_rounding_the_input_loses)
{
    dev *exact = field_cpu(DT_F32, 2), *int8_math = field_cpu_ints(DT_F32, 2);
    for (int i = 0; i < N_CONV_INT8; i++) {
        const conv_case *c = &CONV_INT8[i];
        const conv_cut whole = { .c = c };
        if (c->type != DT_F32)
            continue;
        field want = conv_result(exact, &whole), got = conv_result(int8_math, &whole);
        const int k = conv_k(c);
        const double deviation = sqrt(k) / 127 / 6 * (c->norm ? 2 : 1);
        const double distance = field_distance(&got, &want);
        cr_expect(distance < 6 * deviation && distance > 0.1 * deviation, "case %d: %g of %g", i,
                  distance, deviation);
        field_free(&want);
        field_free(&got);
    }
    dev_close(exact);
    dev_close(int8_math);
}

/* ---- invariances: not one bit may differ ---- */

static void expect_same_cpu_conv(dev *d, const conv_cut *k, const field *whole, const char *what,
                                 int size)
{
    field y = conv_result(d, k);
    cr_expect(field_same_bytes(&y, whole), "case %d, %s %d", (int)(k->c - CONV_INVARIANT), what,
              size);
    field_free(&y);
}

Test(kernels_conv2d, does_not_depend_on_bands)
{
    dev *cpu = field_cpu_ints(DT_F32, 2);
    for (int i = 0; i < N_CONV_INVARIANT; i++) {
        const conv_cut whole = { .c = &CONV_INVARIANT[i] };
        field all = conv_result(cpu, &whole);
        for (int band = BAND_UNIT; band <= 4 * BAND_UNIT; band *= 2) {
            const conv_cut k = { .c = &CONV_INVARIANT[i], .band = band };
            expect_same_cpu_conv(cpu, &k, &all, "band", band);
        }
        field_free(&all);
    }
    dev_close(cpu);
}

Test(kernels_conv2d, does_not_depend_on_how_the_matrix_is_cut_into_chunks)
{
    dev *cpu = field_cpu_ints(DT_F32, 2);
    for (int i = 0; i < N_CONV_INVARIANT; i++) {
        const conv_case *c = &CONV_INVARIANT[i];
        const conv_cut whole = { .c = c };
        field all = conv_result(cpu, &whole);
        for (int tiles = 1; tiles <= 2; tiles++) {
            const conv_cut k = { .c = c, .chunk = tiles * tile_rows(c->kh, c->kh) };
            expect_same_cpu_conv(cpu, &k, &all, "chunk", k.chunk);
        }
        field_free(&all);
    }
    dev_close(cpu);
}

Test(kernels_conv2d, does_not_depend_on_the_number_of_threads)
{
    for (int i = 0; i < N_CONV_INVARIANT; i++) {
        const conv_cut whole = { .c = &CONV_INVARIANT[i] };
        dev *one = field_cpu_ints(DT_F32, 1);
        field all = conv_result(one, &whole);
        dev_close(one);
        for (int threads = 2; threads <= 3; threads++) {
            dev *many = field_cpu_ints(DT_F32, threads);
            expect_same_cpu_conv(many, &whole, &all, "threads", threads);
            dev_close(many);
        }
        field_free(&all);
    }
}

Test(kernels_conv2d, does_not_depend_on_how_many_images_travel_together)
{
    dev *cpu = field_cpu_ints(DT_F32, 2);
    for (int i = 0; i < N_CONV_INVARIANT; i++) {
        const conv_cut whole = { .c = &CONV_INVARIANT[i] };
        const conv_cut each = { .c = &CONV_INVARIANT[i], .per_image_calls = true };
        field all = conv_result(cpu, &whole);
        expect_same_cpu_conv(cpu, &each, &all, "images", 1);
        field_free(&all);
    }
    dev_close(cpu);
}

Test(kernels_conv2d, does_not_depend_on_whether_the_input_is_copied)
{
    dev *cpu = field_cpu_ints(DT_F32, 2);
    for (int i = 0; i < N_CONV_INVARIANT; i++) {
        const conv_cut whole = { .c = &CONV_INVARIANT[i] };
        const conv_cut copied = { .c = &CONV_INVARIANT[i], .detach = true };
        field all = conv_result(cpu, &whole);
        expect_same_cpu_conv(cpu, &copied, &all, "detached", 1);
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
    dev *cpu = field_cpu(DT_F32, 2);
    field y = conv_result(cpu, &over), expected = conv_result(cpu, &apart);

    cr_expect(field_same_bytes(&y, &expected));
    field_free(&y);
    field_free(&expected);
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
        const matrix_input in = { .a = t[0], .detach = true, .h = y.h, .w = y.w };
        const size_t bytes = op_prepare_bytes(d, &in, g);
        void *space = dev_alloc(d, bytes, DEV_VRAM);
        const prepared_input src = op_prepare(d, space, &in, g);
        const epilogue none = { .act = ACT_NONE };
        const matrix_rows w = one_block(t[1]);
        op_conv2d(d, y, &src, &w, g, &none);
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
