/* tests/tools/test_size_wish.c -- what was asked for becomes sides, and a cut of the input. */
#include "tools/batch/size_wish.h"

#include "tests/support/random.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>

enum { ROUNDS = 20000 };

static size_wish parse_size(const char *text)
{
    size_wish w = { 0 };
    cr_assert(size_wish_parse(&w, text), "%s", text);
    return w;
}

Test(tools_size_wish, comes_to_the_sides_that_were_asked_for)
{
    static const struct {
        const char *text;
        size_fit_kind fit;
        int from[2], cut[4], to[2];
    } CASES[] = {
        { "512x256", FIT_COVER, { 300, 300 }, { 0, 75, 300, 150 }, { 512, 256 } },
        { "256x512", FIT_COVER, { 300, 300 }, { 75, 0, 150, 300 }, { 256, 512 } },
        { "512x256", FIT_CONTAIN, { 300, 300 }, { 0, 0, 300, 300 }, { 256, 256 } },
        { "512x256", FIT_STRETCH, { 300, 300 }, { 0, 0, 300, 300 }, { 512, 256 } },
        { "1024", FIT_COVER, { 4000, 3000 }, { 0, 0, 4000, 3000 }, { 1024, 768 } },
        { "1024", FIT_COVER, { 300, 400 }, { 0, 0, 300, 400 }, { 768, 1024 } },
        { "1MP", FIT_COVER, { 64, 64 }, { 0, 0, 64, 64 }, { 1024, 1024 } },
        { "0.25mp", FIT_STRETCH, { 4096, 1024 }, { 0, 0, 4096, 1024 }, { 1024, 256 } },
        { "input", FIT_COVER, { 101, 67 }, { 0, 0, 101, 67 }, { 96, 64 } },
    };
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        size_wish w = parse_size(CASES[i].text);
        size_fit f;
        w.fit = CASES[i].fit;
        cr_assert(size_wish_apply(&f, &w, CASES[i].from[0], CASES[i].from[1]));
        cr_expect(f.width == CASES[i].to[0] && f.height == CASES[i].to[1], "%zu: %d x %d", i,
                  f.width, f.height);
        cr_expect(f.x == CASES[i].cut[0] && f.y == CASES[i].cut[1] &&
                      f.cut_width == CASES[i].cut[2] && f.cut_height == CASES[i].cut[3],
                  "%zu: %d x %d at %d, %d", i, f.cut_width, f.cut_height, f.x, f.y);
    }
}

Test(tools_size_wish, is_refused_where_it_makes_no_sense)
{
    static const char *const BAD[] = { "",         "x",     "64x",   "x64",   "63x64",   "64x65",
                                       "16392x64", "63",    "16385", "1M",    "MP",      "0MP",
                                       "257MP",    "nanMP", "-1MP",  "Input", "64x64x64" };
    for (size_t i = 0; i < sizeof BAD / sizeof BAD[0]; i++) {
        size_wish w = { 0 };
        cr_expect_not(size_wish_parse(&w, BAD[i]), "%s", BAD[i]);
    }
}

/* Sides of all magnitudes. */
static int draw_length(uint64_t *seed, int most)
{
    return 1 + random_below(seed, 1 + random_below(seed, most));
}

static size_wish draw_wish(uint64_t *seed)
{
    char text[48];
    const int unit = SIZE_SIDE_MAX / SIZE_UNIT - 7;
    switch (random_below(seed, 4)) {
    case 0:
        (void)snprintf(text, sizeof text, "%dx%d", (7 + draw_length(seed, unit)) * SIZE_UNIT,
                       (7 + draw_length(seed, unit)) * SIZE_UNIT);
        break;
    case 1: (void)snprintf(text, sizeof text, "%d", 63 + draw_length(seed, 16384 - 63)); break;
    case 2: (void)snprintf(text, sizeof text, "%gMP", draw_length(seed, 25600) / 100.0); break;
    default: (void)snprintf(text, sizeof text, "input"); break;
    }
    size_wish w = parse_size(text);
    w.fit = (size_fit_kind)random_below(seed, 3);
    return w;
}

static bool is_result_side(int v)
{
    return v >= SIZE_SIDE_MIN && v <= SIZE_SIDE_MAX && v % SIZE_UNIT == 0;
}

Test(tools_size_wish, keeps_to_the_image_and_to_the_sides_there_are)
{
    uint64_t seed = 5;
    for (int i = 0; i < ROUNDS; i++) {
        const size_wish w = draw_wish(&seed);
        const int width = draw_length(&seed, SIZE_SIDE_MAX);
        const int height = draw_length(&seed, SIZE_SIDE_MAX);
        size_fit f;
        if (!size_wish_apply(&f, &w, width, height)) {
            cr_assert(w.kind == SIZE_OWN || w.fit == FIT_CONTAIN);
            continue;
        }
        cr_assert(is_result_side(f.width) && is_result_side(f.height), "round %d", i);
        cr_assert(f.x >= 0 && f.y >= 0 && f.cut_width >= 1 && f.cut_height >= 1 &&
                      f.x + f.cut_width <= width && f.y + f.cut_height <= height,
                  "round %d", i);
        cr_assert(f.cut_width == width || f.cut_height == height, "round %d", i);
        if (w.kind == SIZE_SIDES && w.fit != FIT_CONTAIN)
            cr_assert(f.width == w.width && f.height == w.height, "round %d", i);
        if (w.kind == SIZE_OWN || w.fit != FIT_COVER)
            continue;
        const double shape = (double)f.width / f.height;
        cr_assert(fabs(f.cut_width - f.cut_height * shape) <= fmax(1, shape), "round %d", i);
    }
}
