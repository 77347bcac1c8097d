/* tests/kernels/test_panels.c -- weights in panels, against the definition of the layout. */
#include "kernels/cpu/panels.h"

#include "quant/f16.h"
#include "tests/support/field.h"

#include <criterion/criterion.h>
#include <string.h>

enum { MOST = 96 * 704, GUARD = 64 };

static float w[MOST + GUARD], row[16384];

static float packed_at(product_layout l, dtype multiply, int r, int k)
{
    const size_t at = (size_t)(r / l.panel) * (size_t)l.panel * (size_t)l.k +
                      (size_t)(k / l.group) * (size_t)(l.panel * l.group) +
                      (size_t)(r % l.panel * l.group) + (size_t)(k % l.group);
    return multiply == DT_F32 ? w[at] : bf16_to_f32(((const uint16_t *)(const void *)w)[at]);
}

static float rounded(dtype multiply, float v)
{
    return multiply == DT_F32 ? v : bf16_to_f32(f32_to_bf16(v));
}

static const product_layout LAYOUTS[] = {
    { 8, 1, 48, 64, 0 },   /* AVX2 */
    { 16, 1, 48, 80, 0 },  /* AVX-512 */
    { 16, 2, 48, 96, 0 },  /* BF16 */
    { 64, 2, 64, 704, 0 }, /* AMX; k longer than is decoded at a time */
    { 1, 1, 33, 50, 0 },   /* plain, k innermost */
    { 40, 1, 40, 7, 0 },   /* plain, rows innermost */
};

enum { N_LAYOUTS = sizeof LAYOUTS / sizeof LAYOUTS[0] };

static void expect_packed(product_layout l, dtype multiply, dtype source)
{
    const int rows = l.rows - 3, k = l.k - 5; /* the rest is to become zeros */
    field f = field_view(3, source, 1, 1, rows, k, 0, k + 9, 0, 1);
    const pack_source s = {
        .data = f.data, .type = source, .stride = (size_t)f.stride, .rows = rows, .k = k
    };

    memset(w, 0x7f, sizeof w);
    for (int p = 0; p < pack_panels(l); p++)
        pack_panel(vec_pick(), l, multiply, w, p, s);
    for (int r = 0; r < l.rows; r++)
        for (int i = 0; i < l.k; i++) {
            const float want = r < rows && i < k ? rounded(multiply, field_at(&f, (size_t)r, i))
                                                 : 0;
            cr_assert(packed_at(l, multiply, r, i) == want, "panel %d group %d: %d, %d", l.panel,
                      l.group, r, i);
        }
    const unsigned char *end = (const unsigned char *)w +
                               (size_t)l.rows * (size_t)l.k * dtype_bytes(multiply);
    cr_expect(end[0] == 0x7f && end[GUARD - 1] == 0x7f);
    field_free(&f);
}

Test(kernels_panels, lays_out_rows_as_the_layout_says)
{
    const dtype sources[] = { DT_F32, DT_F16, DT_BF16 };
    for (int i = 0; i < N_LAYOUTS; i++)
        for (int s = 0; s < 3; s++) {
            expect_packed(LAYOUTS[i], DT_F32, sources[s]);
            expect_packed(LAYOUTS[i], DT_BF16, sources[s]);
        }
}

static void expect_transposed(product_layout l, dtype multiply, dtype source)
{
    const int rows = l.k - 5, k = l.rows - 3;
    field f = field_view(4, source, 1, 1, rows, k, 0, k + 2, 0, 1);
    const pack_source s = {
        .data = f.data, .type = source, .stride = (size_t)f.stride, .rows = rows, .k = k
    };

    memset(w, 0x7f, sizeof w);
    pack_transposed(l, multiply, w, s, row);
    for (int r = 0; r < l.rows; r++)
        for (int i = 0; i < l.k; i++) {
            const float want = i < rows && r < k ? rounded(multiply, field_at(&f, (size_t)i, r))
                                                 : 0;
            cr_assert(packed_at(l, multiply, r, i) == want, "panel %d group %d: %d, %d", l.panel,
                      l.group, r, i);
        }
    field_free(&f);
}

Test(kernels_panels, lays_out_columns_as_the_layout_says)
{
    for (int i = 0; i < N_LAYOUTS; i++) {
        product_layout l = LAYOUTS[i];
        l.k -= l.k % l.group;
        expect_transposed(l, DT_F32, DT_F32);
        expect_transposed(l, DT_BF16, DT_BF16);
        expect_transposed(l, DT_BF16, DT_F16);
    }
}
