/* tests/kernels/test_attention.c -- op_attention on the CPU device against the referee, and
 * against itself cut up differently.
 *
 * Tolerance.  Scores of q and k in [-1, 1] are sums of hd products: after the scale they err
 * by hd * 2^-24 at most, and a weight by as much of itself (plus 2e-7 for exp); a weighted
 * mean of values in [-1, 1] then errs by twice that.  With 16-bit storage two half ulps more.
 *
 * In BF16 the scaled q and the weights are rounded, by 2^-9 of themselves at most.  A score of
 * hd products then deviates by 2^-9 * amplitude / 3 / sqrt(3) whatever hd is, and its weight by as
 * much of itself; six of these, and the rounding of the weight, twice.
 */
#include "tests/support/attention_case.h"

#include <criterion/criterion.h>
#include <math.h>

static void expect_cpu_attention_like_ref(dev *cpu, const attention_case *c)
{
    const double amplitude = (double)c->amplitude;
    const double rounded = c->type == DT_BF16 ? 6 * 0x1p-9 * amplitude / 3 / sqrt(3) + 0x1p-9 : 0;
    const double tolerance = 2 * (c->hd * 0x1p-24 * amplitude + 2e-7 + rounded) +
                             2 * field_rounding(c->type, 1);
    const double distance = attention_distance(cpu, c);
    cr_expect(distance <= tolerance, "%d x %dx%d, %d keys, %d heads of %d: off by %g of %g", c->n,
              c->h, c->w, c->tk, c->heads, c->hd, distance, tolerance);
}

Test(kernels_attention, agrees_with_the_referee)
{
    dev *cpu = field_cpu(DT_F32, 2);
    for (int i = 0; i < N_ATTENTION_CASES; i++)
        expect_cpu_attention_like_ref(cpu, &ATTENTION_CASES[i]);
    dev_close(cpu);
}

Test(kernels_attention, agrees_with_the_referee_when_activations_are_bf16)
{
    dev *cpu = field_cpu(DT_BF16, 2);
    for (int i = 0; i < N_ATTENTION_CASES; i++) {
        attention_case c = ATTENTION_CASES[i];
        if (c.type == DT_F32)
            c.type = DT_BF16;
        expect_cpu_attention_like_ref(cpu, &c);
    }
    dev_close(cpu);
}

Test(kernels_attention, does_not_depend_on_the_number_of_threads)
{
    const attention_case c = { 2, 23, 29, 667, 3, 40, false, DT_F32, 0, 2 };
    field one = { 0 };
    for (int threads = 1; threads <= 3; threads++) {
        field f[ATTENTION_FIELDS];
        dev *cpu = field_cpu(DT_F32, threads);
        attention_fields(f, &c);
        attention_run(cpu, f, &c);
        if (threads == 1)
            one = field_copy(&f[ATTENTION_Y]);
        cr_expect(field_same_bytes(&f[ATTENTION_Y], &one), "%d threads", threads);
        attention_free_fields(f);
        dev_close(cpu);
    }
    field_free(&one);
}

Test(kernels_attention, does_not_depend_on_how_many_images_travel_together)
{
    const attention_case c = { 3, 13, 29, 377, 2, 64, true, DT_F32, 0, 2 };
    field f[ATTENTION_FIELDS];
    dev *cpu = field_cpu(DT_F32, 2);
    attention_fields(f, &c);
    attention_run(cpu, f, &c);
    field together = field_copy(&f[ATTENTION_Y]);
    attention_run_images(cpu, f, &c);
    cr_expect(field_same_bytes(&f[ATTENTION_Y], &together));
    field_free(&together);
    attention_free_fields(f);
    dev_close(cpu);
}

/* 65536 keys must not take more workspace than 4096. */
Test(kernels_attention, needs_no_more_memory_for_more_keys)
{
    size_t need[2];
    dev *cpu = field_cpu(DT_F32, 2);
    for (int i = 0; i < 2; i++) {
        const int t = i ? 65536 : 4096;
        dev *plan = dev_open_plan(cpu, NULL);
        const tensor q = tensor_make(NULL, DT_F32, 1, 1, t, 512);
        cr_assert(plan);
        op_attention(plan, q, q, q, q, 1, 1, false);
        need[i] = dev_workspace_needed(plan);
        cr_expect(dev_work_macs(dev_plan_work(plan)) == 2ull * (uint64_t)t * (uint64_t)t * 512);
        dev_close(plan);
    }
    cr_expect(need[0] > 0 && need[0] == need[1]);
    dev_close(cpu);
}
