/* tests/kernels/test_panels.c -- weights in panels, against the definition of the layout. */
#include "kernels/cpu/panels.h"

#include "quant/f16.h"
#include "tests/support/field.h"
#include "tests/support/gemm_twin.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

enum { MOST_ROWS = 96, MOST_K = 704, GUARD = 64, SPOIL = 0x7f };

static char packed[MOST_ROWS * MOST_K * sizeof(float) + GUARD];

/* What operand lies at row r, element k of panels that are `k_all` long. */
static float read_packed_operand(const gemm *g, int k_all, int r, int k)
{
    const int per_word = GEMM_WORD / (int)dtype_bytes(g->element);
    const char *panel = packed + (size_t)(r / GEMM_PANEL) * gemm_panel_bytes(g->element, k_all);
    const int at = (k / per_word * GEMM_PANEL + r % GEMM_PANEL) * per_word + k % per_word;
    float v;

    if (g->element == DT_F32)
        memcpy(&v, panel + at * (int)sizeof v, sizeof v);
    else
        v = bf16_to_f32(((const uint16_t *)(const void *)panel)[at]);
    return v;
}

static float as_operand(const gemm *g, float v)
{
    return g->type == DT_F32 ? v : bf16_to_f32(f32_to_bf16(v));
}

static void expect_untouched_behind(const gemm *g, int rows, int k)
{
    const char *end = packed + (size_t)rows * (size_t)k * dtype_bytes(g->element);
    for (int i = 0; i < GUARD; i++)
        cr_assert(end[i] == SPOIL);
}

static void pack_rows(const gemm *g, int rows, int k, pack_source s)
{
    memset(packed, SPOIL, sizeof packed);
    for (int r = 0; r < rows; r += GEMM_PANEL)
        pack_panel(g, vec_pick(),
                   packed + (size_t)(r / GEMM_PANEL) * gemm_panel_bytes(g->element, k), r, k, s);
}

static void expect_packed(const gemm *g, int rows, int k, dtype source)
{
    const int have_rows = rows - 3, have_k = k - 5; /* the rest is to become zeros */
    field f = field_view(3, source, 1, 1, have_rows, have_k, 0, have_k + 9, 0, 1);
    const pack_source s = {
        .data = f.data, .type = source, .stride = (size_t)f.stride, .rows = have_rows, .k = have_k
    };

    pack_rows(g, rows, k, s);
    for (int r = 0; r < rows; r++)
        for (int i = 0; i < k; i++) {
            const bool there = r < have_rows && i < have_k;
            const float want = there ? as_operand(g, field_at(&f, (size_t)r, i)) : 0;
            cr_assert(read_packed_operand(g, k, r, i) == want, "%s, from type %d: %d, %d", g->name,
                      source, r, i);
        }
    expect_untouched_behind(g, rows, k);
    field_free(&f);
}

static void expect_transposed(const gemm *g, int rows, int k, dtype source)
{
    const int have_rows = rows - 3, have_k = k - 5;
    field f = field_view(4, source, 1, 1, have_k, have_rows, 0, have_rows + 2, 0, 1);
    const pack_source s = {
        .data = f.data, .type = source, .stride = (size_t)f.stride, .rows = have_k, .k = have_rows
    };

    memset(packed, SPOIL, sizeof packed);
    pack_transposed(g, packed, rows, k, s);
    for (int r = 0; r < rows; r++)
        for (int i = 0; i < k; i++) {
            const bool there = r < have_rows && i < have_k;
            const float want = there ? as_operand(g, field_at(&f, (size_t)i, r)) : 0;
            cr_assert(read_packed_operand(g, k, r, i) == want, "%s, from type %d: %d, %d", g->name,
                      source, r, i);
        }
    expect_untouched_behind(g, rows, k);
    field_free(&f);
}

static void for_each(void expect(const gemm *, int, int, dtype))
{
    const dtype sources[] = { DT_F32, DT_F16, DT_BF16 };
    const gemm *g;
    for (int i = 0; (g = gemm_testable(i)); i++)
        for (int s = 0; s < 3; s++) {
            expect(g, 48, 64, sources[s]);
            expect(g, 16, 16, sources[s]);
            expect(g, MOST_ROWS, MOST_K, sources[s]); /* longer than is decoded at a time */
        }
}

Test(kernels_panels, lay_out_rows) { for_each(expect_packed); }

Test(kernels_panels, lay_out_columns) { for_each(expect_transposed); }

/* Of 16-bit weights and of groups, which lose up to half a step of 1/127. */
static void expect_channels(int c0, int n)
{
    const int rows = 21, taps = 9, channels = 70, rows_all = 32, k = 80;
    const gemm *g = gemm_pick(DT_F32);
    field wide = field_random(5, DT_F32, rows, 3, 3, channels, 1);
    field groups = field_random(5, DT_I8G64, rows, 3, 3, channels, 1);

    for (int tap = 0; tap < taps; tap++)
        for (int quantised = 0; quantised < 2; quantised++) {
            const field *f = quantised ? &groups : &wide;
            const pack_tile tile = { f->data, f->type, rows, taps, channels };
            pack_rows(g, rows_all, k, pack_source_of(tile, tap, c0, n));
            for (int r = 0; r < rows_all; r++)
                for (int i = 0; i < k; i++) {
                    const bool there = r < rows && i < n;
                    const float want = there ? field_at(&wide, (size_t)(r * taps + tap), c0 + i)
                                             : 0;
                    cr_assert(fabsf(read_packed_operand(g, k, r, i) - want) <=
                                  (quantised ? 0x1p-7f : 0),
                              "tap %d: %d, %d", tap, r, i);
                }
        }
    field_free(&wide);
    field_free(&groups);
}

Test(kernels_panels, take_one_tap_of_a_tile) { expect_channels(0, 70); }

Test(kernels_panels, take_some_channels_of_a_tap)
{
    expect_channels(0, 64);
    expect_channels(64, 6);
}
