/* tests/cuda/test_attention.c -- op_attention on the CUDA device against the referee, in each way
 * of multiplying.
 *
 * Tolerance: that of tests/kernels/test_attention.c; with fp16 operands a score errs by the
 * rounding of q and k, hd products each off by 2^-11 of itself at most, a weight by as much of
 * itself and its own 2^-11, and values in [-1, 1] by 2^-12.
 */
#include "tests/support/attention_case.h"
#include "tests/support/cuda_math.h"
#ifdef REFINE_CUDA_EMULATED
#include "tests/support/cuda/emulation.h"
#endif

#include <criterion/criterion.h>
#include <math.h>

static void expect_cuda_attention_like_ref(dev *d, cuda_math m, const attention_case *c)
{
    const double product = m == CUDA_TENSOR_CORES ? 0x1p-11 * sqrt(c->hd) : c->hd * 0x1p-24;
    const double own = m == CUDA_TENSOR_CORES ? 0x1p-10 : 4e-7;
    const double tolerance = 2 * (product / sqrt(c->hd) * 2 * (double)c->amplitude + own) +
                             2 * field_rounding(c->type, 1);
    const double distance = attention_distance(d, c);
    cuda_math_note("attention", m, distance, tolerance, 1);
    cr_expect(distance <= tolerance,
              "math %d: %d x %dx%d, %d keys, %d heads of %d: off by %g of %g", m, c->n, c->h, c->w,
              c->tk, c->heads, c->hd, distance, tolerance);
}

static void expect_attention_cases(cuda_math m)
{
    dev *d = cuda_math_open(m);
    for (int i = 0; i < N_ATTENTION_CASES; i++) {
        attention_case c = ATTENTION_CASES[i];
        expect_cuda_attention_like_ref(d, m, &c);
        c.type = DT_F16;
        expect_cuda_attention_like_ref(d, m, &c);
    }
    dev_close(d);
}

Test(cuda_attention, agrees_with_the_referee_on_tensor_cores)
{
    expect_attention_cases(CUDA_TENSOR_CORES);
}
Test(cuda_attention, agrees_with_the_referee_without_them) { expect_attention_cases(CUDA_HALF2); }
Test(cuda_attention, agrees_with_the_referee_in_f32) { expect_attention_cases(CUDA_F32); }

Test(cuda_attention, does_not_depend_on_how_many_images_travel_together)
{
    static const attention_case CASES[] = {
        { 3, 13, 29, 377, 2, 64, true, DT_F16, 0, 2 },
        { 2, 5, 9, 45, 1, 200, false, DT_F32, 0, 2 },
    };
    for (cuda_math m = CUDA_TENSOR_CORES; m <= CUDA_F32; m++)
        for (int i = 0; i < 2; i++) {
            field f[ATTENTION_FIELDS];
            dev *d = cuda_math_open(m);
            attention_fields(f, &CASES[i]);
            attention_run(d, f, &CASES[i]);
            field together = field_copy(&f[ATTENTION_Y]);
            attention_run_images(d, f, &CASES[i]);
            cr_expect(field_same_bytes(&f[ATTENTION_Y], &together), "math %d", m);
            field_free(&together);
            attention_free_fields(f);
            dev_close(d);
        }
}

/* ---- launches of a bounded length ---- */

/* Of which only the emulated card tells. */
static int count_card_launches(void)
{
#ifdef REFINE_CUDA_EMULATED
    return emulation_launches();
#else
    return 0;
#endif
}

static int launches_with(dev *d, field f[ATTENTION_FIELDS], const attention_case *c, double macs)
{
    const int before = count_card_launches();
    for (size_t p = 0; p < field_pixels(&f[ATTENTION_Y]); p++) /* what is left out is seen */
        for (int i = 0; i < f[ATTENTION_Y].c; i++)
            field_set(&f[ATTENTION_Y], p, i, -7);
    cuda_of(d)->attention_macs = macs;
    attention_run(d, f, c);
    return count_card_launches() - before;
}

/* A launch of one tile of queries each, of some, and of all. */
static void expect_ranges(cuda_math m, attention_case c)
{
    const double all = 2.0 * c.n * c.h * c.w * c.tk * c.heads * c.hd;
    field f[ATTENTION_FIELDS];
    dev *d = cuda_math_open(m);
    attention_fields(f, &c);
    cuda_of(d)->processors = 1; /* or a launch would have more than a tile to keep them busy */
    const int whole = launches_with(d, f, &c, 1e18);
    field want = field_copy(&f[ATTENTION_Y]);
    const int some = launches_with(d, f, &c, all / 3);
    cr_expect(field_same_bytes(&f[ATTENTION_Y], &want), "math %d, heads of %d, in parts", m, c.hd);
    const int each = launches_with(d, f, &c, 0);
    cr_expect(field_same_bytes(&f[ATTENTION_Y], &want), "math %d, heads of %d, by tiles", m, c.hd);
    cr_expect(count_card_launches() == 0 || (whole < some && some < each), "%d, %d and %d launches",
              whole, some, each);
    field_free(&want);
    attention_free_fields(f);
    dev_close(d);
}

Test(cuda_attention, does_not_depend_on_how_much_of_it_a_launch_has)
{
    for (int m = CUDA_TENSOR_CORES; m <= CUDA_F32; m++) {
        expect_ranges((cuda_math)m, (attention_case){ 2, 20, 20, 77, 2, 64, false,
                                                      m == CUDA_F32 ? DT_F32 : DT_F16, 0, 1 });
        expect_ranges((cuda_math)m, (attention_case){ 1, 12, 20, 240, 2, 512, true, DT_F32, 0, 1 });
    }
}
