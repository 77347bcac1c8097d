/* tests/tools/test_image_comment.c -- an image written as a JPEG says how it was made, in the
 * layout that others read, and nothing that was written is read as something else. */
#define _GNU_SOURCE /* memmem */
#include "engine/base/mem.h"
#include "tests/support/load_image.h"
#include "tests/support/random.h"
#include "tests/support/temp_file.h"
#include "tools/image/image_codec.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { W = 40, H = 24 };

static uint8_t samples[W * H * 3];

static image ramp_image(void)
{
    for (int i = 0; i < W * H * 3; i++)
        samples[i] = (uint8_t)(i / 3 % W * 5 + i / 3 / W * 2);
    return (image){ W, H, samples };
}

static void save_as(char name[TEMP_NAME], const char *suffix, const image_text *text, int n)
{
    const image im = ramp_image();
    refine_error err = { 0 };
    temp_file(name, suffix);
    cr_assert_eq(image_save(name, &im, text, n, &err), REFINE_OK, "%s", err.text);
}

Test(tools_image_comment, writes_a_jpeg_of_all_its_components_that_comes_back_nearly_as_it_was)
{
    static const char *const SUFFIXES[] = { ".jpg", ".JPEG", ".jpe", ".JfIf" };
    for (size_t i = 0; i < sizeof SUFFIXES / sizeof SUFFIXES[0]; i++) {
        char name[TEMP_NAME];
        size_t len;
        image back;
        save_as(name, SUFFIXES[i], NULL, 0);
        cr_assert_eq(image_load(&back, name, NULL), REFINE_OK);
        cr_assert(back.width == W && back.height == H);
        for (int k = 0; k < W * H * 3; k++)
            cr_assert_leq(abs(back.rgb[k] - samples[k]), 8, "sample %d", k);
        image_free(&back);
        unsigned char *p = temp_read(name, &len);
        const unsigned char *frame = memmem(p, len, "\xff\xc0\0\x11\x08", 5);
        cr_assert(frame && frame[11] == 0x11 && frame[14] == 0x11 && frame[17] == 0x11);
        free(p);
        (void)unlink(name);
    }
    cr_assert_eq(mem_used().now, 0u);
}

Test(tools_image_comment, writes_a_comment_that_others_read)
{
    static const image_text TEXT[] = { { "Software", "refine-lowmem 1" },
                                       { "prompt", "a cat, asleep" },
                                       { "negative_prompt", "dogs" },
                                       { "seed", "7" },
                                       { "steps", "50" },
                                       { "guidance", "5" },
                                       { "aesthetic_scores", "6, 2.5" } };
    static const char LINES[] =
        "ASCII\0\0\0a cat, asleep\nNegative prompt: dogs\nSoftware: refine-lowmem 1, Seed: 7, "
        "Steps: 50, CFG scale: 5, aesthetic_scores: \"6, 2.5\"";
    char name[TEMP_NAME];
    size_t len;
    save_as(name, ".jpg", TEXT, 7);
    unsigned char *p = temp_read(name, &len);
    cr_assert_not_null(memmem(p, len, LINES, sizeof LINES - 1));
    free(p);
    (void)unlink(name);

    const image_text wide = { "prompt", "\xc3\xa9\xf0\x9f\x90\xb1" };
    save_as(name, ".jpg", &wide, 1);
    p = temp_read(name, &len);
    cr_assert_not_null(memmem(p, len, "UNICODE\0\0\xe9\xd8\x3d\xdc\x31\0\n", 16));
    free(p);
    (void)unlink(name);
}

/* ---- any texts ---- */

static const char *const KEYS[] = { "prompt",   "negative_prompt", "seed",     "steps",
                                    "strength", "scheduler",       "prompt_2", "a key" };

enum { N_KEYS = sizeof KEYS / sizeof KEYS[0], WORDS = 6, VALUE = 128 };

/* Made of what the layout gives a meaning to. */
static void draw_comment_value(uint64_t *seed, char value[VALUE])
{
    static const char *const PARTS[] = { "a",
                                         "cat",
                                         ", ",
                                         ": ",
                                         "\"",
                                         "\\",
                                         "\n",
                                         " ",
                                         "\xc3\xa9",
                                         "\xf0\x9f\x90\xb1",
                                         "Negative prompt: ",
                                         "Steps: 3",
                                         "\t" };
    value[0] = 0;
    for (int n = random_below(seed, WORDS); n > 0; n--)
        strcat(value, PARTS[random_below(seed, sizeof PARTS / sizeof PARTS[0])]);
}

static bool has_comment(const uint8_t *exif, size_t len, const image_text *text, int n)
{
    image_metadata m = { .most = METADATA_MAX };
    metadata_set_exif(&m, exif + 6, len - 6);
    const bool has = comment_has(&m, text, n);
    metadata_free(&m);
    return has;
}

static void check_any_texts(uint64_t seed)
{
    const uint64_t first = seed;
    char value[N_KEYS][VALUE], other[VALUE];
    image_text text[N_KEYS];
    uint8_t *exif;
    size_t len;
    for (int i = 0; i < N_KEYS; i++) {
        draw_comment_value(&seed, value[i]);
        text[i] = (image_text){ KEYS[i], value[i] };
    }
    cr_assert(comment_encode(&exif, &len, text, N_KEYS) && exif);
    cr_assert(has_comment(exif, len, text, N_KEYS), "seed %llu: not as written",
              (unsigned long long)first);
    const int changed = random_below(&seed, N_KEYS);
    draw_comment_value(&seed, other);
    text[changed].value = other;
    cr_assert_eq(has_comment(exif, len, text, N_KEYS), strcmp(other, value[changed]) == 0,
                 "seed %llu: %s", (unsigned long long)first, KEYS[changed]);
    text[changed].value = NULL;
    cr_assert(has_comment(exif, len, text, N_KEYS));
    text[changed].value = IMAGE_TEXT_ABSENT;
    cr_assert(!has_comment(exif, len, text, N_KEYS));
    text[changed] = (image_text){ "missing", IMAGE_TEXT_ABSENT };
    cr_assert(has_comment(exif, len, text, N_KEYS));
    text[changed].value = NULL;
    cr_assert(!has_comment(exif, len, text, N_KEYS));
    mem_free(exif);
}

Test(tools_image_comment, reads_any_texts_as_they_were_written)
{
    for (uint64_t seed = 1; seed <= 2000; seed++)
        check_any_texts(seed);
    cr_assert_eq(mem_used().now, 0u);
}

/* ---- hostile comments ---- */

Test(tools_image_comment, reads_no_byte_behind_a_comment)
{
    static const image_text TEXT[] = { { "prompt", "\xc3\xa9" }, { "a", "\"b\"" }, { "c", "d" } };
    uint8_t *exif;
    size_t len;
    uint64_t seed = 1;
    cr_assert(comment_encode(&exif, &len, TEXT, 3));
    for (int i = 0; i < 4000; i++) {
        const size_t n = 6 + (size_t)random_below(&seed, (int)len - 5);
        uint8_t *copy = malloc(n);
        memcpy(copy, exif, n);
        for (int k = random_below(&seed, 4); k > 0; k--)
            copy[random_below(&seed, (int)n)] = (uint8_t)random_bits(&seed);
        (void)has_comment(copy, n, TEXT, 3);
        free(copy);
    }
    mem_free(exif);
    cr_assert_eq(mem_used().now, 0u);
}

Test(tools_image_comment, is_in_a_file_that_is_whole_and_of_the_format_its_name_says)
{
    static const image_text TEXT[] = { { "prompt", "a cat" }, { "seed", "7" } };
    static const image_text ANY[] = { { "prompt", "a cat" }, { "seed", NULL } };
    static const image_text OTHER[] = { { "prompt", "a dog" }, { "seed", "7" } };
    static const char *const SUFFIXES[] = { ".jpg", ".png" };
    char name[TEMP_NAME];
    size_t len;
    for (int i = 0; i < 2; i++) {
        save_as(name, SUFFIXES[i], TEXT, 2);
        cr_assert(image_has_texts(name, TEXT, 2) && image_has_texts(name, ANY, 2));
        cr_assert(!image_has_texts(name, OTHER, 2));
        (void)unlink(name);
        cr_assert(!image_has_texts(name, TEXT, 2));
    }
    save_as(name, ".jpg", TEXT, 2);
    unsigned char *p = temp_read(name, &len);
    temp_write(name, p, len - 1);
    cr_assert(!image_has_texts(name, TEXT, 2));
    free(p);
    (void)unlink(name);

    char jpeg[TEMP_NAME];
    save_as(name, ".png", TEXT, 2);
    temp_file(jpeg, ".jpg");
    cr_assert_eq(rename(name, jpeg), 0);
    cr_assert(!image_has_texts(jpeg, TEXT, 2));
    (void)unlink(jpeg);
    cr_assert_eq(mem_used().now, 0u);
}

Test(tools_image_comment, never_loses_an_image_to_a_prompt_that_is_too_long)
{
    char name[TEMP_NAME], *prompt = malloc(70001);
    image back;
    memset(prompt, 'x', 70000);
    prompt[70000] = 0;
    const image_text text = { "prompt", prompt };
    save_as(name, ".jpg", &text, 1);
    cr_assert_eq(image_load(&back, name, NULL), REFINE_OK);
    cr_assert(!image_has_texts(name, &text, 1));
    image_free(&back);
    free(prompt);
    (void)unlink(name);
}

Test(tools_image_comment, survives_every_failed_allocation)
{
    static const image_text TEXT[] = { { "prompt", "caf\xc3\xa9" }, { "seed", "7" } };
    const image im = ramp_image();
    char name[TEMP_NAME];
    temp_file(name, ".jpg");
    for (long k = 0;; k++) {
        refine_error err = { 0 };
        mem_fail_after(k, MEM_FAIL_ONCE);
        const refine_status st = image_save(name, &im, TEXT, 2, &err);
        (void)image_has_texts(name, TEXT, 2);
        const bool reached = !mem_fail_after(-1, MEM_FAIL_ONCE);
        (void)temp_remove_kept(err.text);
        cr_assert_eq(mem_used().now, 0u, "allocation %ld", k);
        cr_assert(st == REFINE_OK || (st == REFINE_ENOMEM && strlen(err.text) > 0),
                  "allocation %ld: %d %s", k, (int)st, err.text);
        if (!reached)
            break;
        cr_assert_lt(k, 1000);
    }
    cr_assert(image_has_texts(name, TEXT, 2));
    (void)unlink(name);
}

/* ---- names ---- */

Test(tools_image_comment, a_name_says_what_is_written)
{
    static const struct {
        const char *name;
        image_format format;
    } CASES[] = {
        { "a.png", IMAGE_FORMAT_PNG },      { "a", IMAGE_FORMAT_PNG },
        { "-", IMAGE_FORMAT_PNG },          { "a.jpg/b", IMAGE_FORMAT_PNG },
        { "a.v2", IMAGE_FORMAT_PNG },       { "a.jpg", IMAGE_FORMAT_JPEG },
        { "x/a.b.JPE", IMAGE_FORMAT_JPEG }, { "a.jfif", IMAGE_FORMAT_JPEG },
        { "a.WebP", IMAGE_FORMAT_OTHER },   { "a.tif", IMAGE_FORMAT_OTHER },
        { "a.heic", IMAGE_FORMAT_OTHER },   { "a.jpg.bmp", IMAGE_FORMAT_OTHER },
    };
    const image im = ramp_image();
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        refine_error err = { 0 };
        cr_expect_eq(image_name_format(CASES[i].name), CASES[i].format, "%s", CASES[i].name);
        if (CASES[i].format != IMAGE_FORMAT_OTHER)
            continue;
        cr_expect_eq(image_save(CASES[i].name, &im, NULL, 0, &err), REFINE_EINVAL);
        cr_expect(strstr(err.text, CASES[i].name) && strstr(err.text, ".png or .jpg"), "%s",
                  err.text);
    }
}
