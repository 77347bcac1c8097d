/* tests/cuda/test_barriers.c -- every barrier of the kernels, and every wait for copies to shared
 * memory, is needed, and its loss is noticed.
 *
 * An operator is computed once; then, in a process of its own for every barrier or wait that its
 * kernels met, again without this one, the threads running forward, backward and by chance. Other
 * bytes, or a process that comes to a bad end, notice it.  The results with all barriers are the
 * same in every order.  In the end no line of the sources may have one that was not tried.
 */
#include "tests/support/cuda/emulation.h"
#include "tests/support/linear_case.h"
#include "tests/support/own_process.h"

#include <criterion/criterion.h>
#include <glob.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static void barriers_teardown(void) { (void)emulation_reset(); }

TestSuite(cuda_barriers, .fini = barriers_teardown, .timeout = 1200);

enum { MOST_FIELDS = 8, MOST_BARRIERS = 16, MOST_TRIED = 256, SECONDS = 120 };

/* An operator with its fields, the first of which is the result. */
typedef struct barrier_trial {
    field f[MOST_FIELDS];
    int n;
    field_body *body;
    const void *context;
} barrier_trial;

/* How products are computed: what the card can do, and in which type.  Of 7.5, and later, on which
 * vectors go to shared memory by themselves. */
typedef enum { TENSOR_CORES, COPIES, HALF2, FLOATS } math;

static dev *open_barriers_device(math m)
{
    const dev_options o = { .compute = m == FLOATS ? DT_F32 : DT_F16 };
    refine_error err;
    emulation_set_performance(m == TENSOR_CORES || m == COPIES ? 8000 : 1000, 1000);
    emulation_set_card(m == COPIES ? 8 : 7, m == COPIES ? 6 : 5, 2);
    dev *d = dev_open_cuda(&o, 0, &err);
    cr_assert(d, "%s", err.text);
    return d;
}

static void compute_trial(dev *d, barrier_trial *t, emulation_order order)
{
    field *p[MOST_FIELDS];
    for (int i = 0; i < t->n; i++)
        p[i] = &t->f[i];
    emulation_set_order(order, 11);
    field_run(d, p, t->n, t->body, t->context);
}

static bool is_same(dev *d, barrier_trial *t, const field *want, const field *before,
                    emulation_order order)
{
    memcpy(t->f[0].data, before->data, before->bytes);
    compute_trial(d, t, order);
    return field_same_bytes(&t->f[0], want);
}

static bool is_same_in_every_order(dev *d, barrier_trial *t, const field *want, const field *before)
{
    for (int order = EMULATION_FORWARD; order <= EMULATION_RANDOM; order++)
        if (!is_same(d, t, want, before, (emulation_order)order))
            return false;
    return true;
}

/* An operator without one of its barriers, and what it is with all of them. */
typedef struct barrier_loss {
    dev *d;
    barrier_trial *t;
    const field *want, *before;
    int barrier;
} barrier_loss;

static bool differs_without_barrier(const void *context)
{
    const barrier_loss *l = context;
    emulation_skip_barrier(l->barrier);
    return !is_same_in_every_order(l->d, l->t, l->want, l->before);
}

static bool is_noticed(dev *d, barrier_trial *t, const field *want, const field *before,
                       int barrier)
{
    const barrier_loss l = { d, t, want, before, barrier };
    return own_process_fails(differs_without_barrier, &l, SECONDS);
}

/* ---- which were tried ---- */

typedef struct tried {
    char name[MOST_TRIED][80]; /* "file:line" */
    int n;
} tried;

static bool was_tried(const tried *all, const char *name)
{
    for (int i = 0; i < all->n; i++)
        if (strcmp(all->name[i], name) == 0)
            return true;
    return false;
}

/* From the source root, wherever the compiler was started. */
static void note_tried(tried *all, const char *barrier)
{
    const char *name = strstr(barrier, "kernels/cuda/");
    cr_assert(name && all->n < MOST_TRIED);
    (void)snprintf(all->name[all->n++], sizeof all->name[0], "%s", name);
}

static int expect_tried(const tried *all, const char *path)
{
    char line[256], name[300];
    int number = 0, found = 0;
    FILE *f = fopen(path, "r");
    cr_assert_not_null(f);
    while (fgets(line, sizeof line, f)) {
        number++;
        if (!strstr(line, "__syncthreads();") && !strstr(line, "__syncwarp();") &&
            !strstr(line, "copies_wait();"))
            continue;
        (void)snprintf(name, sizeof name, "%s:%d", path, number);
        cr_expect(was_tried(all, name), "the barrier at %s was not tried", name);
        found++;
    }
    (void)fclose(f);
    return found;
}

static void expect_all_tried(const tried *all)
{
    glob_t files;
    int found = 0;
    cr_assert_eq(glob("kernels/cuda/*.cu*", 0, NULL, &files), 0);
    for (size_t i = 0; i < files.gl_pathc; i++)
        found += expect_tried(all, files.gl_pathv[i]);
    globfree(&files);
    cr_expect_gt(found, 20);
}

/* ---- one operator ---- */

/* Frees the fields. */
static void expect_every_barrier_needed(tried *all, math m, barrier_trial t)
{
    dev *d = open_barriers_device(m);
    field before = field_copy(&t.f[0]);

    emulation_watch_barriers();
    compute_trial(d, &t, EMULATION_FORWARD);
    const int n = emulation_barriers();
    field want = field_copy(&t.f[0]);
    cr_expect(is_same_in_every_order(d, &t, &want, &before));
    cr_expect_not(is_noticed(d, &t, &want, &before, -1));
    cr_expect(n > 0 && n <= MOST_BARRIERS, "%d barriers", n);
    for (int i = 0; i < n; i++) {
        cr_expect(is_noticed(d, &t, &want, &before, i), "nobody misses the barrier at %s",
                  emulation_barrier(i));
        note_tried(all, emulation_barrier(i));
    }
    field_free(&before);
    field_free(&want);
    for (int i = 0; i < t.n; i++)
        field_free(&t.f[i]);
    dev_close(d);
}

/* ---- products ---- */

static void run_linear_fields(dev *d, const tensor *t, const void *context)
{
    const linear_case *c = context;
    const epilogue e = { .bias = t[LINEAR_BIAS], .residual = t[LINEAR_RESIDUAL], .act = c->act };
    linear_once(d, t[LINEAR_Y], t[LINEAR_X], t[LINEAR_W], &e);
}

static void expect_linear(tried *all, math m, const linear_case *c)
{
    barrier_trial t = { .n = LINEAR_FIELDS, .body = run_linear_fields, .context = c };
    linear_fields(t.f, c, false);
    expect_every_barrier_needed(all, m, t);
}

/* k of several stages; of the large tile, which many pixels get, and of the small one. */
static const linear_case LARGE = { 1,        16,   24,    200,  260,   DT_F16, DT_F16,
                                   ACT_NONE, true, false, true, false, 0 };
static const linear_case SMALL = { 1,        5,    7,     200,   70,    DT_F16, DT_F16,
                                   ACT_SILU, true, false, false, false, 0 };
static const linear_case GATED = { 1,         5,    7,     200,   128,   DT_F16, DT_F16,
                                   ACT_GEGLU, true, false, false, false, 0 };
static const linear_case INT8 = { 1,        5,    7,     200,   70,    DT_F16, DT_I8G64,
                                  ACT_NONE, true, false, false, false, 0 };
static const linear_case FLOAT = { 1,        5,    7,     200,   70,    DT_F32, DT_F32,
                                   ACT_NONE, true, false, false, false, 0 };

/* ---- attention ---- */

typedef struct barrier_attention {
    int queries, keys, heads, hd;
    dtype type;
} barrier_attention;

static void run_attention_fields(dev *d, const tensor *t, const void *context)
{
    const barrier_attention *c = context;
    op_attention(d, t[0], t[1], t[2], t[3], c->heads, 1.0f / sqrtf((float)c->hd), false);
}

static void expect_attention(tried *all, math m, const barrier_attention *c)
{
    const int ch = c->heads * c->hd;
    barrier_trial t = { .n = 4, .body = run_attention_fields, .context = c };
    t.f[0] = field_random(1, c->type, 1, 1, c->queries, ch, 1);
    t.f[1] = field_random(2, c->type, 1, 1, c->queries, ch, 4);
    t.f[2] = field_random(3, c->type, 1, 1, c->keys, ch, 4);
    t.f[3] = field_random(4, c->type, 1, 1, c->keys, ch, 1);
    expect_every_barrier_needed(all, m, t);
}

static const barrier_attention HEADS = { 150, 140, 2, 64, DT_F16 };
static const barrier_attention WIDE = { 70, 60, 1, 512, DT_F16 };
static const barrier_attention FLOAT_HEADS = { 150, 140, 2, 64, DT_F32 };
static const barrier_attention FLOAT_WIDE = { 40, 60, 1, 512, DT_F32 };

/* ---- norms ---- */

static void run_groupnorm_fields(dev *d, const tensor *t, const void *context)
{
    (void)context;
    op_groupnorm_sums(d, t[1], t[2], t[3], 0, t[2].h);
    op_groupnorm(d, t[0], t[1], t[2].h, t[2].w, t[4], t[5], 1e-5f);
}

static void expect_groupnorm(tried *all)
{
    barrier_trial t = { .n = 6, .body = run_groupnorm_fields };
    t.f[0] = field_random(1, DT_F32, 2, 1, 2, 128, 1);
    t.f[1] = field_random(2, DT_F32, 2, band_units(20), 32, 4, 1);
    t.f[2] = field_random(3, DT_F16, 2, 20, 12, 96, 1);
    t.f[3] = field_random(4, DT_F16, 2, 20, 12, 32, 1);
    t.f[4] = field_random(5, DT_F32, 1, 1, 1, 128, 1);
    t.f[5] = field_random(6, DT_F32, 1, 1, 1, 128, 1);
    expect_every_barrier_needed(all, TENSOR_CORES, t);
}

Test(cuda_barriers, every_barrier_is_needed_and_its_loss_is_noticed)
{
    static tried all;
    for (math m = TENSOR_CORES; m <= COPIES; m++) {
        expect_linear(&all, m, &LARGE);
        expect_linear(&all, m, &SMALL);
        expect_linear(&all, m, &GATED);
        expect_linear(&all, m, &INT8);
        expect_attention(&all, m, &HEADS);
    }
    expect_linear(&all, HALF2, &SMALL);
    expect_linear(&all, HALF2, &INT8);
    expect_linear(&all, FLOATS, &FLOAT);
    expect_attention(&all, TENSOR_CORES, &WIDE);
    expect_attention(&all, FLOATS, &FLOAT_HEADS);
    expect_attention(&all, FLOATS, &FLOAT_WIDE);
    expect_groupnorm(&all);
    expect_all_tried(&all);
}
