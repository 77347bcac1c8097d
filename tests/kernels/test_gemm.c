/* tests/kernels/test_gemm.c -- every product of floats against its definition, to the bit.
 *
 * The definition is a chain of fmaf (of roundings after each product and each sum for the variant
 * without FMA) over numbers of every kind: subnormal ones, zeros of either sign, infinities.
 * Shapes are random, from a fixed seed.
 */
#include "engine/base/guard.h"
#include "quant/f16.h"
#include "tests/support/gemm_twin.h"
#include "tests/support/own_process.h"
#include "tests/support/random.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_PIXELS = 33, MOST_PANELS = 5, MOST_K = 1104, GAP = 5, ROUNDS = 60, SECONDS = 20 };
enum { SPOIL = 0x7f };

/* A product, its operands as numbers, and what is to be added to. */
typedef struct shape {
    int pixels, panels, k;
    int d_stride, a_extra; /* floats from pixel to pixel; bytes between pixels of A */
    bool add;
    float a[MOST_PIXELS][MOST_K], w[MOST_PANELS * GEMM_PANEL][MOST_K];
    float d[MOST_PIXELS][MOST_PANELS * GEMM_PANEL];
} shape;

/* Mostly ordinary; what is added up is at times as small as what subnormal products leave. */
static float any_number(uint64_t *seed, bool tiny)
{
    const int kind = random_below(seed, 24);
    const float v = random_float(seed);
    if (kind == 0)
        return random_below(seed, 2) ? 0.0f : -0.0f;
    if (kind == 1)
        return v * 0x1p-126f; /* subnormal */
    return tiny ? v * 0x1p-70f : v;
}

static void round_operand(float *v, int n, dtype type)
{
    if (type == DT_BF16)
        bf16_round(v, v, (size_t)n);
}

static shape *make_shape(uint64_t *seed, dtype type)
{
    shape *s = calloc(1, sizeof *s);
    cr_assert(s);
    s->pixels = 1 + random_below(seed, MOST_PIXELS);
    s->panels = 1 + random_below(seed, MOST_PANELS);
    s->k = GEMM_ALIGN * (1 + random_below(seed, MOST_K / GEMM_ALIGN));
    s->d_stride = s->panels * GEMM_PANEL + random_below(seed, GAP);
    s->a_extra = 4 * random_below(seed, GAP);
    s->add = random_below(seed, 2);
    const bool tiny = random_below(seed, 3) == 0;
    for (int p = 0; p < s->pixels; p++) {
        for (int k = 0; k < s->k; k++)
            s->a[p][k] = any_number(seed, tiny);
        round_operand(s->a[p], s->k, type);
        for (int r = 0; r < s->panels * GEMM_PANEL; r++)
            s->d[p][r] = tiny ? random_float(seed) * 0x1p-125f : random_float(seed);
    }
    for (int r = 0; r < s->panels * GEMM_PANEL; r++) {
        for (int k = 0; k < s->k; k++)
            s->w[r][k] = any_number(seed, tiny);
        round_operand(s->w[r], s->k, type);
    }
    if (random_below(seed, 4) == 0)
        s->a[s->pixels - 1][s->k - 1] = INFINITY;
    return s;
}

/* ---- the definition ---- */

static float flush_to_signed_zero(float v)
{
    return fpclassify(v) == FP_SUBNORMAL ? copysignf(0, v) : v;
}

static float sum_f32(const shape *s, int p, int r, bool fused)
{
    float d = s->add ? s->d[p][r] : 0;
    for (int k = 0; k < s->k; k++)
        d = fused ? fmaf(s->a[p][k], s->w[r][k], d) : d + s->a[p][k] * s->w[r][k];
    return d;
}

static float step_bf16(float a, float w, float d)
{
    return flush_to_signed_zero(
        fmaf(flush_to_signed_zero(a), flush_to_signed_zero(w), flush_to_signed_zero(d)));
}

static float sum_bf16(const shape *s, int p, int r)
{
    float d = s->add ? s->d[p][r] : 0;
    for (int k = 0; k < s->k; k += 2)
        d = step_bf16(s->a[p][k], s->w[r][k], step_bf16(s->a[p][k + 1], s->w[r][k + 1], d));
    return d;
}

/* Without FMA, BF16 is not as elsewhere: a rounding of each product is allowed, and a subnormal
 * number that meets infinity. */
static bool is_right(const gemm *g, const shape *s, int p, int r, float got)
{
    const bool base = strcmp(g->name, "plain") == 0;
    if (base && g->type == DT_BF16) {
        const float want = sum_bf16(s, p, r);
        return isfinite(want) ? fabsf(got - want) <= (float)s->k * 0x1p-23f : !isfinite(got);
    }
    const float want = g->type == DT_BF16 ? sum_bf16(s, p, r) : sum_f32(s, p, r, !base);
    return f32_bits(got) == f32_bits(want) || (isnan(got) && isnan(want));
}

/* ---- running ---- */

static char *make_gemm_operands(const gemm *g, const shape *s, size_t *bytes)
{
    const size_t row = (size_t)s->k * dtype_bytes(g->element);
    *bytes = row + (size_t)s->a_extra;
    char *a = malloc((size_t)s->pixels * *bytes);
    cr_assert(a);
    memset(a, SPOIL, (size_t)s->pixels * *bytes);
    for (int p = 0; p < s->pixels; p++)
        gemm_encode(g, a + (size_t)p * *bytes, s->a[p], (size_t)s->k);
    return a;
}

/* By the definition of the layout in kernels/cpu/gemm.h. */
static char *make_gemm_panels(const gemm *g, const shape *s)
{
    const size_t size = dtype_bytes(g->element);
    const int per_word = GEMM_WORD / (int)size;
    char *w = malloc((size_t)s->panels * gemm_panel_bytes(g->element, s->k));
    cr_assert(w);
    for (int r = 0; r < s->panels * GEMM_PANEL; r++)
        for (int k = 0; k < s->k; k++) {
            char *panel = w + (size_t)(r / GEMM_PANEL) * gemm_panel_bytes(g->element, s->k);
            const int word = k / per_word * GEMM_PANEL + r % GEMM_PANEL;
            gemm_encode(g, panel + ((size_t)(word * per_word) + (size_t)(k % per_word)) * size,
                        &s->w[r][k], 1);
        }
    return w;
}

/* Neither what is read nor what is written is flushed to zero. */
static bool subnormals_count(void)
{
    const volatile float least = 0x1p-149f, normal = 0x1p-126f;
    return least * 0x1p+100f > 0.0f && normal * 0.5f > 0.0f;
}

static void expect_defined(const gemm *g, const shape *s, int round)
{
    const int rows = s->panels * GEMM_PANEL;
    size_t a_bytes;
    char *a = make_gemm_operands(g, s, &a_bytes), *w = make_gemm_panels(g, s);
    float *d = malloc((size_t)s->pixels * (size_t)s->d_stride * sizeof *d);
    float spoilt;

    cr_assert(d);
    memset(&spoilt, SPOIL, sizeof spoilt);
    memset(d, SPOIL, (size_t)s->pixels * (size_t)s->d_stride * sizeof *d);
    for (int p = 0; s->add && p < s->pixels; p++)
        memcpy(d + p * s->d_stride, s->d[p], (size_t)rows * sizeof *d);
    g->multiply(d, (size_t)s->d_stride, a, a_bytes, s->pixels, w, s->panels, s->k, s->add);
    cr_assert(subnormals_count(), "%s leaves the processor flushing", g->name);
    for (int p = 0; p < s->pixels; p++)
        for (int r = 0; r < s->d_stride; r++) {
            const float got = d[p * s->d_stride + r];
            cr_assert(r < rows ? is_right(g, s, p, r, got) : f32_bits(got) == f32_bits(spoilt),
                      "%s, type %d, round %d: %d pixels, %d panels, k %d, add %d: pixel %d row %d",
                      g->name, g->type, round, s->pixels, s->panels, s->k, s->add, p, r);
        }
    free(a);
    free(w);
    free(d);
}

/* ---- operands with a part that nobody may touch ---- */

typedef struct excess {
    const gemm *g;
    int pixels, panels, k;
    int of;    /* A, W or D; -1: none */
    bool end;  /* its last byte is missing */
    double at; /* else eight bytes are shut there: 0 to 1 of all */
} excess;

enum { OPERANDS = 3, GRANULE = 8 };

static bool exceed_operand(const void *context)
{
    const excess *e = context;
    const size_t row = (size_t)e->k * dtype_bytes(e->g->element);
    const size_t stride = (size_t)e->panels * GEMM_PANEL;
    const size_t bytes[OPERANDS] = { (size_t)e->pixels * row,
                                     (size_t)e->panels * gemm_panel_bytes(e->g->element, e->k),
                                     (size_t)e->pixels * stride * sizeof(float) };
    char *p[OPERANDS];
    for (int i = 0; i < OPERANDS; i++) {
        p[i] = calloc(bytes[i] - (i == e->of && e->end), 1);
        if (!p[i])
            return false;
        if (i == e->of && !e->end)
            guard_shut(p[i] + (size_t)(e->at * (double)(bytes[i] / GRANULE)) * GRANULE, GRANULE);
    }
    e->g->multiply((float *)(void *)p[2], stride, p[0], row, e->pixels, p[1], e->panels, e->k,
                   false);
    return false;
}

/* The innermost loop is not instrumented. */
Test(kernels_gemm, every_byte_that_is_touched_is_watched_where_somebody_watches)
{
    const gemm *g;
    uint64_t seed = 13;
    for (int i = 0; guard_watches() && (g = gemm_testable(i)); i++)
        for (int panels = 1; panels <= 3; panels++) {
            excess e = { .g = g, .panels = panels, .of = -1 };
            e.pixels = 1 + random_below(&seed, MOST_PIXELS);
            e.k = GEMM_ALIGN * (1 + random_below(&seed, MOST_K / GEMM_ALIGN));
            cr_expect_not(own_process_fails(exceed_operand, &e, SECONDS));
            for (int n = 0; n < OPERANDS * (GUARDED ? 2 : 1); n++) {
                e.of = n % OPERANDS;
                e.end = n < OPERANDS;
                e.at = random_below(&seed, 1000) / 1000.0;
                cr_expect(own_process_fails(exceed_operand, &e, SECONDS),
                          "%s: %d pixels, %d panels, k %d: %c at %g", g->name, e.pixels, e.panels,
                          e.k, "AWD"[e.of], e.end ? 1.0 : e.at);
            }
        }
}

/* ---- what is right ---- */

Test(kernels_gemm, every_variant_is_the_chain_of_sums_that_is_defined)
{
    const gemm *g;
    for (int i = 0; (g = gemm_testable(i)); i++) {
        uint64_t seed = 7;
        for (int round = 0; round < ROUNDS; round++) {
            shape *s = make_shape(&seed, g->type);
            expect_defined(g, s, round);
            free(s);
        }
    }
}

/* Cut anywhere in k, and in the middle of the pixels. */
Test(kernels_gemm, goes_on_where_another_call_stopped)
{
    const gemm *g;
    uint64_t seed = 11;
    for (int i = 0; (g = gemm_testable(i)); i++) {
        shape *s = make_shape(&seed, g->type);
        s->a_extra = 0;
        const size_t size = dtype_bytes(g->element), stride = (size_t)s->panels * GEMM_PANEL;
        const int cut = GEMM_ALIGN * random_below(&seed, s->k / GEMM_ALIGN + 1), rest = s->k - cut;
        const int some = random_below(&seed, s->pixels + 1);
        size_t a_bytes;
        char *a = make_gemm_operands(g, s, &a_bytes), *w = make_gemm_panels(g, s);
        float *whole = calloc((size_t)s->pixels * stride, sizeof *whole);
        float *parts = calloc((size_t)s->pixels * stride, sizeof *parts);

        g->multiply(whole, stride, a, a_bytes, s->pixels, w, s->panels, s->k, false);
        for (int p = 0; p < s->panels; p++) { /* panels by themselves too: k is innermost there */
            const char *panel = w + (size_t)p * gemm_panel_bytes(g->element, s->k);
            float *to = parts + p * GEMM_PANEL;
            if (some > 0 && cut > 0)
                g->multiply(to, stride, a, a_bytes, some, panel, 1, cut, false);
            if (some > 0 && rest > 0)
                g->multiply(to, stride, a + (size_t)cut * size, a_bytes, some,
                            panel + (size_t)cut * GEMM_PANEL * size, 1, rest, cut > 0);
            if (some < s->pixels)
                g->multiply(to + (size_t)some * stride, stride, a + (size_t)some * a_bytes, a_bytes,
                            s->pixels - some, panel, 1, s->k, false);
        }
        cr_expect(memcmp(whole, parts, (size_t)s->pixels * stride * sizeof *whole) == 0, "%s",
                  g->name);
        free(a);
        free(w);
        free(whole);
        free(parts);
        free(s);
    }
}

Test(kernels_gemm, picks_what_runs_here)
{
    const dtype types[] = { DT_F32, DT_BF16 };
    for (int i = 0; i < 2; i++) {
        const gemm *g = gemm_pick(types[i]);
        cr_assert(g && g->type == types[i]);
        bool runs = false;
        const gemm *nth;
        for (int n = 0; (nth = gemm_nth(n, &runs)) && nth != g; n++)
            cr_expect(!runs || nth->type != types[i]);
        cr_expect(nth == g && runs);
    }
}
