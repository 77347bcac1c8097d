/* tests/kernels/test_onednn.c -- products, and the table they are kept in. */
#include "kernels/cpu/onednn.h"

#include "engine/base/mem.h"
#include "kernels/cpu/panels.h"
#include "tests/support/field.h"

#include <criterion/criterion.h>
#include <malloc.h>
#include <math.h>
#include <string.h>

static onednn *open_library(void)
{
    refine_error err = { 0 };
    onednn_thread();
    onednn *o = onednn_open(DT_F32, 1, &err);
    cr_assert(o, "%s", err.text);
    return o;
}

static void *take(size_t bytes)
{
    void *p = mem_map(bytes ? bytes : 1);
    cr_assert(p);
    return p;
}

/* d (+)= a w^T, compared with the definition. */
static void expect_product(onednn *o, product_shape s)
{
    const product *p = onednn_product(o, s);
    cr_assert(p, "%d x %d x %d", s.pixels, s.k, s.rows);
    const product_layout l = product_weights(p);
    field a = field_random(1, DT_F32, 1, 1, s.pixels, s.k, 1);
    field w = field_random(2, DT_F16, 1, 1, s.rows, s.k, 1);
    field d = field_random(3, DT_F32, 1, 1, s.pixels, s.rows, 1), before = field_copy(&d);
    void *packed = take(l.bytes), *scratch = take(product_scratch(p));

    for (int i = 0; i < pack_panels(l); i++)
        pack_panel(vec_pick(), l, DT_F32, packed, i,
                   pack_source_tap(w.data, w.type, s.rows, 1, s.k, 0));
    cr_assert(product_run(p, 0, d.data, a.data, packed, scratch));
    for (int i = 0; i < s.pixels; i++)
        for (int r = 0; r < s.rows; r++) {
            double want = s.add ? (double)field_at(&before, (size_t)i, r) : 0;
            for (int k = 0; k < s.k; k++)
                want += (double)field_at(&a, (size_t)i, k) * (double)field_at(&w, (size_t)r, k);
            cr_assert(fabs((double)field_at(&d, (size_t)i, r) - want) <= s.k * 0x1p-24 + 1e-6);
        }
    mem_unmap(packed, l.bytes);
    mem_unmap(scratch, product_scratch(p) ? product_scratch(p) : 1);
    field_free(&a);
    field_free(&w);
    field_free(&d);
    field_free(&before);
}

Test(kernels_onednn, multiplies_and_adds)
{
    onednn *o = open_library();
    for (int add = 0; add < 2; add++) {
        expect_product(o, (product_shape){ 128, 64, 128, add });
        expect_product(o, (product_shape){ 1, 16, 16, add });
        expect_product(o, (product_shape){ 77, 80, 48, add });
        expect_product(o, (product_shape){ 519, 32, 64, add });
    }
    onednn_close(o);
}

Test(kernels_onednn, keeps_what_it_made)
{
    onednn *o = open_library();
    const product_shape s = { 100, 32, 64, false };
    const product *first = onednn_product(o, s);
    const uint64_t calls = mem_used().calls;
    cr_expect(first && onednn_product(o, s) == first);
    cr_expect(mem_used().calls == calls);
    onednn_close(o);
}

/* Rows and k decide the layout, pixels and addition do not: weights serve several products. */
Test(kernels_onednn, lays_weights_out_alike_for_any_number_of_pixels)
{
    onednn *o = open_library();
    const product *p = onednn_product(o, (product_shape){ 128, 64, 64, false });
    cr_assert(p);
    const product_layout want = product_weights(p);
    for (int pixels = 1; pixels < 40; pixels++) {
        p = onednn_product(o, (product_shape){ pixels, 64, 64, pixels % 2 });
        cr_assert(p);
        const product_layout l = product_weights(p);
        cr_assert(l.panel == want.panel && l.group == want.group && l.k == want.k &&
                  l.rows == want.rows && l.bytes == want.bytes);
    }
    onednn_close(o);
}

Test(kernels_onednn, empties_a_full_table_when_asked_for_room)
{
    onednn *o = open_library();
    int made = 0;
    while (onednn_product(o, (product_shape){ made + 1, 16, 16, false }))
        made++;
    cr_expect(made >= 256);
    onednn_make_room(o, 8);
    cr_expect(onednn_product(o, (product_shape){ made + 1, 16, 16, false }) != NULL);
    onednn_close(o);
}

Test(kernels_onednn, says_so_when_memory_is_out)
{
    onednn *o = open_library();
    mem_fail_after(0, MEM_FAIL_ONCE);
    cr_expect(onednn_product(o, (product_shape){ 5, 16, 16, false }) == NULL);
    mem_fail_after(-1, MEM_FAIL_ONCE);
    cr_expect(onednn_product(o, (product_shape){ 5, 16, 16, false }) != NULL);
    onednn_close(o);
    for (int k = 0; k < 2; k++) {
        refine_error err = { 0 };
        mem_fail_after(k, MEM_FAIL_ONCE);
        cr_expect(onednn_open(DT_F32, 1, &err) == NULL && err.status == REFINE_ENOMEM);
        mem_fail_after(-1, MEM_FAIL_ONCE);
    }
    onednn_close(NULL);
}

Test(kernels_onednn, execution_leaves_no_memory_behind)
{
    onednn *o = open_library();
    const product *p = onednn_product(o, (product_shape){ 128, 64, 64, false });
    cr_assert(p && product_weights(p).bytes <= 64 * 64 * 16);
    static float a[128 * 64], w[64 * 64 * 4], d[128 * 64], scratch[1 << 20];
    cr_assert(product_run(p, 0, d, a, w, scratch));
    /* The library may settle for a few runs; what it kept of each would show in a thousand. */
    enum { RUNS = 1000 };
    const size_t before = mallinfo2().uordblks;
    for (int i = 0; i < RUNS; i++)
        cr_assert(product_run(p, 0, d, a, w, scratch));
    const size_t after = mallinfo2().uordblks;
    cr_expect(after < before + RUNS, "%zu bytes became %zu", before, after);
    onednn_close(o);
}
