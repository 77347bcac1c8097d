/* tests/kernels/test_ops.c -- the front door stops what is misshapen, and lets nothing that
 * fits a plan exceed it. */
#include "tests/support/field.h"
#include "tests/support/linear_case.h"

#include "engine/base/mem.h"

#include <criterion/criterion.h>
#include <signal.h>

static dev *open_plan_for(dev *target)
{
    dev *d = dev_open_plan(target, NULL);
    cr_assert(d);
    return d;
}

static tensor f32_tensor(int n, int h, int w, int c)
{
    return tensor_make(NULL, DT_F32, n, h, w, c);
}

static const epilogue NONE = { .act = ACT_NONE };

Test(kernels_ops, linear_wants_a_matrix_of_x_channels, .signal = SIGABRT)
{
    linear_once(open_plan_for(field_ref()), f32_tensor(1, 1, 8, 16), f32_tensor(1, 1, 8, 24),
                f32_tensor(16, 1, 1, 32), &NONE);
}

Test(kernels_ops, linear_wants_as_many_rows_as_y_has_channels, .signal = SIGABRT)
{
    linear_once(open_plan_for(field_ref()), f32_tensor(1, 1, 8, 16), f32_tensor(1, 1, 8, 32),
                f32_tensor(32, 1, 1, 32), &NONE);
}

Test(kernels_ops, geglu_halves_the_channels, .signal = SIGABRT)
{
    const epilogue e = { .act = ACT_GEGLU };
    linear_once(open_plan_for(field_ref()), f32_tensor(1, 1, 8, 32), f32_tensor(1, 1, 8, 32),
                f32_tensor(32, 1, 1, 32), &e);
}

Test(kernels_ops, a_bias_is_as_long_as_the_matrix_has_rows, .signal = SIGABRT)
{
    const epilogue e = { .bias = f32_tensor(1, 1, 1, 15) };
    linear_once(open_plan_for(field_ref()), f32_tensor(1, 1, 8, 16), f32_tensor(1, 1, 8, 32),
                f32_tensor(16, 1, 1, 32), &e);
}

Test(kernels_ops, there_is_one_value_per_image, .signal = SIGABRT)
{
    const epilogue e = { .per_image = f32_tensor(1, 1, 1, 16) };
    linear_once(open_plan_for(field_ref()), f32_tensor(2, 1, 8, 16), f32_tensor(2, 1, 8, 32),
                f32_tensor(16, 1, 1, 32), &e);
}

Test(kernels_ops, a_residual_has_the_shape_of_y, .signal = SIGABRT)
{
    const epilogue e = { .residual = f32_tensor(1, 1, 9, 16) };
    linear_once(open_plan_for(field_ref()), f32_tensor(1, 1, 8, 16), f32_tensor(1, 1, 8, 32),
                f32_tensor(16, 1, 1, 32), &e);
}

Test(kernels_ops, groups_divide_the_channels, .signal = SIGABRT)
{
    op_groupnorm_sums(open_plan_for(field_ref()), f32_tensor(1, 1, 4, 4), f32_tensor(1, 4, 4, 30),
                      f32_tensor(0, 0, 0, 0), 0, 4);
}

static void run_plain_conv(dev *d, tensor y, int h, conv_geometry g)
{
    const prepared_input x = { .in = { .a = f32_tensor(1, h, 16, 8), .h = h, .w = 16 } };
    const matrix_rows w = one_block(f32_tensor(y.c, g.kh, g.kw, 8));
    op_conv2d(d, y, &x, &w, g, &NONE);
}

Test(kernels_ops, a_band_begins_at_a_multiple_of_its_unit, .signal = SIGABRT)
{
    run_plain_conv(open_plan_for(field_ref()), f32_tensor(1, 16, 16, 4), 16,
                   (conv_geometry){ 3, 3, 1, 1, 4, 8 });
}

Test(kernels_ops, a_band_is_a_multiple_of_its_unit_unless_it_ends_the_image, .signal = SIGABRT)
{
    run_plain_conv(open_plan_for(field_ref()), f32_tensor(1, 20, 16, 4), 20,
                   (conv_geometry){ 3, 3, 1, 1, 0, 12 });
}

Test(kernels_ops, a_band_ends_within_the_image, .signal = SIGABRT)
{
    run_plain_conv(open_plan_for(field_ref()), f32_tensor(1, 16, 16, 4), 16,
                   (conv_geometry){ 3, 3, 1, 1, 8, 16 });
}

Test(kernels_ops, the_size_of_y_follows_from_stride_and_padding, .signal = SIGABRT)
{
    run_plain_conv(open_plan_for(field_ref()), f32_tensor(1, 16, 16, 4), 16,
                   (conv_geometry){ 3, 3, 2, 1, 0, 16 });
}

Test(kernels_ops, five_by_five_kernels_are_not_known, .signal = SIGABRT)
{
    run_plain_conv(open_plan_for(field_ref()), f32_tensor(1, 16, 16, 4), 16,
                   (conv_geometry){ 5, 5, 1, 2, 0, 16 });
}

Test(kernels_ops, heads_divide_the_channels, .signal = SIGABRT)
{
    const tensor t = f32_tensor(1, 1, 8, 30);
    op_attention(open_plan_for(field_ref()), t, t, t, t, 4, 1, false);
}

Test(kernels_ops, convert_wants_one_shape, .signal = SIGABRT)
{
    op_convert(open_plan_for(field_ref()), f32_tensor(1, 2, 3, 4), f32_tensor(1, 3, 2, 4));
}

/* ---- no allocation, and never more workspace than planned ---- */

enum { Y, X, W3, W1, AFFINE, VECTOR, SUMS, N_FIELDS };

/* space: for what is prepared of each product. */
static void whole_pass(dev *d, const tensor *t, void *const space[2])
{
    const conv_geometry g = { 3, 3, 1, 1, 0, t[Y].h };
    const tensor none = { 0 };
    op_groupnorm_sums(d, t[SUMS], t[X], none, 0, t[X].h);
    op_groupnorm(d, t[AFFINE], t[SUMS], t[X].h, t[X].w, t[VECTOR], t[VECTOR], 1e-5f);
    const matrix_input in = {
        .a = t[X], .affine = t[AFFINE], .silu = true, .h = t[X].h, .w = t[X].w
    };
    const prepared_input src = op_prepare(d, space[0], &in, g);
    const matrix_rows w3 = one_block(t[W3]), w1 = one_block(t[W1]);
    op_conv2d(d, t[Y], &src, &w3, g, &NONE);
    const matrix_input all = linear_input(t[Y], false);
    const prepared_input x = op_prepare(d, space[1], &all, linear_geometry(t[Y]));
    op_linear(d, t[X], &x, &w1, &NONE);
    op_attention(d, t[Y], t[X], t[X], t[X], 2, 0.1f, false);
    op_layernorm(d, t[X], t[Y], t[VECTOR], t[VECTOR], 1e-5f);
    op_apply_norm(d, t[Y], t[X], none, t[AFFINE], ACT_SILU);
    op_convert(d, t[X], t[Y]);
}

static uint64_t growth; /* allocations in passes after the first */

static void measure_pass_growth(dev *d, const tensor *t, const void *context)
{
    (void)context;
    const conv_geometry g = { 3, 3, 1, 1, 0, t[Y].h };
    const matrix_input in = {
        .a = t[X], .affine = t[AFFINE], .silu = true, .h = t[X].h, .w = t[X].w
    };
    const matrix_input all = linear_input(t[Y], false);
    const size_t bytes[] = { op_prepare_bytes(d, &in, g),
                             op_prepare_bytes(d, &all, linear_geometry(t[Y])) };
    void *space[2] = { NULL, NULL };
    for (int i = 0; i < 2; i++)
        if (bytes[i])
            space[i] = dev_alloc(d, bytes[i], DEV_VRAM);
    whole_pass(d, t, space);
    const uint64_t calls = mem_used().calls;
    for (int i = 0; i < 3; i++)
        whole_pass(d, t, space);
    growth = mem_used().calls - calls;
    for (int i = 0; i < 2; i++)
        dev_free(d, space[i], bytes[i], DEV_VRAM);
}

Test(kernels_ops, a_pass_allocates_nothing_once_it_has_run)
{
    const dtype types[] = { DT_F32, DT_BF16 };
    for (int i = 0; i < 2; i++) {
        field f[] = {
            field_random(1, types[i], 2, 20, 12, 64, 1),
            field_random(2, types[i], 2, 20, 12, 64, 1),
            field_random(3, DT_F16, 64, 3, 3, 64, 0.1f),
            field_random(4, DT_F16, 64, 1, 1, 64, 0.1f),
            field_random(5, DT_F32, 2, 1, 2, 64, 1),
            field_random(6, DT_F32, 1, 1, 1, 64, 1),
            field_random(7, DT_F32, 2, 3, 8, 4, 1),
        };
        field *p[] = { &f[0], &f[1], &f[2], &f[3], &f[4], &f[5], &f[6] };
        dev *cpu = field_cpu(types[i], 2);
        growth = 99;
        field_run(cpu, p, N_FIELDS, measure_pass_growth, NULL);
        cr_expect(growth == 0);
        for (int k = 0; k < N_FIELDS; k++)
            field_free(&f[k]);
        dev_close(cpu);
    }
}

/* ---- kinds ---- */

typedef struct operator_ear {
    dev_kind kind[16];
    int n;
} operator_ear;

static void record_operator_kind(void *context, dev_kind now)
{
    operator_ear *e = context;
    e->kind[e->n++] = now;
}

Test(kernels_ops, changes_of_kind_are_told_before_the_operator)
{
    static const dev_kind WANT[] = { DEV_LINEAR, DEV_MEMORY, DEV_CONV, DEV_ATTENTION, DEV_LINEAR };
    const tensor t = f32_tensor(1, 16, 16, 8), vector = f32_tensor(1, 1, 1, 8);
    dev *target = field_ref(), *d = open_plan_for(target);
    const prepared_input x = { .in = linear_input(tensor_make((void *)1, DT_F32, 1, 16, 16, 8),
                                                  false) };
    const matrix_rows w = one_block(f32_tensor(8, 1, 1, 8));
    operator_ear e = { 0 };
    dev_listen(d, record_operator_kind, &e);
    op_linear(d, t, &x, &w, &NONE);
    op_layernorm(d, t, t, vector, vector, 1e-5f);
    op_silu(d, t, t);
    run_plain_conv(d, f32_tensor(1, 16, 16, 4), 16, (conv_geometry){ 3, 3, 1, 1, 0, 16 });
    op_attention(d, t, t, t, t, 1, 1.0f, false);
    op_linear(d, t, &x, &w, &NONE);
    dev_listen(d, NULL, NULL);
    op_silu(d, t, t);
    cr_assert_eq(e.n, 5, "%d", e.n);
    for (int i = 0; i < 5; i++)
        cr_expect_eq(e.kind[i], WANT[i]);
    dev_close(d);
    dev_close(target);
}

Test(kernels_ops, what_a_failed_device_does_not_do_is_not_told)
{
    const tensor t = f32_tensor(1, 16, 16, 8);
    dev *target = field_ref(), *d = open_plan_for(target);
    operator_ear e = { 0 };
    dev_listen(d, record_operator_kind, &e);
    dev_fail(d, REFINE_EDEVICE, "lost");
    op_silu(d, t, t);
    cr_assert_eq(e.n, 1);
    dev_close(d);
    dev_close(target);
}

static void expect_conv_rows(conv_rows r, int first, int end)
{
    cr_expect_eq(r.first, first);
    cr_expect_eq(r.end, end);
}

Test(kernels_ops, a_band_reads_the_rows_its_taps_reach_and_none_outside)
{
    const matrix_input in = { .a = tensor_make(NULL, DT_F32, 1, 20, 5, 3), .h = 20, .w = 5 };
    expect_conv_rows(conv_rows_read(&in, (conv_geometry){ 1, 1, 1, 0, 8, 8 }), 8, 16);
    expect_conv_rows(conv_rows_read(&in, (conv_geometry){ 3, 3, 1, 1, 8, 8 }), 7, 17);
    expect_conv_rows(conv_rows_read(&in, (conv_geometry){ 3, 3, 1, 1, 0, 8 }), 0, 9);
    expect_conv_rows(conv_rows_read(&in, (conv_geometry){ 3, 3, 1, 1, 16, 4 }), 15, 20);
    expect_conv_rows(conv_rows_read(&in, (conv_geometry){ 3, 3, 2, 0, 8, 2 }), 16, 20);
}

Test(kernels_ops, a_band_of_a_resampled_image_reads_rows_of_its_source)
{
    const matrix_input in = { .a = tensor_make(NULL, DT_F32, 1, 10, 5, 3), .h = 20, .w = 10 };
    const conv_geometry g = { 3, 3, 1, 1, 8, 8 };
    expect_conv_rows(conv_rows_resampled(&in, g), 7, 17);
    expect_conv_rows(conv_rows_read(&in, g), 3, 9);
}
