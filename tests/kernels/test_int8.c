/* tests/kernels/test_int8.c -- every variant of the int8 product against its definition, and
 * against each other, to the bit.
 *
 * A variant that this CPU cannot run is skipped by name.  The one for quadruples of bytes is
 * also compiled here with its instruction written out, so that its packing, its offsets and
 * its element type are tried everywhere.
 */
#define LANES   4
#define PIXELS  3
#define NAME    "bytes, written out"
#define VARIANT INT8_BYTES
#define ELEMENT uint8_t
#define WEIGHT  int8_t
#define ZERO    128
#define DOT(s, a, w)                                                                               \
    ((s) + ((a)&255) * ((w) << 24 >> 24) + ((a) >> 8 & 255) * ((w) << 16 >> 24) +                  \
     ((a) >> 16 & 255) * ((w) << 8 >> 24) + ((a) >> 24 & 255) * ((w) >> 24))
extern const struct int8_variant INT8_BYTES;
#include "kernels/cpu/int8_body.h"

#include "quant/f16.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

enum { PIXELS_MAX = 23, ROWS_MAX = 61, GROUPS_MAX = 13, K_MAX = GROUPS_MAX * I8_GROUP };
enum { D_STRIDE = 80, GUARD = 64 };

static float random_int8_input(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return (float)(*state >> 8) * 0x1p-23f - 1;
}

/* A case, its operands as a variant wants them, and what should come out. */
typedef struct int8_bench {
    int pixels, rows, groups;
    float x[PIXELS_MAX][K_MAX], w[ROWS_MAX][K_MAX];
    char *tile, *a, *panels;
    size_t a_bytes;
    int n_panels;
} int8_bench;

static void *alloc_aligned_bytes(size_t bytes)
{
    void *p = aligned_alloc(64, (bytes + 127) / 64 * 64);
    cr_assert(p);
    memset(p, 0x7f, bytes);
    return p;
}

static int8_bench *open_int8_bench(int pixels, int rows, int groups)
{
    int8_bench *b = alloc_aligned_bytes(sizeof *b);
    i8_error lost = { 0 };
    uint32_t state = 1;

    *b = (int8_bench){ .pixels = pixels, .rows = rows, .groups = groups };
    for (int p = 0; p < pixels; p++)
        for (int k = 0; k < groups * I8_GROUP; k++)
            b->x[p][k] = random_int8_input(&state) * (k / I8_GROUP % 2 ? 30 : 0.01f);
    float *w = alloc_aligned_bytes(sizeof(float) * (size_t)(rows * groups * I8_GROUP));
    for (int i = 0; i < rows * groups * I8_GROUP; i++)
        w[i] = random_int8_input(&state);
    b->tile = alloc_aligned_bytes(i8_bytes(rows, 1, groups * I8_GROUP));
    i8_encode_tile(b->tile, w, rows, 1, groups * I8_GROUP, I8_ABSMAX, &lost);
    for (int r = 0; r < rows; r++)
        for (int g = 0; g < groups; g++)
            i8_decode_group(&b->w[r][g * I8_GROUP], i8_group(b->tile, rows, r, g),
                            i8_scales(b->tile, rows, g)[r]);
    free(w);
    return b;
}

static void close_int8_bench(int8_bench *b)
{
    free(b->tile);
    free(b->a);
    free(b->panels);
    free(b);
}

static void pack_int8_operands(int8_bench *b, const int8_variant *v)
{
    const size_t group = (size_t)(I8_GROUP * v->element);
    const size_t panel = int8_panel_bytes(v, b->groups);

    free(b->a);
    free(b->panels);
    b->a_bytes = int8_pixel_bytes(v, b->groups);
    b->a = alloc_aligned_bytes(b->a_bytes * (size_t)b->pixels);
    for (int p = 0; p < b->pixels; p++)
        for (int g = 0; g < b->groups; g++) {
            char *pixel = b->a + (size_t)p * b->a_bytes;
            const float scale = v->quantise(pixel + (size_t)g * group, &b->x[p][g * I8_GROUP]);
            memcpy(pixel + (size_t)b->groups * group + (size_t)g * sizeof scale, &scale,
                   sizeof scale);
        }
    b->n_panels = (b->rows + INT8_PANEL - 1) / INT8_PANEL;
    b->panels = alloc_aligned_bytes(panel * (size_t)b->n_panels);
    for (int i = 0; i < b->n_panels; i++)
        v->pack(b->panels + (size_t)i * panel, b->tile, b->rows, i * INT8_PANEL, 0, b->groups);
}

/* D of a variant, PIXELS_MAX x D_STRIDE, and what lies behind it. */
static float *multiply_int8_variant(int8_bench *b, const int8_variant *v, bool add)
{
    float *d = alloc_aligned_bytes(sizeof(float) * (PIXELS_MAX * D_STRIDE + GUARD));
    for (int i = 0; i < PIXELS_MAX * D_STRIDE + GUARD; i++)
        d[i] = 0.5f;
    pack_int8_operands(b, v);
    v->product(d, D_STRIDE, b->a, b->a_bytes, b->pixels, b->panels, b->n_panels, b->groups, add);
    return d;
}

/* The definition, in double, of what a pixel is when rounded. */
static double exact_int8_product(const int8_bench *b, int p, int r)
{
    double sum = 0;
    for (int g = 0; g < b->groups; g++) {
        const float *x = &b->x[p][g * I8_GROUP];
        double most = 0;
        for (int k = 0; k < I8_GROUP; k++)
            most = fmax(most, fabs((double)x[k]));
        for (int k = 0; k < I8_GROUP; k++)
            sum += rint((double)x[k] * (127 / (float)most)) * most / 127 *
                   (double)b->w[r][g * I8_GROUP + k];
    }
    return sum;
}

static void expect_definition(const int8_variant *v, int pixels, int rows, int groups, bool add)
{
    int8_bench *b = open_int8_bench(pixels, rows, groups);
    float *d = multiply_int8_variant(b, v, add);
    for (int p = 0; p < PIXELS_MAX; p++)
        for (int r = 0; r < D_STRIDE; r++) {
            const double got = (double)d[p * D_STRIDE + r];
            if (p >= pixels || r >= b->n_panels * INT8_PANEL) {
                cr_assert(got == 0.5, "%s wrote at pixel %d row %d", v->name, p, r);
                continue;
            }
            const double want = (r < rows ? exact_int8_product(b, p, r) : 0) + (add ? 0.5 : 0);
            cr_assert(fabs(got - want) <= 2e-5 * 30 * groups, "%s, %d x %d x %d: %g, not %g",
                      v->name, pixels, rows, groups, got, want);
        }
    free(d);
    close_int8_bench(b);
}

static void expect_definitions(const int8_variant *v)
{
    expect_definition(v, 1, 1, 1, false);
    expect_definition(v, 5, 8, 2, true);
    expect_definition(v, 12, 16, 6, false);
    expect_definition(v, 13, 24, 7, true);
    expect_definition(v, 23, 61, 13, false);
}

static void expect_same_bits(const int8_variant *v)
{
    bool runs;
    int8_bench *b = open_int8_bench(23, 61, 13);
    float *mine = multiply_int8_variant(b, v, true);
    const int8_variant *plain = NULL;
    for (int i = 0; int8_nth(i, &runs); i++)
        plain = int8_nth(i, &runs); /* the last */
    float *theirs = multiply_int8_variant(b, plain, true);
    cr_expect(memcmp(mine, theirs, sizeof(float) * PIXELS_MAX * D_STRIDE) == 0, "%s", v->name);
    free(mine);
    free(theirs);
    close_int8_bench(b);
}

/* The definition's own roundings (kernels/cpu/int8.h), of a pixel and a row. */
static float defined_int8_product(const int8_bench *b, int p, int r, float before)
{
    float d = before;
    for (int g = 0; g < b->groups; g++) {
        const float *x = &b->x[p][g * I8_GROUP];
        const int8_t *w = i8_group(b->tile, b->rows, r, g);
        float most = 0;
        int sum = 0;
        for (int k = 0; k < I8_GROUP; k++)
            most = fmaxf(most, fabsf(x[k]));
        const float by = 127 / most, scale = most / 127;
        for (int k = 0; k < I8_GROUP; k++)
            sum += (int)rintf(x[k] * by) * w[k];
        const float both = f16_to_f32(i8_scales(b->tile, b->rows, g)[r]) * scale;
        d = both * (float)sum + d;
    }
    return d;
}

static void expect_defined_bits(const int8_variant *v)
{
    int8_bench *b = open_int8_bench(23, 61, 13);
    float *d = multiply_int8_variant(b, v, true);
    for (int p = 0; p < b->pixels; p++)
        for (int r = 0; r < b->rows; r++)
            cr_assert_eq(d[p * D_STRIDE + r], defined_int8_product(b, p, r, 0.5f),
                         "%s, pixel %d, row %d", v->name, p, r);
    free(d);
    close_int8_bench(b);
}

static void try_variant(int i)
{
    bool runs;
    const int8_variant *v = int8_nth(i, &runs);
    if (!v)
        cr_skip("not compiled for this architecture");
    if (!runs)
        cr_skip("%s: not on this CPU", v->name);
    expect_definitions(v);
    expect_defined_bits(v);
    expect_same_bits(v);
}

Test(kernels_int8, first_variant_computes_what_is_defined) { try_variant(0); }
Test(kernels_int8, second_variant_computes_what_is_defined) { try_variant(1); }
Test(kernels_int8, third_variant_computes_what_is_defined) { try_variant(2); }
Test(kernels_int8, fourth_variant_computes_what_is_defined) { try_variant(3); }

Test(kernels_int8, bytes_written_out_compute_what_is_defined)
{
    expect_definitions(&INT8_BYTES);
    expect_defined_bits(&INT8_BYTES);
    expect_same_bits(&INT8_BYTES);
}

Test(kernels_int8, the_largest_sums_do_not_overflow)
{
    int8_bench *b = open_int8_bench(1, 1, 1);
    float w[I8_GROUP];
    i8_error lost = { 0 };
    bool runs;

    for (int k = 0; k < I8_GROUP; k++)
        b->x[0][k] = b->w[0][k] = w[k] = k % 2 ? -127 : 127;
    i8_encode_tile(b->tile, w, 1, 1, I8_GROUP, I8_ABSMAX, &lost);
    for (int i = 0; int8_nth(i, &runs); i++) {
        const int8_variant *v = int8_nth(i, &runs);
        if (!runs)
            continue;
        float *d = multiply_int8_variant(b, v, false);
        cr_expect(d[0] == 64 * 127 * 127, "%s: %f", v->name, (double)d[0]);
        free(d);
    }
    close_int8_bench(b);
}

Test(kernels_int8, a_group_of_zeros_stays_zero_and_tiny_ones_do_not_trap)
{
    char q[2 * I8_GROUP];
    float v[I8_GROUP] = { 0 };
    bool runs;

    for (int i = 0; int8_nth(i, &runs); i++) {
        const int8_variant *x = int8_nth(i, &runs);
        if (!runs)
            continue;
        v[3] = 0;
        cr_expect(x->quantise(q, v) == 0);
        v[3] = 1e-42f;
        cr_expect(x->quantise(q, v) == 0);
    }
}

/* One value is enough, wherever it is in its group. */
Test(kernels_int8, what_is_not_finite_does_not_become_a_number)
{
    const float bad[] = { NAN, -NAN, INFINITY, -INFINITY };
    const int8_variant *v;
    bool runs;
    for (int i = 0; (v = int8_nth(i, &runs)); i++)
        for (int k = 0; runs && k < I8_GROUP; k++)
            for (int b = 0; b < 4; b++) {
                float x[I8_GROUP] = { 1, -2 };
                char q[I8_GROUP * 2];
                cr_assert(isfinite(v->quantise(q, x)), "%s", v->name);
                x[k] = bad[b];
                cr_assert(isnan(v->quantise(q, x)), "%s: %g at %d", v->name, (double)bad[b], k);
            }
}
