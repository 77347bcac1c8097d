/* tests/tools/test_png_whole.c -- a PNG that is all there, and any that is not. */
#define _POSIX_C_SOURCE 200809L /* fmemopen */
#include "tools/image/png_whole.h"

#include "tests/support/temp_file.h"
#include "tools/image/image_io.h"

#include <criterion/criterion.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

static unsigned char *make_png_bytes(size_t *n)
{
    static uint8_t rgb[20 * 8 * 3];
    const image_text text = { "prompt", "a cat" };
    char name[TEMP_NAME];
    for (size_t i = 0; i < sizeof rgb; i++)
        rgb[i] = (uint8_t)(i * i);
    temp_file(name, ".png");
    cr_assert_eq(image_save(name, &(image){ 20, 8, rgb }, &text, 1, NULL), REFINE_OK);
    unsigned char *bytes = temp_read(name, n);
    (void)unlink(name);
    return bytes;
}

static bool is_whole(unsigned char *bytes, size_t n)
{
    FILE *f = fmemopen(bytes, n, "rb");
    const bool whole = png_is_whole(f);
    (void)fclose(f);
    return whole;
}

Test(tools_png_whole, is_told_from_one_cut_off_or_changed_anywhere)
{
    size_t n;
    unsigned char *bytes = make_png_bytes(&n);
    cr_assert(is_whole(bytes, n));
    for (size_t i = 1; i < n; i++)
        cr_expect_not(is_whole(bytes, i), "cut off after %zu of %zu bytes", i, n);
    for (size_t i = 0; i < n; i++) {
        bytes[i] ^= (unsigned char)(1 + i % 255);
        cr_expect_not(is_whole(bytes, n), "byte %zu of %zu is another", i, n);
        bytes[i] ^= (unsigned char)(1 + i % 255);
    }
    free(bytes);
}
