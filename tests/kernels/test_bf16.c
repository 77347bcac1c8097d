/* tests/kernels/test_bf16.c -- operators on BF16 have the same bits on every processor with FMA.
 *
 * Where the processor multiplies pairs of BF16, operands are stored in 16 bits and attention keeps
 * its weights apart; elsewhere they are floats.  A device with the twin of such a product
 * (tests/support/gemm_twin.h) goes the former way on any machine with AVX2: every kind of operator
 * must give what it gives on this machine's own.  And what is not kept in BF16 is not rounded.
 */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/isa.h"
#include "tests/support/attention_case.h"
#include "tests/support/conv_case.h"
#include "tests/support/gemm_twin.h"
#include "tests/support/linear_case.h"

#include <criterion/criterion.h>

/* Devices in BF16: this machine's, and one that stores operands as the other kind does. */
static void open_both(dev *d[2], bool int8_math)
{
#if defined(__x86_64__)
    for (int i = 0; i < 2; i++)
        d[i] = int8_math ? field_cpu_ints(DT_BF16, 1 + i) : field_cpu(DT_BF16, 1 + i);
    if (isa_available() & ISA_AVX2) {
        cpu_of(d[1])->bf16 = &GEMM_BF16_TWIN;
        return;
    }
    dev_close(d[0]);
    dev_close(d[1]);
#else
    (void)d, (void)int8_math;
#endif
    cr_skip_test("no AVX2 here, and so nothing to compare with");
}

static void close_both(dev *d[2])
{
    dev_close(d[0]);
    dev_close(d[1]);
}

static dtype as_bf16(dtype t) { return t == DT_F32 ? DT_BF16 : t; }

static field linear_result(dev *d, const linear_case *c)
{
    field f[LINEAR_FIELDS];
    linear_fields(f, c, false);
    linear_run(d, f, c->act);
    field y = field_copy(&f[LINEAR_Y]);
    linear_free_fields(f);
    return y;
}

static field attention_result(dev *d, const attention_case *c)
{
    field f[ATTENTION_FIELDS];
    attention_fields(f, c);
    attention_run(d, f, c);
    field y = field_copy(&f[ATTENTION_Y]);
    attention_free_fields(f);
    return y;
}

static void expect_same_bf16_fields(field a, field b, const char *what, int i)
{
    cr_expect(field_same_bytes(&a, &b), "%s, case %d", what, i);
    field_free(&a);
    field_free(&b);
}

static void same_linears(const linear_case *cases, int n, bool int8_math)
{
    dev *d[2];
    open_both(d, int8_math);
    for (int i = 0; i < n; i++) {
        linear_case c = cases[i];
        c.type = as_bf16(c.type);
        expect_same_bf16_fields(linear_result(d[0], &c), linear_result(d[1], &c), "linear", i);
    }
    close_both(d);
}

static void same_convolutions(const conv_case *cases, int n, bool int8_math)
{
    dev *d[2];
    open_both(d, int8_math);
    for (int i = 0; i < n; i++) {
        conv_case c = cases[i];
        c.type = as_bf16(c.type);
        const conv_cut whole = { .c = &c };
        expect_same_bf16_fields(conv_result(d[0], &whole), conv_result(d[1], &whole), "conv2d", i);
    }
    close_both(d);
}

Test(kernels_bf16, linears_have_the_same_bits_on_every_processor)
{
    same_linears(LINEAR_CASES, N_LINEAR_CASES, false);
    same_linears(LINEAR_INT8, N_LINEAR_INT8, false);
    same_linears(LINEAR_INT8, N_LINEAR_INT8, true);
}

Test(kernels_bf16, convolutions_have_the_same_bits_on_every_processor)
{
    same_convolutions(CONV_CASES, N_CONV_CASES, false);
    same_convolutions(CONV_INT8, N_CONV_INT8, false);
    same_convolutions(CONV_INT8, N_CONV_INT8, true);
}

Test(kernels_bf16, attention_has_the_same_bits_on_every_processor)
{
    dev *d[2];
    open_both(d, false);
    for (int i = 0; i < N_ATTENTION_CASES; i++) {
        attention_case c = ATTENTION_CASES[i];
        c.type = as_bf16(c.type);
        expect_same_bf16_fields(attention_result(d[0], &c), attention_result(d[1], &c), "attention",
                                i);
    }
    close_both(d);
}

/* The text tower and conditioning are F32, the VAE's images scaled F16: a device that computes in
 * BF16 does with them what one in F32 does. */
Test(kernels_bf16, what_is_not_kept_in_bf16_is_multiplied_in_f32)
{
    dev *bf16 = field_cpu_ints(DT_BF16, 2), *f32 = field_cpu(DT_F32, 2);
    for (int i = 0; i < N_LINEAR_CASES; i++)
        expect_same_bf16_fields(linear_result(bf16, &LINEAR_CASES[i]),
                                linear_result(f32, &LINEAR_CASES[i]), "linear", i);
    for (int i = 0; i < N_CONV_CASES; i++) {
        const conv_cut whole = { .c = &CONV_CASES[i] };
        expect_same_bf16_fields(conv_result(bf16, &whole), conv_result(f32, &whole), "conv2d", i);
    }
    for (int i = 0; i < N_ATTENTION_CASES; i++)
        expect_same_bf16_fields(attention_result(bf16, &ATTENTION_CASES[i]),
                                attention_result(f32, &ATTENTION_CASES[i]), "attention", i);
    dev_close(bf16);
    dev_close(f32);
}
