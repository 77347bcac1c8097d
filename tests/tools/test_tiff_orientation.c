/* tests/tools/test_tiff_orientation.c -- one tag in every type and place, as Pillow 13 reads it. */
#include "tests/support/random.h"
#include "tools/image/tiff_orientation.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TIFF_MOST = 256, DATA = 128 /* where values of more than four bytes lie */ };

/* A directory at 8 that grows by entries. */
typedef struct tiff_file {
    uint8_t p[TIFF_MOST];
    size_t len;
    bool little;
    int entries;
} tiff_file;

static void put_number(const tiff_file *t, uint8_t *at, uint64_t v, int n)
{
    for (int i = 0; i < n; i++)
        at[t->little ? i : n - 1 - i] = (uint8_t)(v >> 8 * i);
}

static tiff_file open_tiff(bool little)
{
    tiff_file t = { .len = TIFF_MOST, .little = little };
    memcpy(t.p, little ? "II*\0" : "MM\0*", 4);
    put_number(&t, t.p + 4, 8, 4);
    return t;
}

/* Returns where the value goes: into the entry. */
static uint8_t *add_entry(tiff_file *t, unsigned tag, unsigned type, uint32_t count)
{
    uint8_t *e = t->p + 10 + 12 * t->entries;
    put_number(t, t->p + 8, (uint64_t)++t->entries, 2);
    put_number(t, e, tag, 2);
    put_number(t, e + 2, type, 2);
    put_number(t, e + 4, count, 4);
    return e + 8;
}

static void add_number(tiff_file *t, unsigned tag, unsigned type, uint64_t v, int bytes)
{
    put_number(t, add_entry(t, tag, type, 1), v, bytes);
}

/* Eight bytes outside the entry: two numbers of four, or one. */
static void add_far_numbers(tiff_file *t, unsigned type, uint64_t a, uint64_t b, int bytes)
{
    put_number(t, add_entry(t, 274, type, 1), DATA, 4);
    put_number(t, t->p + DATA, a, bytes);
    if (bytes == 4)
        put_number(t, t->p + DATA + 4, b, 4);
}

static void expect_orientation(const tiff_file *t, int want, const char *what)
{
    uint8_t *exact = malloc(t->len + (t->len == 0)); /* so that a sanitizer sees its end */
    memcpy(exact, t->p, t->len);
    const int got = tiff_orientation(exact, t->len);
    cr_expect_eq(got, want, "%s, %s first: %d, not %d", what, t->little ? "least" : "most", got,
                 want);
    free(exact);
}

Test(tools_tiff_orientation, is_a_number_of_any_type_but_a_byte)
{
    static const struct {
        unsigned type;
        uint64_t v;
        int bytes, want;
    } CASES[] = {
        { 1, 6, 1, 1 },           { 2, '6', 1, 1 },        { 3, 6, 2, 6 },  { 4, 6, 4, 6 },
        { 6, 6, 1, 6 },           { 7, 6, 1, 1 },          { 8, 6, 2, 6 },  { 9, 6, 4, 6 },
        { 11, 0x40c00000, 4, 6 }, { 13, 6, 4, 6 },         { 3, 0, 2, 1 },  { 3, 9, 2, 1 },
        { 8, 0xfffa, 2, 1 },      { 9, 0xfffffffa, 4, 1 }, { 14, 6, 4, 0 }, { 0, 6, 4, 0 },
    };
    for (size_t i = 0; i < 2 * sizeof CASES / sizeof CASES[0]; i++) {
        tiff_file t = open_tiff(i % 2);
        char what[32];
        add_number(&t, 274, CASES[i / 2].type, CASES[i / 2].v, CASES[i / 2].bytes);
        (void)snprintf(what, sizeof what, "type %u", CASES[i / 2].type);
        expect_orientation(&t, CASES[i / 2].want, what);
    }
}

Test(tools_tiff_orientation, is_a_whole_fraction)
{
    static const struct {
        unsigned type;
        uint64_t a, b;
        int bytes, want;
    } CASES[] = {
        { 5, 12, 2, 4, 6 },
        { 5, 13, 2, 4, 1 },
        { 5, 6, 0, 4, 1 },
        { 10, 6, 1, 4, 6 },
        { 10, UINT32_MAX - 5, UINT32_MAX, 4, 6 },
        { 10, UINT32_MAX - 5, 1, 4, 1 },
        { 12, 0x4018000000000000, 0, 8, 6 },
        { 16, 6, 0, 8, 6 },
        { 16, (UINT64_C(1) << 32) + 6, 0, 8, 1 },
    };
    for (size_t i = 0; i < 2 * sizeof CASES / sizeof CASES[0]; i++) {
        tiff_file t = open_tiff(i % 2);
        char what[32];
        add_far_numbers(&t, CASES[i / 2].type, CASES[i / 2].a, CASES[i / 2].b, CASES[i / 2].bytes);
        (void)snprintf(what, sizeof what, "fraction %zu", i / 2);
        expect_orientation(&t, CASES[i / 2].want, what);
    }
}

Test(tools_tiff_orientation, is_the_first_of_several_numbers_and_entries)
{
    for (int little = 0; little < 2; little++) {
        tiff_file t = open_tiff(little);
        uint8_t *v = add_entry(&t, 274, 3, 2);
        put_number(&t, v, 6, 2);
        put_number(&t, v + 2, 3, 2);
        expect_orientation(&t, 6, "two numbers");
        add_number(&t, 274, 3, 8, 2);
        expect_orientation(&t, 6, "two entries");
    }
    tiff_file t = open_tiff(false);
    (void)add_entry(&t, 274, 3, 0);
    add_number(&t, 256, 3, 5, 2);
    expect_orientation(&t, 0, "an empty one");
    add_number(&t, 274, 3, 8, 2);
    expect_orientation(&t, 8, "behind an empty one");
}

Test(tools_tiff_orientation, lies_wherever_the_header_says)
{
    enum { FAR = 70000 };
    uint8_t *p = calloc(FAR + 2 + 12, 1);
    tiff_file t = open_tiff(true);
    put_number(&t, t.p + 4, FAR, 4);
    add_number(&t, 274, 3, 6, 2);
    memcpy(p, t.p, 8);
    memcpy(p + FAR, t.p + 8, 14);
    cr_expect_eq(tiff_orientation(p, FAR + 2 + 12), 6);
    cr_expect_eq(tiff_orientation(p, FAR + 2 + 11), 0, "the entry is cut");
    free(p);
}

Test(tools_tiff_orientation, is_not_read_behind_a_value_that_is_outside)
{
    tiff_file t = open_tiff(false);
    put_number(&t, add_entry(&t, 271, 2, 40), TIFF_MOST - 39, 4);
    add_number(&t, 274, 3, 6, 2);
    expect_orientation(&t, 0, "one byte beyond the end");
    put_number(&t, t.p + 18, TIFF_MOST - 40, 4);
    expect_orientation(&t, 6, "just at the end");
    put_number(&t, t.p + 14, UINT32_MAX, 4);
    expect_orientation(&t, 6, "more than the data has: left out, and no reason to end");
}

/* Nor is its value looked for. */
Test(tools_tiff_orientation, passes_over_a_tag_that_it_has)
{
    tiff_file t = open_tiff(false);
    add_number(&t, 256, 3, 5, 2);
    put_number(&t, add_entry(&t, 256, 2, 40), TIFF_MOST, 4);
    add_number(&t, 274, 3, 6, 2);
    expect_orientation(&t, 6, "the second lies outside");
}

Test(tools_tiff_orientation, begins_with_one_of_the_known_heads)
{
    static const struct {
        char head[5];
        int want;
    } HEADS[] = { { "MM\0*", 6 }, { "MM*\0", 6 }, { "MM\0+", 6 },
                  { "II\0*", 1 }, { "XX\0*", 0 }, { "MM\0,", 0 } };
    for (size_t i = 0; i < sizeof HEADS / sizeof HEADS[0]; i++) {
        tiff_file t = open_tiff(HEADS[i].head[0] == 'I');
        add_number(&t, 274, 3, HEADS[i].want == 1 ? 1 : 6, 2);
        memcpy(t.p, HEADS[i].head, 4);
        expect_orientation(&t, HEADS[i].want, HEADS[i].head);
    }
}

Test(tools_tiff_orientation, reads_nothing_outside_of_any_bytes)
{
    uint64_t seed = 1;
    for (int k = 0; k < 20000; k++) {
        tiff_file t = open_tiff(k % 2);
        add_number(&t, 271, 2, 0, 4);
        add_number(&t, 274, 5, DATA, 4);
        t.len = random_bits(&seed) % (TIFF_MOST + 1);
        for (int i = 0; i < 4; i++)
            t.p[4 + random_bits(&seed) % 40] = (uint8_t)(random_bits(&seed) >> 40);
        uint8_t *exact = malloc(t.len + (t.len == 0));
        memcpy(exact, t.p, t.len);
        const int how = tiff_orientation(exact, t.len);
        cr_assert(how >= 0 && how <= 8);
        free(exact);
    }
}
