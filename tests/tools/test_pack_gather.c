/* tests/tools/test_pack_gather.c -- rows as the pack wants them, from any row to any row. */
#include "engine/base/mem.h"
#include "tools/packer/pack_gather.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 1 << 16 };

/* Numbers its elements: part p, element i holds (p << 12) + i. */
typedef struct numbered {
    weight_source source;
    uint64_t expected; /* elements announced */
} numbered;

static refine_status read_numbers(const weight_source *s, int entry, int part, uint64_t first,
                                  size_t n, dtype to, void *dst, refine_error *err)
{
    const weight_entry *e = &s->list.entry[entry];
    (void)err;
    cr_assert_leq(first + n, weight_elements(e) / (uint64_t)e->n_sources);
    for (size_t i = 0; i < n; i++) {
        const uint32_t v = (uint32_t)(((uint64_t)part << 12) + first + i);
        if (to == DT_F16)
            ((uint16_t *)dst)[i] = (uint16_t)v;
        else
            ((float *)dst)[i] = (float)v;
    }
    return REFINE_OK;
}

static void count_expected(const weight_source *s, int entry, int part, uint64_t first, size_t n)
{
    const weight_entry *e = &s->list.entry[entry];
    (void)part;
    cr_assert_leq(first + n, weight_elements(e) / (uint64_t)e->n_sources);
    ((numbered *)(uintptr_t)s)->expected += n;
}

static numbered source_of(weight_entry *e)
{
    return (numbered){
        .source = { .list = { .entry = e, .n = 1 }, .read = read_numbers, .expect = count_expected }
    };
}

/* What row r, input c, tap t of the entry should hold. */
static uint32_t number_at(const weight_entry *e, int r, int tap, int c)
{
    const int rows = e->seg == SEG_VECTORS ? e->c_in : e->rows;
    const int c_in = e->seg == SEG_VECTORS ? 1 : e->c_in, taps = e->kh * e->kw;
    int part = 0, row = r;
    if (e->op == WEIGHT_STACK) {
        part = r / (rows / e->n_sources);
        row = r % (rows / e->n_sources);
    } else if (e->op == WEIGHT_INTERLEAVE) {
        row = r % 2 ? rows / 2 + r / 2 : r / 2;
    }
    return ((uint32_t)part << 12) + (uint32_t)((row * c_in + c) * taps + tap);
}

static void check_gathered_rows(weight_entry *e, int row0, int rows)
{
    static uint16_t half[MOST], scratch[2 * MOST];
    static float wide[MOST];
    numbered n = source_of(e);
    const bool vector = e->seg == SEG_VECTORS;
    const int taps = e->kh * e->kw, c_in = vector ? 1 : e->c_in;
    size_t at = 0;

    cr_assert_eq(pack_gather(&n.source, 0, row0, rows, vector ? DT_F32 : DT_F16,
                             vector ? (void *)wide : half, scratch, NULL),
                 REFINE_OK);
    for (int r = row0; r < row0 + rows; r++)
        for (int t = 0; t < taps; t++)
            for (int c = 0; c < c_in; c++, at++)
                cr_assert_eq(vector ? (uint32_t)wide[at] : half[at], number_at(e, r, t, c),
                             "rows %d+%d: row %d tap %d input %d", row0, rows, r, t, c);
    pack_gather_expect(&n.source, 0, row0, rows);
    if (!vector && rows % 2 == 0 && row0 % 2 == 0)
        cr_assert_eq(n.expected, at);
}

static void check_all(weight_entry e)
{
    const int rows = e.seg == SEG_VECTORS ? e.c_in : e.rows;
    for (int row0 = 0; row0 < rows; row0++)
        for (int n = 1; row0 + n <= rows; n++)
            check_gathered_rows(&e, row0, n);
}

Test(tools_pack_gather, copies)
{
    check_all((weight_entry){ .seg = SEG_UNET,
                              .op = WEIGHT_COPY,
                              .rows = 12,
                              .kh = 1,
                              .kw = 1,
                              .c_in = 5,
                              .n_sources = 1 });
}

Test(tools_pack_gather, puts_channels_of_a_convolution_last)
{
    check_all((weight_entry){ .seg = SEG_UNET,
                              .op = WEIGHT_COPY,
                              .rows = 7,
                              .kh = 3,
                              .kw = 3,
                              .c_in = 6,
                              .n_sources = 1 });
    check_all((weight_entry){ .seg = SEG_UNET,
                              .op = WEIGHT_COPY,
                              .rows = 4,
                              .kh = 2,
                              .kw = 3,
                              .c_in = 5,
                              .n_sources = 1 });
}

Test(tools_pack_gather, stacks_across_the_seams)
{
    check_all((weight_entry){ .seg = SEG_UNET,
                              .op = WEIGHT_STACK,
                              .rows = 15,
                              .kh = 1,
                              .kw = 1,
                              .c_in = 4,
                              .n_sources = 3 });
    check_all((weight_entry){ .seg = SEG_ONCE,
                              .op = WEIGHT_STACK,
                              .rows = 8,
                              .kh = 1,
                              .kw = 1,
                              .c_in = 3,
                              .n_sources = 2 });
}

Test(tools_pack_gather, interleaves_values_and_gates)
{
    check_all((weight_entry){ .seg = SEG_UNET,
                              .op = WEIGHT_INTERLEAVE,
                              .rows = 14,
                              .kh = 1,
                              .kw = 1,
                              .c_in = 3,
                              .n_sources = 1 });
}

Test(tools_pack_gather, biases_follow_their_matrices)
{
    weight_entry e = {
        .seg = SEG_VECTORS, .rows = 1, .kh = 1, .kw = 1, .c_in = 18, .n_sources = 1
    };
    check_gathered_rows(&e, 0, 18);
    e.op = WEIGHT_INTERLEAVE;
    check_gathered_rows(&e, 0, 18);
    e.op = WEIGHT_STACK;
    e.n_sources = 3;
    check_gathered_rows(&e, 0, 18);
}
