/* tests/tools/test_resample.c -- byte for byte against Pillow. */
#include "engine/base/mem.h"
#include "tests/support/vectors.h"
#include "tools/image/resample.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

/* The image of the vectors below: byte i is 37 i mod 251, 7 wide and 5 high. */
enum { W = 7, H = 5 };

static void fill_source_image(uint8_t src[W * H * 3])
{
    for (int i = 0; i < W * H * 3; i++)
        src[i] = (uint8_t)(i * 37 % 251);
}

/* Image.resize(..., LANCZOS) of Pillow 9.5, 11.3 and 12.0. */
static const uint8_t TO_4X8[] = { 54,  83,  117, 167, 67,  112, 124, 182, 61,  117, 153, 194,
                                  64,  91,  124, 193, 79,  118, 129, 123, 79,  126, 155, 137,
                                  81,  108, 147, 193, 102, 135, 153, 47,  109, 145, 172, 62,
                                  91,  123, 175, 111, 119, 154, 188, 55,  122, 156, 202, 73,
                                  100, 136, 139, 72,  129, 156, 148, 92,  148, 181, 162, 99,
                                  115, 152, 74,  107, 142, 128, 66,  115, 171, 185, 82,  110,
                                  134, 171, 90,  128, 160, 80,  78,  136, 133, 110, 82,  142,
                                  143, 180, 123, 132, 170, 55,  113, 143, 98,  53,  108, 161 };
static const uint8_t TO_7X3[] = { 8,   45,  82, 119, 156, 206, 243, 16,  53,  90, 127, 159, 214,
                                  134, 24,  61, 98,  135, 167, 222, 142, 48,  85, 122, 159, 196,
                                  181, 71,  56, 93,  130, 167, 221, 189, 10,  64, 101, 138, 175,
                                  229, 197, 18, 88,  125, 162, 199, 236, 9,   46, 96,  133, 170,
                                  207, 97,  17, 72,  104, 141, 178, 215, 105, 25, 80 };
static const uint8_t TO_3X2[] = { 95,  98,  141, 158, 91,  118, 147, 153, 104,
                                  118, 159, 110, 106, 129, 127, 130, 109, 124 };

Test(engine_resample, equals_pillow_in_every_byte)
{
    static const struct {
        int w, h;
        const uint8_t *want;
    } cases[] = { { 4, 8, TO_4X8 }, { 7, 3, TO_7X3 }, { 3, 2, TO_3X2 } };
    uint8_t src[W * H * 3], dst[96];
    fill_source_image(src);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const size_t n = (size_t)(cases[i].w * cases[i].h * 3);
        cr_assert_eq(resample_lanczos(dst, cases[i].w, cases[i].h, src, W, H, NULL), REFINE_OK);
        cr_expect_arr_eq(dst, cases[i].want, n, "to %dx%d", cases[i].w, cases[i].h);
    }
}

static uint32_t hash_image_bytes(const uint8_t *s, size_t n)
{
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < n; i++)
        h = (h ^ s[i]) * 16777619u;
    return h;
}

/* Black and white noise, large enough to meet every rounding: hashes of Pillow's bytes. */
Test(engine_resample, equals_pillow_in_every_rounding)
{
    static const struct {
        int w, h;
        uint32_t hash;
    } cases[] = { { 333, 77, 4004990984u }, { 96, 64, 3937938736u }, { 640, 480, 4205311861u } };
    enum { SW = 200, SH = 150 };
    uint8_t *src = mem_alloc(SW * SH * 3), *dst = mem_alloc(640 * 480 * 3);
    uint32_t state = 1;
    for (size_t i = 0; i < SW * SH * 3; i++) {
        state = state * 1664525u + 1013904223u;
        src[i] = state >> 31 ? 255 : 0;
    }
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const int w = cases[i].w, h = cases[i].h;
        cr_assert_eq(resample_lanczos(dst, w, h, src, SW, SH, NULL), REFINE_OK);
        cr_expect_eq(hash_image_bytes(dst, (size_t)(w * h * 3)), cases[i].hash, "to %dx%d", w, h);
    }
    mem_free(dst);
    mem_free(src);
}

Test(engine_resample, copies_when_nothing_changes)
{
    uint8_t src[W * H * 3], dst[W * H * 3];
    fill_source_image(src);
    cr_assert_eq(resample_lanczos(dst, W, H, src, W, H, NULL), REFINE_OK);
    cr_expect_arr_eq(dst, src, sizeof src);
}

Test(engine_resample, keeps_a_flat_picture_flat)
{
    uint8_t src[31 * 17 * 3], dst[64 * 64 * 3];
    memset(src, 201, sizeof src);
    for (int w = 1; w <= 64; w += 9)
        for (int h = 1; h <= 64; h += 9) {
            cr_assert_eq(resample_lanczos(dst, w, h, src, 31, 17, NULL), REFINE_OK);
            for (int i = 0; i < w * h * 3; i++)
                cr_assert_eq(dst[i], 201, "%dx%d: byte %d is %d", w, h, i, dst[i]);
        }
}

Test(engine_resample, refuses_impossible_sides)
{
    uint8_t a[3] = { 0 }, b[3];
    refine_error err = { 0 };
    cr_expect_eq(resample_lanczos(b, 0, 1, a, 1, 1, &err), REFINE_EINVAL);
    cr_expect_eq(resample_lanczos(b, 1, 1, a, 1, -1, &err), REFINE_EINVAL);
    cr_expect_eq(resample_lanczos(b, 1, 1, a, 65536, 1, &err), REFINE_EINVAL);
    cr_expect_not_null(strstr(err.text, "65536x1"));
}

Test(engine_resample, survives_every_failed_allocation)
{
    uint8_t src[W * H * 3], dst[4 * 8 * 3];
    fill_source_image(src);
    const uint64_t before = mem_used().now;
    for (long k = 0; k < 9; k++) { /* first, count, weights and row, twice; the image between */
        refine_error err = { 0 };
        mem_fail_after(k, MEM_FAIL_ONCE);
        cr_expect_eq(resample_lanczos(dst, 4, 8, src, W, H, &err), REFINE_ENOMEM, "%ld", k);
        mem_fail_after(-1, MEM_FAIL_ONCE);
        cr_expect_eq(mem_used().now, before);
    }
}

/* A grey line or image of the vectors, as RGB. */
static void fill_grey_image(uint8_t *rgb, const json_t *values)
{
    for (size_t i = 0; i < json_array_size(values); i++)
        memset(rgb + 3 * i, (int)json_integer_value(json_array_get(values, i)), 3);
}

Test(engine_resample, matches_every_shared_vector)
{
    json_t *root = vectors_load("spec/lanczos_vectors.json"), *v;
    uint8_t src[11 * 9 * 3], want[26 * 3], dst[26 * 3];
    const char *name;
    if (!root)
        cr_skip_test("no shared vectors");

    fill_grey_image(src, json_object_get(root, "src1d"));
    json_object_foreach(json_object_get(root, "out1d"), name, v)
    {
        const int n = (int)json_array_size(v);
        fill_grey_image(want, v);
        cr_assert_eq(resample_lanczos(dst, n, 1, src, 13, 1, NULL), REFINE_OK);
        cr_expect_arr_eq(dst, want, (size_t)n * 3, "%s, across", name);
        cr_assert_eq(resample_lanczos(dst, 1, n, src, 1, 13, NULL), REFINE_OK);
        cr_expect_arr_eq(dst, want, (size_t)n * 3, "%s, down", name);
    }

    uint8_t want_2d[8 * 8 * 3], dst_2d[8 * 8 * 3];
    for (size_t y = 0; y < 9; y++)
        fill_grey_image(src + y * 33, json_array_get(json_object_get(root, "src2d_9x11"), y));
    for (size_t y = 0; y < 8; y++)
        fill_grey_image(want_2d + y * 24, json_array_get(json_object_get(root, "out2d_8x8"), y));
    cr_assert_eq(resample_lanczos(dst_2d, 8, 8, src, 11, 9, NULL), REFINE_OK);
    cr_expect_arr_eq(dst_2d, want_2d, sizeof want_2d);
    json_decref(root);
}
