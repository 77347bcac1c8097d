/* tests/kernels/test_shapes.c -- operators of the CPU device over shapes drawn at random.
 *
 * A picture may have any size and a run any number of threads.  Sizes are drawn on a logarithmic
 * scale, from one pixel to a long row of pixels, with as few channels as keep a case short; each
 * case must agree with the referee and must not depend on threads, to the bit.  One thread alone
 * is no witness: it may be wrong in the same way.
 *
 * The seed is fixed; REFINE_SEED=n draws other cases, REFINE_ROUNDS=n more.  What failed is shrunk:
 * halved and lessened while it still fails, and printed.
 *
 * Tolerances: test_linear.c, test_conv2d.c.  Inputs of integer products are what int8 holds
 * exactly.
 */
#define _POSIX_C_SOURCE 200809L
#include "tests/support/conv_case.h"
#include "tests/support/linear_case.h"
#include "tests/support/random.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_SIDE = 400, MOST_PIXELS = 20000, MOST_MACS = 12 << 20, MOST_THREADS = 5 };

typedef enum { LINEAR, CONV } kind;

typedef struct shape_case {
    kind kind;
    int h, w, a, b, rows; /* channels of the sources; of the output */
    int kernel, stride;
    bool ints, views;
    int threads;
} shape_case;

static uint64_t asked(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 10) : otherwise;
}

static int macs(const shape_case *c)
{
    const int64_t n = (int64_t)c->h * c->w * (c->a + c->b) * c->rows * c->kernel * c->kernel;
    return n > INT32_MAX ? INT32_MAX : (int)n;
}

static shape_case draw(uint64_t *seed)
{
    shape_case c = { .kind = random_below(seed, 3) == 0 ? LINEAR : CONV,
                     .h = random_scale(seed, 1, MOST_SIDE),
                     .w = random_scale(seed, 1, MOST_SIDE),
                     .a = random_scale(seed, 1, 200),
                     .rows = random_scale(seed, 1, 300),
                     .kernel = random_below(seed, 2) ? 3 : 1,
                     .stride = 1,
                     .ints = random_below(seed, 3) == 0,
                     .views = random_below(seed, 2),
                     .threads = 1 + random_below(seed, MOST_THREADS) };
    if (c.kind == LINEAR)
        c.kernel = 1;
    else if (random_below(seed, 3) == 0)
        c.b = random_scale(seed, 1, 60);
    if (c.kernel == 3 && random_below(seed, 4) == 0 && c.h > 1 && c.w > 1)
        c.stride = 2;
    if (c.ints && c.b)
        c.a = 64 * (1 + c.a / 64); /* groups of b begin at its first channel */
    while (c.h * c.w > MOST_PIXELS)
        c.h = (c.h + 1) / 2;
    while (macs(&c) > MOST_MACS && c.rows > 1)
        c.rows = (c.rows + 1) / 2;
    while (macs(&c) > MOST_MACS && c.a > 1 && !(c.ints && c.b))
        c.a = (c.a + 1) / 2;
    return c;
}

static void describe(const shape_case *c, char *out, size_t size)
{
    (void)snprintf(out, size, "%s %dx%d, %d+%d -> %d, %dx%d stride %d, %s%s, %d threads",
                   c->kind == LINEAR ? "linear" : "conv", c->h, c->w, c->a, c->b, c->rows,
                   c->kernel, c->kernel, c->stride, c->ints ? "ints" : "floats",
                   c->views ? ", views" : "", c->threads);
}

static linear_case as_linear(const shape_case *c)
{
    return (
        linear_case){ 1,        c->h, c->w, c->a,  c->rows,  DT_F32, c->ints ? DT_I8G64 : DT_F16,
                      ACT_NONE, true, true, false, c->views, 0 };
}

static conv_case as_conv(const shape_case *c)
{
    return (conv_case){
        .n = 1,
        .h = c->h,
        .w = c->w,
        .a = c->a,
        .b = c->b,
        .rows = c->rows,
        .kh = c->kernel,
        .stride = c->stride,
        .pad = c->kernel / 2,
        .type = DT_F32,
        .weights = c->ints ? DT_I8G64 : DT_F16,
        .residual = true,
        .views = c->views,
    };
}

static field result(dev *d, const shape_case *c)
{
    if (c->kind == CONV) {
        const conv_case conv = as_conv(c);
        const conv_cut whole = { .c = &conv, .exact = c->ints };
        return conv_result(d, &whole);
    }
    const linear_case linear = as_linear(c);
    field f[LINEAR_FIELDS];
    linear_fields(f, &linear, c->ints);
    linear_run(d, f, linear.act);
    field y = field_copy(&f[LINEAR_Y]);
    linear_free_fields(f);
    return y;
}

static dev *open_cpu(const shape_case *c, int threads)
{
    return c->ints ? field_cpu_ints(DT_F32, threads) : field_cpu(DT_F32, threads);
}

/* NULL: all is well. */
static const char *fault(const shape_case *c)
{
    dev *ref = field_ref(), *one = open_cpu(c, 1), *many = open_cpu(c, c->threads);
    field want = result(ref, c), alone = result(one, c), shared = result(many, c);
    const double k = (double)(c->a + c->b) * c->kernel * c->kernel;
    const double most = k * 0x1p-24 + 4e-6 * field_peak(&want);
    const char *what = NULL;

    if (!(field_distance(&alone, &want) <= most))
        what = "one thread is not the referee";
    else if (!field_same_bytes(&alone, &shared))
        what = "threads are not one thread";
    field_free(&want);
    field_free(&alone);
    field_free(&shared);
    dev_close(ref);
    dev_close(one);
    dev_close(many);
    return what;
}

/* Takes the smaller case if it fails too. */
static bool lessen(shape_case *c, int *member, int by_half)
{
    const int had = *member;
    *member = by_half ? had / 2 : had - 1;
    if (*member >= 1 && *member < had && fault(c))
        return true;
    *member = had;
    return false;
}

static void shrink(shape_case *c)
{
    for (int by_half = 1; by_half >= 0; by_half--) {
        int tries = 40;
        int *members[] = { &c->h, &c->w, &c->rows, &c->a, &c->threads };
        for (size_t i = 0; i < sizeof members / sizeof members[0] && tries > 0; tries--)
            if (!lessen(c, members[i], by_half))
                i++;
    }
}

static void expect_right(shape_case c)
{
    char text[160];
    if (!fault(&c))
        return;
    shrink(&c);
    describe(&c, text, sizeof text);
    cr_assert_fail("%s: %s", text, fault(&c));
}

Test(kernels_shapes, any_shape_agrees_with_the_referee_whatever_the_threads)
{
    uint64_t seed = asked("REFINE_SEED", 1);
    const uint64_t rounds = asked("REFINE_ROUNDS", 60);
    for (uint64_t i = 0; i < rounds; i++)
        expect_right(draw(&seed));
}

/* Widths of which the last unit's pieces are larger than a full unit's; a shortcut of several
 * tiles a task; the rows of 1920x1080 at 1/8, and of four megapixels, as one linear layer. */
Test(kernels_shapes, sizes_that_once_went_wrong)
{
    const shape_case cases[] = {
        { CONV, 90, 160, 8, 0, 16, 3, 1, false, false, 2 },
        { CONV, 60, 80, 8, 0, 16, 3, 1, false, false, 2 },
        { CONV, 104, 152, 8, 0, 16, 3, 1, true, false, 3 },
        { CONV, 25, 31, 40, 24, 300, 1, 1, false, true, 1 },
        { CONV, 60, 80, 40, 24, 300, 1, 1, false, false, 2 },
        { LINEAR, 135, 240, 8, 0, 8, 1, 1, false, false, 2 },
        { LINEAR, 135, 240, 8, 0, 8, 1, 1, true, false, 2 },
        { LINEAR, 350, 400, 4, 0, 4, 1, 1, false, true, 3 },
        { CONV, 350, 400, 4, 0, 4, 3, 1, false, false, 2 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        expect_right(cases[i]);
}
