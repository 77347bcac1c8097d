/* tests/tools/test_image_ceiling.c -- reading an image takes no more memory than it may. */
#include "engine/base/mem.h"
#include "engine/engine_state.h"
#include "tests/support/image_writer.h"
#include "tests/support/sanitized.h"
#include "tests/support/temp_file.h"
#include "tools/image/image_io.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

/* What is in memory now; the peak begins anew. */
static uint64_t reset_process_peak(void)
{
    mem_trim();
    temp_write("/proc/self/clear_refs", "5", 1);
    return engine_process_memory("VmRSS");
}

/* A refusal under a ceiling that is too low says what will do, and reading keeps that,
 * libraries included: they grow by `slack` besides, once. */
static void keeps_the_ceiling(const char *name)
{
    enum { SLACK = 1 << 20 };
    image im;
    image_reading how = IMAGE_READING_INIT;
    refine_error err = { 0 };
    unsigned long named = 0;
    how.memory = 9 << 20;
    cr_assert_eq(image_read(&im, &how, name, &err), REFINE_EBUDGET);
    const char *says = strstr(err.text, "alone takes ");
    cr_assert(says && sscanf(says, "alone takes %luM", &named) == 1, "%s", err.text);
    const uint64_t before = reset_process_peak();
    how.memory = (uint64_t)named << 20;
    cr_assert_eq(image_read(&im, &how, name, &err), REFINE_OK, "%s", err.text);
    const uint64_t grown = engine_process_memory("VmHWM") - before;
    cr_assert(SANITIZED || grown <= how.memory + SLACK, "%luM: %" PRIu64, named, grown);
    image_free(&im);
    how.memory -= 2 << 20;
    cr_assert_eq(image_read(&im, &how, name, &err), REFINE_EBUDGET);
    cr_assert_eq(mem_used().now, 0u);
}

enum { LARGE = 2000 };

static uint8_t noise_sample(int x, int y, int c)
{
    return (uint8_t)((unsigned)(x * 7919 + y * 104729 + c * 31) * 2654435761u >> 24);
}

static void large_jpeg_keeps_the_ceiling(jpeg_kind k)
{
    char name[TEMP_NAME];
    temp_file(name, ".jpg");
    write_jpeg(name, LARGE, LARGE, k, noise_sample);
    keeps_the_ceiling(name);
    (void)unlink(name);
}

Test(tools_image_ceiling, keeps_its_ceiling_with_a_jpeg_of_one_scan)
{
    large_jpeg_keeps_the_ceiling((jpeg_kind){ JCS_RGB, 3, 0, 0, NULL });
}
Test(tools_image_ceiling, keeps_its_ceiling_with_a_jpeg_that_is_turned)
{
    large_jpeg_keeps_the_ceiling((jpeg_kind){ JCS_RGB, 3, 0, 6, NULL });
}
Test(tools_image_ceiling, keeps_its_ceiling_with_a_progressive_jpeg)
{
    large_jpeg_keeps_the_ceiling((jpeg_kind){ JCS_RGB, 3, 1, 0, NULL });
}
Test(tools_image_ceiling, keeps_its_ceiling_with_a_jpeg_of_a_scan_for_each_component)
{
    large_jpeg_keeps_the_ceiling((jpeg_kind){ JCS_RGB, 3, 0, 0, splits_components });
}

static void large_png_keeps_the_ceiling(int type, int depth, int interlaced)
{
    char name[TEMP_NAME];
    static uint8_t row[LARGE * 8];
    temp_file(name, ".png");
    FILE *f = fopen(name, "wb");
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_infop info = png_create_info_struct(png);
    png_init_io(png, f);
    png_set_compression_level(png, 1);
    png_set_IHDR(png, info, LARGE, LARGE, depth, type,
                 interlaced ? PNG_INTERLACE_ADAM7 : PNG_INTERLACE_NONE, 0, 0);
    png_write_info(png, info);
    for (int pass = 0; pass < png_set_interlace_handling(png); pass++)
        for (int y = 0; y < LARGE; y++)
            png_write_row(png, row);
    png_write_end(png, info);
    png_destroy_write_struct(&png, &info);
    (void)fclose(f);
    keeps_the_ceiling(name);
    (void)unlink(name);
}

Test(tools_image_ceiling, keeps_its_ceiling_with_a_png)
{
    large_png_keeps_the_ceiling(PNG_COLOR_TYPE_RGB, 8, 0);
}
Test(tools_image_ceiling, keeps_its_ceiling_with_an_interlaced_png_of_16_bits_and_alpha)
{
    large_png_keeps_the_ceiling(PNG_COLOR_TYPE_RGB_ALPHA, 16, 1);
}

/* A file of 20 MB of which the image is a part. */
Test(tools_image_ceiling, keeps_its_ceiling_with_a_long_file)
{
    enum { LONG = 20 << 20 };
    char name[TEMP_NAME];
    size_t len;
    temp_file(name, ".jpg");
    write_jpeg(name, 64, 32, (jpeg_kind){ JCS_RGB, 3, 0, 0, NULL }, quarters_sample);
    uint8_t *p = temp_read(name, &len), *with = calloc(1, LONG);
    memcpy(with, p, len);
    temp_write(name, with, LONG);
    image im;
    image_reading how = IMAGE_READING_INIT;
    refine_error err = { 0 };
    how.memory = LONG - 1;
    cr_assert_eq(image_read(&im, &how, name, &err), REFINE_EBUDGET, "%s", err.text);
    cr_assert_not_null(strstr(err.text, "alone takes 20M"), "%s", err.text);
    free(p);
    free(with);
    (void)unlink(name);
}

/* A PNG of 13 x 9 with a chunk, `times` times, behind its IHDR. */
static void write_png_with_chunks(const char *name, const char *type, const uint8_t *data, size_t n,
                                  int times)
{
    const uint8_t length[4] = { (uint8_t)(n >> 24), (uint8_t)(n >> 16), (uint8_t)(n >> 8),
                                (uint8_t)n };
    const unsigned long sum = crc32(crc32(0, (const Bytef *)type, 4), data, (uInt)n);
    const uint8_t check[4] = { (uint8_t)(sum >> 24), (uint8_t)(sum >> 16), (uint8_t)(sum >> 8),
                               (uint8_t)sum };
    size_t len;
    write_png(name, (image_kind){ "", PNG_COLOR_TYPE_RGB, 8, 0, 0 });
    uint8_t *p = temp_read(name, &len);
    FILE *f = fopen(name, "wb");
    (void)fwrite(p, 1, 33, f); /* signature and IHDR */
    for (int i = 0; i < times; i++) {
        (void)fwrite(length, 1, 4, f);
        (void)fwrite(type, 1, 4, f);
        (void)fwrite(data, 1, n, f);
        (void)fwrite(check, 1, 4, f);
    }
    (void)fwrite(p + 33, 1, len - 33, f);
    (void)fclose(f);
    free(p);
}

static void chunks_keep_the_ceiling(const char *name, uint64_t memory)
{
    image im;
    image_reading how = IMAGE_READING_INIT;
    refine_error err = { 0 };
    how.memory = memory;
    mem_reset_peak();
    cr_assert_eq(image_read(&im, &how, name, &err), REFINE_OK, "%s", err.text);
    cr_assert_leq(mem_used().peak, memory);
    image_free(&im);
}

Test(tools_image_ceiling, keeps_its_ceiling_with_a_png_of_text_that_inflates_to_megabytes)
{
    enum { ROOM = 1 << 16 };
    static uint8_t bomb[ROOM];
    char name[TEMP_NAME];
    temp_file(name, ".png");
    write_png_with_chunks(name, "zTXt", bomb, deflate_xmp_chunk(bomb, ROOM, 8 << 20), 20);
    chunks_keep_the_ceiling(name, 1 << 20);
    (void)unlink(name);
}

Test(tools_image_ceiling, keeps_its_ceiling_with_a_png_of_a_long_text)
{
    enum { LONG = 3 << 20 };
    uint8_t *text = calloc(1, LONG);
    char name[TEMP_NAME];
    temp_file(name, ".png");
    memcpy(text, "XML:com.adobe.xmp", 17);
    write_png_with_chunks(name, "tEXt", text, LONG, 1);
    chunks_keep_the_ceiling(name, LONG + (1 << 20));
    free(text);
    (void)unlink(name);
}
