/* tests/kernels/test_attention.c -- op_attention on the CPU device against the referee, and
 * against itself cut up differently.
 *
 * Tolerance.  Scores of q and k in [-1, 1] are sums of hd products: after the scale they err
 * by hd * 2^-24 at most, and a weight by as much of itself (plus 2e-7 for exp); a weighted
 * mean of values in [-1, 1] then errs by twice that.  With 16-bit storage two half ulps more.
 */
#include "tests/support/field.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

enum { Y, Q, K, V, N_FIELDS };

typedef struct attention_case {
    int n, h, w, tk, heads, hd;
    bool causal;
    dtype type;
    int exp2;
    float amplitude; /* of q: how far apart the scores are */
} attention_case;

static void run_attention(dev *d, const tensor *t, const void *context)
{
    const attention_case *c = context;
    op_attention(d, t[Y], t[Q], t[K], t[V], c->heads, 1.0f / sqrtf((float)c->hd), c->causal);
}

static void run_each_image(dev *d, const tensor *t, const void *context)
{
    const attention_case *c = context;
    for (int n = 0; n < c->n; n++)
        op_attention(d, tensor_images(t[Y], n, 1), tensor_images(t[Q], n, 1),
                     tensor_images(t[K], n, 1), tensor_images(t[V], n, 1), c->heads,
                     1.0f / sqrtf((float)c->hd), c->causal);
}

/* q, k, v are views of wider tensors, as they come out of one matrix. */
static void make_fields(field f[N_FIELDS], const attention_case *c)
{
    const int ch = c->heads * c->hd, e = c->exp2;
    f[Y] = field_view(1, c->type, c->n, c->h, c->w, ch, 0, ch, e, 1);
    f[Q] = field_view(2, c->type, c->n, c->h, c->w, ch, 0, 3 * ch, e, c->amplitude);
    f[K] = field_view(3, c->type, c->n, 1, c->tk, ch, ch, 3 * ch, e, 1);
    f[V] = field_view(4, c->type, c->n, 1, c->tk, ch, 2 * ch, 3 * ch, e, 1);
}

static void free_fields(field f[N_FIELDS])
{
    for (int i = 0; i < N_FIELDS; i++)
        field_free(&f[i]);
}

static void run_on(dev *d, field f[N_FIELDS], field_body *body, const attention_case *c)
{
    field *p[] = { &f[Y], &f[Q], &f[K], &f[V] };
    field_run(d, p, N_FIELDS, body, c);
}

static void expect_like_ref(dev *cpu, const attention_case *c)
{
    field f[N_FIELDS];
    dev *ref = field_ref();

    make_fields(f, c);
    run_on(ref, f, run_attention, c);
    field theirs = field_copy(&f[Y]);
    run_on(cpu, f, run_attention, c);

    const double tolerance = 2 * (c->hd * 0x1p-24 * (double)c->amplitude + 2e-7) +
                             2 * field_rounding(c->type, 1);
    const double distance = field_distance(&f[Y], &theirs);
    cr_expect(distance <= tolerance, "%d x %dx%d, %d keys, %d heads of %d: off by %g of %g", c->n,
              c->h, c->w, c->tk, c->heads, c->hd, distance, tolerance);
    field_free(&theirs);
    free_fields(f);
    dev_close(ref);
}

static const attention_case CASES[] = {
    { 2, 16, 16, 256, 3, 64, false, DT_F32, 0, 1 },  /* to itself */
    { 2, 9, 31, 77, 2, 64, false, DT_F32, 0, 1 },    /* to the prompt */
    { 2, 1, 77, 77, 4, 64, true, DT_F32, 0, 1 },     /* text */
    { 1, 1, 600, 600, 1, 32, true, DT_F32, 0, 8 },   /* causal over several tiles */
    { 1, 20, 30, 600, 1, 512, false, DT_F32, 0, 1 }, /* VAE */
    { 1, 1, 1, 1, 1, 8, false, DT_F32, 0, 1 },
    { 1, 5, 7, 300, 2, 20, false, DT_F32, 0, 60 }, /* one key takes it all */
    { 1, 16, 17, 272, 1, 64, false, DT_F16, 1, 1 },
};

enum { N_CASES = sizeof CASES / sizeof CASES[0] };

Test(kernels_attention, agrees_with_the_referee)
{
    dev *cpu = field_cpu(DT_F32, 2);
    for (int i = 0; i < N_CASES; i++)
        expect_like_ref(cpu, &CASES[i]);
    dev_close(cpu);
}

Test(kernels_attention, agrees_with_the_referee_when_activations_are_bf16)
{
    dev *cpu = field_cpu(DT_BF16, 2);
    for (int i = 0; i < N_CASES; i++) {
        attention_case c = CASES[i];
        if (c.type == DT_F32)
            c.type = DT_BF16;
        expect_like_ref(cpu, &c);
    }
    dev_close(cpu);
}

Test(kernels_attention, does_not_depend_on_the_number_of_threads)
{
    const attention_case c = { 2, 23, 29, 667, 3, 40, false, DT_F32, 0, 2 };
    field one = { 0 };
    for (int threads = 1; threads <= 3; threads++) {
        field f[N_FIELDS];
        dev *cpu = field_cpu(DT_F32, threads);
        make_fields(f, &c);
        run_on(cpu, f, run_attention, &c);
        if (threads == 1)
            one = field_copy(&f[Y]);
        cr_expect(field_same_bytes(&f[Y], &one), "%d threads", threads);
        free_fields(f);
        dev_close(cpu);
    }
    field_free(&one);
}

Test(kernels_attention, does_not_depend_on_how_many_images_travel_together)
{
    const attention_case c = { 3, 13, 29, 377, 2, 64, true, DT_F32, 0, 2 };
    field f[N_FIELDS];
    dev *cpu = field_cpu(DT_F32, 2);
    make_fields(f, &c);
    run_on(cpu, f, run_attention, &c);
    field together = field_copy(&f[Y]);
    run_on(cpu, f, run_each_image, &c);
    cr_expect(field_same_bytes(&f[Y], &together));
    field_free(&together);
    free_fields(f);
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
