/* tests/tools/test_quality.c -- measures of difference: values known by hand, and SSIM against its
 * definition written out. */
#include "tools/report/quality.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static void expect_quality_near(double got, double want, const char *what)
{
    cr_expect(fabs(got - want) <= 1e-9 * fabs(want), "%s: %.12g, not %.12g", what, got, want);
}

/* ---- numbers ---- */

Test(tools_quality, of_numbers_is_as_computed_by_hand)
{
    const float r[] = { 3, -4, 0, 0 }, g[] = { 3, -4, 1, -1 };
    quality q = { 0 };
    quality_add(&q, r, g, 4);
    expect_quality_near(quality_relative(&q), sqrt(2.0 / 25.0), "relative error");
    expect_quality_near(quality_sqnr(&q), 10 * log10(25.0 / 2.0), "SQNR");
    expect_quality_near(quality_psnr(&q), 20 * log10(7 / sqrt(2.0 / 4.0)),
                        "PSNR, of a peak of 3 - -4");
}

Test(tools_quality, of_parts_is_that_of_the_whole)
{
    float r[100], g[100];
    quality whole = { 0 }, parts = { 0 };
    for (int i = 0; i < 100; i++) {
        r[i] = (float)(i * 37 % 101) + 5;
        g[i] = r[i] + (float)(i % 3) / 8;
    }
    quality_add(&whole, r, g, 100);
    for (int i = 0; i < 100; i += 25)
        quality_add(&parts, r + i, g + i, 25);
    expect_quality_near(quality_psnr(&parts), quality_psnr(&whole), "PSNR");
    expect_quality_near(quality_sqnr(&parts), quality_sqnr(&whole), "SQNR");
    expect_quality_near(quality_psnr(&whole), 10 * log10(100.0 * 100.0 * 100.0 / whole.noise),
                        "PSNR by hand");
    cr_expect_eq(whole.n, 100u);
}

Test(tools_quality, without_difference_is_infinite)
{
    const float v[] = { 1, 2 }, nothing[] = { 0, 0 };
    quality q = { 0 };
    quality_add(&q, v, v, 2);
    cr_expect(quality_relative(&q) == 0 && isinf(quality_sqnr(&q)) && isinf(quality_psnr(&q)));
    q = (quality){ 0 };
    quality_add(&q, nothing, nothing, 2);
    cr_expect(quality_relative(&q) == 0 && isinf(quality_sqnr(&q)) && isinf(quality_psnr(&q)));
}

Test(tools_quality, a_value_that_is_no_number_is_not_overlooked)
{
    const float r[] = { 1, 2, 3 }, g[] = { 1, NAN, 3 };
    quality q = { 0 };
    quality_add(&q, r, g, 3);
    cr_expect(isnan(quality_relative(&q)) && isnan(quality_sqnr(&q)) && isnan(quality_psnr(&q)));
}

/* ---- images ---- */

enum { W = 37, H = 29, PIXELS = W * H * 3 };

static void fill_solid_colour(uint8_t *rgb, int r, int g, int b)
{
    for (int i = 0; i < PIXELS; i += 3) {
        rgb[i] = (uint8_t)r;
        rgb[i + 1] = (uint8_t)g;
        rgb[i + 2] = (uint8_t)b;
    }
}

/* Reproducible, with edges. */
static void fill_edge_image(uint8_t *rgb)
{
    uint32_t x = 12345;
    for (int i = 0; i < PIXELS; i++) {
        x = x * 1664525u + 1013904223u;
        rgb[i] = (uint8_t)((i / 3 % W > W / 2 ? 140 : 40) + (int)(x >> 24) % 60);
    }
}

static void add_image_noise(uint8_t *to, const uint8_t *from, int by)
{
    uint32_t x = 999;
    for (int i = 0; i < PIXELS; i++) {
        x = x * 1664525u + 1013904223u;
        to[i] = (uint8_t)(from[i] + (int)(x >> 16) % (2 * by + 1) - by);
    }
}

Test(tools_quality, of_a_picture_with_itself_is_perfect)
{
    static uint8_t rgb[PIXELS];
    fill_edge_image(rgb);
    const image_quality q = compare_image_quality(rgb, rgb, W, H);
    cr_expect(isinf(q.psnr) && q.psnr > 0 && q.apart == 0);
    expect_quality_near(q.ssim, 1.0, "SSIM");
}

Test(tools_quality, of_a_picture_one_level_brighter_is_48_dB)
{
    static uint8_t a[PIXELS], b[PIXELS];
    fill_edge_image(a);
    for (int i = 0; i < PIXELS; i++)
        b[i] = (uint8_t)(a[i] + 1);
    b[17] = (uint8_t)(a[17] - 6);
    image_quality q = compare_image_quality(a, b, W, H);
    cr_expect_eq(q.apart, 6);
    expect_quality_near(q.psnr, 10 * log10(255.0 * 255.0 * PIXELS / (PIXELS - 1 + 36)), "PSNR");
    cr_expect(fabs(q.psnr - 48.1308) < 0.1);
}

/* Without variance SSIM is the comparison of the means alone. */
Test(tools_quality, ssim_of_flat_pictures_compares_their_luma)
{
    static uint8_t a[PIXELS], b[PIXELS];
    const double c1 = 2.55 * 2.55, from = 0.299 * 90 + 0.587 * 120 + 0.114 * 60;
    const double shift[] = { 0.299 * 50, 0.587 * 50, 0.114 * 50 };
    fill_solid_colour(a, 90, 120, 60);
    for (int i = 0; i < 3; i++) {
        fill_solid_colour(b, 90 + 50 * (i == 0), 120 + 50 * (i == 1), 60 + 50 * (i == 2));
        const double to = from + shift[i];
        const double got = compare_image_quality(a, b, W, H).ssim;
        const double want = (2 * from * to + c1) / (from * from + to * to + c1);
        cr_expect(fabs(got - want) < 1e-9, "channel %d: %.12g, not %.12g", i, got, want);
    }
}

/* The definition, centred and not separated: means first, then the products of differences. */
static double written_out(const uint8_t *a, const uint8_t *b)
{
    static double la[H][W], lb[H][W];
    double k[11][11], all = 0, sum = 0;
    for (int i = 0; i < W * H; i++) {
        la[i / W][i % W] = 0.299 * a[3 * i] + 0.587 * a[3 * i + 1] + 0.114 * a[3 * i + 2];
        lb[i / W][i % W] = 0.299 * b[3 * i] + 0.587 * b[3 * i + 1] + 0.114 * b[3 * i + 2];
    }
    for (int i = -5; i <= 5; i++)
        for (int j = -5; j <= 5; j++)
            all += k[i + 5][j + 5] = exp(-(i * i + j * j) / (2 * 1.5 * 1.5));
    for (int y = 5; y < H - 5; y++)
        for (int x = 5; x < W - 5; x++) {
            double ma = 0, mb = 0, vaa = 0, vbb = 0, vab = 0;
            for (int i = 0; i < 121; i++) {
                ma += k[i / 11][i % 11] / all * la[y + i / 11 - 5][x + i % 11 - 5];
                mb += k[i / 11][i % 11] / all * lb[y + i / 11 - 5][x + i % 11 - 5];
            }
            for (int i = 0; i < 121; i++) {
                const double da = la[y + i / 11 - 5][x + i % 11 - 5] - ma;
                const double db = lb[y + i / 11 - 5][x + i % 11 - 5] - mb;
                vaa += k[i / 11][i % 11] / all * da * da;
                vbb += k[i / 11][i % 11] / all * db * db;
                vab += k[i / 11][i % 11] / all * da * db;
            }
            sum += (2 * ma * mb + 6.5025) / (ma * ma + mb * mb + 6.5025) * (2 * vab + 58.5225) /
                   (vaa + vbb + 58.5225);
        }
    return sum / ((W - 10) * (H - 10));
}

Test(tools_quality, ssim_is_its_definition)
{
    static uint8_t a[PIXELS], b[PIXELS];
    double last = 1;
    fill_edge_image(a);
    for (int by = 1; by <= 32; by *= 2) {
        add_image_noise(b, a, by);
        const double got = compare_image_quality(a, b, W, H).ssim;
        cr_expect(fabs(got - written_out(a, b)) < 1e-9, "%.12g, not %.12g", got, written_out(a, b));
        cr_expect_lt(got, last);
        last = got;
    }
    cr_expect_lt(last, 0.9);
}
