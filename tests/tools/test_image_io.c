/* tests/tools/test_image_io.c -- every kind of PNG and JPEG comes out as the right RGB. */
#define _GNU_SOURCE /* memmem */
#include "engine/base/mem.h"
#include "engine/engine_state.h"
#include "tests/support/image_writer.h"
#include "tests/support/load_image.h"
#include "tests/support/sanitized.h"
#include "tests/support/temp_file.h"
#include "tools/image/image_codec.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jpeglib.h>
#include <png.h>
#include <zlib.h>

/* ---- whose it is ---- */

static const image_text OWN[] = { { "prompt", "a cat" }, { "own", "1" } };

static bool is_foreign_with(const char *name, const void *bytes, size_t n)
{
    temp_write(name, bytes, n);
    return image_is_foreign(name, "own");
}

/* Cut off anywhere, changed anywhere, or with something behind it. */
static void check_whose(const char *suffix, const char *mark, size_t mark_len, bool own)
{
    static uint8_t rgb[16 * 16 * 3];
    char name[TEMP_NAME];
    size_t n;
    temp_file(name, suffix);
    cr_assert_eq(image_save(name, &(image){ 16, 16, rgb }, OWN, own ? 2 : 1, NULL), REFINE_OK);
    unsigned char *bytes = temp_read(name, &n);
    const size_t pixels = (size_t)((unsigned char *)memmem(bytes, n, mark, mark_len) - bytes);
    bytes = realloc(bytes, n + 3);
    memcpy(bytes + n, "mp4", 3);
    cr_expect_eq(is_foreign_with(name, bytes, n + 3), !own, "%s and more", suffix);
    for (size_t i = 3; i <= n; i++) {
        const bool names_a_kind = i < 8 && strcmp(suffix, ".png") == 0;
        const bool nobodys = !names_a_kind && i < pixels + mark_len;
        cr_expect_eq(is_foreign_with(name, bytes, i), names_a_kind || (!own && !nobodys),
                     "%s: %zu of %zu bytes", suffix, i, n);
    }
    for (size_t i = pixels + mark_len; i < n; i++) {
        bytes[i] ^= 1;
        cr_expect_eq(is_foreign_with(name, bytes, n), !own, "%s: byte %zu", suffix, i);
        bytes[i] ^= 1;
    }
    free(bytes);
    (void)unlink(name);
}

Test(tools_image_io, tells_whose_an_image_is_however_it_ends)
{
    for (int own = 0; own < 2; own++) {
        check_whose(".png", "IDAT", 4, own);
        check_whose(".jpg", "\xff\xda", 2, own);
    }
    char name[TEMP_NAME];
    temp_file(name, ".png");
    cr_expect_not(is_foreign_with(name, "", 0));
    cr_expect(is_foreign_with(name, "x", 1));
    cr_expect(is_foreign_with(name, "GIF89a", 6));
    (void)unlink(name);
    cr_expect_not(image_is_foreign(name, "own"), "it is not there");
    cr_expect_eq(mem_used().now, 0u);
}

/* ---- PNG ---- */

static const uint8_t BACKGROUND[3] = { 250, 130, 7 };

/* Opaque: the highest value of `most`. */
static unsigned alpha_of(image_kind k, int x, int y, unsigned most)
{
    bool is_key = k.keyed;
    if (k.type == PNG_COLOR_TYPE_PALETTE)
        return (sample_of(x, y, 0, k.depth) * 7) & 255;
    if (k.type & PNG_COLOR_MASK_ALPHA)
        return sample_of(x, y, channels_of(k.type) - 1, k.depth);
    for (int c = 0; c < channels_of(k.type); c++)
        is_key = is_key && sample_of(x, y, c, k.depth) == sample_of(KEY_X, KEY_Y, c, k.depth);
    return is_key ? 0 : most;
}

/* What the pattern is in 8-bit RGB on the background. */
static int expected_rgb_sample(image_kind k, int x, int y, int c)
{
    const bool grey = channels_of(k.type) < 3;
    const unsigned most = k.depth == 16 ? 65535 : 255;
    unsigned v = sample_of(x, y, grey ? 0 : c, k.depth);
    if (k.type == PNG_COLOR_TYPE_PALETTE)
        v = (c == 0 ? v * 3 : c == 1 ? 255 - v : v ^ 0x55) & 255;
    else if (k.depth < 8)
        v = v * 255 / ((1u << k.depth) - 1);
    const double a = alpha_of(k, x, y, most);
    const double on = (a * v + (most - a) * BACKGROUND[c] * (most / 255)) / most;
    return (int)floor(floor(on + 0.5) / (most / 255) + 0.5);
}

static void check_png_kind(const char *name, image_kind k)
{
    image im;
    image_reading how = IMAGE_READING_INIT;
    memcpy(how.background, BACKGROUND, sizeof BACKGROUND);
    refine_error err = { 0 };
    write_png(name, k);
    cr_assert_eq(image_read(&im, &how, name, &err), REFINE_OK, "%s", err.text);
    cr_assert_eq(im.width, W);
    cr_assert_eq(im.height, H);
    for (int y = 0; y < H; y++)
        for (int x = 0; x < W; x++)
            for (int c = 0; c < 3; c++)
                cr_assert_eq(im.rgb[(y * W + x) * 3 + c], expected_rgb_sample(k, x, y, c),
                             "type %d depth %d at %d,%d,%d: %d not %d", k.type, k.depth, x, y, c,
                             im.rgb[(y * W + x) * 3 + c], expected_rgb_sample(k, x, y, c));
    image_free(&im);
}

Test(tools_image_io, reads_every_kind_of_png_on_its_background)
{
    static const int DEPTHS[7][6] = { { 1, 2, 4, 8, 16 }, { 0 }, { 8, 16 }, { 1, 2, 4, 8 },
                                      { 8, 16 },          { 0 }, { 8, 16 } };
    char name[TEMP_NAME];
    temp_file(name, ".png");
    for (int type = 0; type < 7; type++)
        for (int d = 0; DEPTHS[type][d]; d++)
            for (int variant = 0; variant < 4; variant++)
                check_png_kind(
                    name, (image_kind){ "", type, DEPTHS[type][d], variant & 1, variant >> 1 });
    (void)unlink(name);
}

Test(tools_image_io, writes_what_it_reads_and_carries_texts)
{
    uint8_t rgb[W * H * 3];
    char name[TEMP_NAME];
    image back;
    size_t len;
    const image_text text[] = { { "prompt", "a cat" }, { "negative_prompt", "caf\xc3\xa9" } };
    for (int i = 0; i < W * H * 3; i++)
        rgb[i] = (uint8_t)(i * 5);
    const image im = { W, H, rgb };
    temp_file(name, ".png");
    cr_assert_eq(image_save(name, &im, text, 2, NULL), REFINE_OK);
    cr_assert_eq(image_load(&back, name, NULL), REFINE_OK);
    cr_assert_eq(memcmp(back.rgb, rgb, sizeof rgb), 0);
    image_free(&back);
    unsigned char *p = temp_read(name, &len);
    cr_assert_not_null(memmem(p, len, "tEXtprompt\0a cat", 16));
    cr_assert_not_null(memmem(p, len, "iTXtnegative_prompt", 19));
    cr_assert_not_null(memmem(p, len, "caf\xc3\xa9", 5));
    free(p);
    (void)unlink(name);
}

/* ---- JPEG ---- */

static int quarter_at(const image *im, int right, int bottom)
{
    const int x = right ? im->width - 4 : 4, y = bottom ? im->height - 4 : 4;
    const uint8_t *p = im->rgb + (y * im->width + x) * 3;
    return (p[0] > 128) | (p[1] > 128) << 1 | (p[2] > 128) << 2;
}

Test(tools_image_io, turns_jpeg_upright_for_each_orientation)
{
    /* For every orientation, the corners of the upright image in reading order: R G B W
     * are 1 2 4 7.  Rows: as a viewer shows the stored image R G / B W. */
    static const int CORNERS[9][4] = { { 0 },          { 1, 2, 4, 7 }, { 2, 1, 7, 4 },
                                       { 7, 4, 2, 1 }, { 4, 7, 1, 2 }, { 1, 4, 2, 7 },
                                       { 4, 1, 7, 2 }, { 7, 2, 4, 1 }, { 2, 7, 1, 4 } };
    char name[TEMP_NAME];
    temp_file(name, ".jpg");
    for (int how = 1; how <= 8; how++) {
        image im;
        refine_error err = { 0 };
        write_jpeg(name, 64, 32, (jpeg_kind){ JCS_RGB, 3, 0, how, NULL }, quarters_sample);
        cr_assert_eq(image_load(&im, name, &err), REFINE_OK, "%s", err.text);
        cr_assert_eq(im.width, how >= 5 ? 32 : 64);
        for (int corner = 0; corner < 4; corner++)
            cr_assert_eq(quarter_at(&im, corner & 1, corner >> 1), CORNERS[how][corner],
                         "orientation %d, corner %d", how, corner);
        image_free(&im);
    }
    (void)unlink(name);
}

/* A TIFF header and one entry: orientation 6. */
static const uint8_t TIFF_6[] = { 'M', 'M', 0, 42, 0, 0, 0, 8, 0, 1, 1, 0x12, 0,
                                  3,   0,   0, 0,  1, 0, 6, 0, 0, 0, 0, 0,    0 };

static int metadata_upright(const image_metadata *m)
{
    int how = 0;
    cr_assert_eq(metadata_orientation(&how, m, "an image", NULL), REFINE_OK);
    return how;
}

Test(tools_image_io, takes_exif_that_is_cut_into_segments)
{
    for (size_t n = 0; n <= sizeof TIFF_6; n++) {
        image_metadata m = { .most = METADATA_MAX };
        metadata_add_exif(&m, TIFF_6, n);
        metadata_add_exif(&m, TIFF_6 + n, sizeof TIFF_6 - n);
        cr_expect_eq(metadata_upright(&m), 6, "cut after %zu bytes", n);
        metadata_free(&m);
    }
    image_metadata m = { .most = METADATA_MAX };
    metadata_read_chunk(&m, (const uint8_t *)"eXIf", NULL, 0);
    cr_expect_eq(metadata_upright(&m), 1, "an empty one");
    metadata_free(&m);
    m.most = 3 * sizeof TIFF_6;
    for (int i = 0; i < 9; i++)
        metadata_add_exif(&m, TIFF_6, sizeof TIFF_6);
    cr_expect(m.exif_len <= m.most && metadata_upright(&m) == 6, "%zu bytes", m.exif_len);
    metadata_free(&m);
}

/* APP1 segments behind the start of a JPEG, each with its head. */
static size_t put_app1(uint8_t *to, const uint8_t *tiff, size_t len)
{
    static const uint8_t HEAD[] = { 0xff, 0xe1, 0, 0, 'E', 'x', 'i', 'f', 0, 0 };
    memcpy(to, HEAD, sizeof HEAD);
    to[3] = (uint8_t)(sizeof HEAD - 2 + len);
    memcpy(to + sizeof HEAD, tiff, len);
    return sizeof HEAD + len;
}

Test(tools_image_io, turns_a_jpeg_by_exif_in_two_segments)
{
    char name[TEMP_NAME];
    uint8_t app1[2 * (sizeof TIFF_6 + 16)];
    image im;
    size_t len;
    temp_file(name, ".jpg");
    write_jpeg(name, 64, 32, (jpeg_kind){ JCS_RGB, 3, 0, 0, NULL }, quarters_sample);
    unsigned char *whole = temp_read(name, &len);
    size_t n = put_app1(app1, TIFF_6, 11);
    n += put_app1(app1 + n, TIFF_6 + 11, sizeof TIFF_6 - 11);
    char *joined = malloc(len + n);
    memcpy(joined, whole, 2);
    memcpy(joined + 2, app1, n);
    memcpy(joined + 2 + n, whole + 2, len - 2);
    temp_write(name, joined, len + n);
    cr_assert_eq(image_load(&im, name, NULL), REFINE_OK);
    cr_expect(im.width == 32 && im.height == 64, "%d x %d", im.width, im.height);
    image_free(&im);
    free(joined);
    free(whole);
    (void)unlink(name);
}

Test(tools_image_io, takes_exif_that_begins_twice)
{
    uint8_t twice[6 + sizeof TIFF_6] = "Exif\0";
    image_metadata m = { .most = METADATA_MAX };
    memcpy(twice + 6, TIFF_6, sizeof TIFF_6);
    metadata_set_exif(&m, twice, sizeof twice);
    cr_expect_eq(metadata_upright(&m), 6);
    metadata_free(&m);
}

Test(tools_image_io, takes_the_chunk_of_exif_before_its_text)
{
    static const char TEXT[] = "Raw profile type exif\0\nexif\n 26\n"
                               "4d4d002a00000008000101120003000000010003000000000000";
    for (int text_first = 0; text_first < 2; text_first++) {
        image_metadata m = { .most = METADATA_MAX };
        for (int k = 0; k < 2; k++)
            if ((k == 0) == (text_first == 1))
                metadata_read_chunk(&m, (const uint8_t *)"tEXt", (const uint8_t *)TEXT,
                                    sizeof TEXT - 1);
            else
                metadata_read_chunk(&m, (const uint8_t *)"eXIf", TIFF_6, sizeof TIFF_6);
        cr_expect_eq(metadata_upright(&m), 6, "%d", text_first);
        metadata_free(&m);
    }
    image_metadata m = { .most = METADATA_MAX };
    metadata_read_chunk(&m, (const uint8_t *)"tEXt", (const uint8_t *)TEXT, sizeof TEXT - 1);
    cr_expect_eq(metadata_upright(&m), 3);
    metadata_free(&m);
}

/* What a text chunk of XMP makes of the orientation. */
static int orientation_of_xmp(const char *xmp)
{
    image_metadata m = { .most = METADATA_MAX };
    metadata_set_xmp(&m, xmp, strlen(xmp));
    const int how = metadata_upright(&m);
    metadata_free(&m);
    return how;
}

Test(tools_image_io, finds_an_orientation_in_xmp)
{
    cr_expect_eq(orientation_of_xmp("tiff:Orientation=\"6\""), 6);
    cr_expect_eq(orientation_of_xmp("tiff:Orientation='6'"), 6);
    cr_expect_eq(orientation_of_xmp("<tiff:Orientation>8</tiff:Orientation>"), 8);
    cr_expect_eq(orientation_of_xmp("tiff:OrientationX=\"6\" tiff:Orientation=\"3\""), 3);
    cr_expect_eq(orientation_of_xmp("tiff:Orientation=\"0\" tiff:Orientation=\"3\""), 1);
    cr_expect_eq(orientation_of_xmp("tiff:Orientation=\"9\""), 1);
    static const char WHOLE[] = "tiff:Orientation=\"6\"";
    for (size_t n = 0; n < sizeof WHOLE - 2; n++) {
        char *cut = strndup(WHOLE, n);
        cr_expect_eq(orientation_of_xmp(cut), 1, "%s", cut);
        free(cut);
    }
}

Test(tools_image_io, keeps_no_metadata_that_inflate_beyond_their_ceiling)
{
    enum { ROOM = 1 << 20 };
    uint8_t *data = malloc(ROOM);
    for (int too_long = 0; too_long < 2; too_long++) {
        const size_t n = too_long ? (size_t)64 << 20 : METADATA_MAX - 64;
        const size_t len = deflate_xmp_chunk(data, ROOM, n);
        image_metadata m = { .most = METADATA_MAX };
        mem_reset_peak();
        metadata_read_chunk(&m, (const uint8_t *)"zTXt", data, len);
        cr_expect_eq(metadata_upright(&m), too_long ? 1 : 6);
        cr_expect_leq(mem_used().peak, 3u * METADATA_MAX);
        metadata_free(&m);
        cr_assert_eq(mem_used().now, 0u);
    }
    free(data);
}

Test(tools_image_io, reads_no_byte_behind_a_text_chunk)
{
    static const char CHUNK[] = "XML:com.adobe.xmp\0\0\0en\0key\0tiff:Orientation=\"6\"";
    static const char *const TYPES[] = { "iTXt", "tEXt", "zTXt" };
    for (size_t n = 0; n < sizeof CHUNK; n++)
        for (size_t i = 0; i < 3; i++) {
            uint8_t *cut = malloc(n + (n == 0)); /* so that a sanitizer sees its end */
            image_metadata m = { .most = METADATA_MAX };
            memcpy(cut, CHUNK, n);
            metadata_read_chunk(&m, (const uint8_t *)TYPES[i], cut, n);
            metadata_free(&m);
            free(cut);
        }
    cr_assert_eq(mem_used().now, 0u);
}

static uint8_t ramp_sample(int x, int y, int c)
{
    return (uint8_t)(x / 16 * 40 + y / 16 * 20 + c * 10);
}

static void reads_jpeg(jpeg_kind k, int r, int g, int b)
{
    char name[TEMP_NAME];
    image im;
    refine_error err = { 0 };
    temp_file(name, ".jpg");
    write_jpeg(name, 48, 48, k, ramp_sample);
    cr_assert_eq(image_load(&im, name, &err), REFINE_OK, "%s", err.text);
    const uint8_t *p = im.rgb + (24 * 48 + 24) * 3; /* block (1,1): 60, 70, 80, 90 */
    cr_assert_leq(abs(p[0] - r), 4, "%d", p[0]);
    cr_assert_leq(abs(p[1] - g), 4, "%d", p[1]);
    cr_assert_leq(abs(p[2] - b), 4, "%d", p[2]);
    image_free(&im);
    (void)unlink(name);
}

Test(tools_image_io, reads_grey_jpeg)
{
    reads_jpeg((jpeg_kind){ JCS_GRAYSCALE, 1, 0, 0, NULL }, 60, 60, 60);
}
Test(tools_image_io, reads_progressive_jpeg)
{
    reads_jpeg((jpeg_kind){ JCS_RGB, 3, 1, 0, NULL }, 60, 70, 80);
}
/* libjpeg marks what it writes as Adobe's, which is inverted: value * black / 255. */
Test(tools_image_io, reads_cmyk_jpeg)
{
    reads_jpeg((jpeg_kind){ JCS_CMYK, 4, 0, 0, NULL }, 60 * 90 / 255, 70 * 90 / 255, 80 * 90 / 255);
}

static void takes_ycck(struct jpeg_compress_struct *j) { jpeg_set_colorspace(j, JCS_YCCK); }

Test(tools_image_io, reads_ycck_jpeg)
{
    reads_jpeg((jpeg_kind){ JCS_CMYK, 4, 0, 0, takes_ycck }, 60 * 90 / 255, 70 * 90 / 255,
               80 * 90 / 255);
}

/* ---- what Pillow reads (tests/tools/make_pictures.py) ---- */

static const char PICTURES[] = "tests/tools/pictures", CORPORA[] = "tests/fuzz/corpora";

/* `name` is "grey8.png.ppm"; the image itself is in the corpus of its kind. */
static void reads_as_pillow(const char *name)
{
    char ppm[TEMP_NAME], input_image[TEMP_NAME];
    const int stem = (int)(strlen(name) - strlen(".ppm"));
    const char *corpus = strstr(name, ".png.") ? "png" : "jpeg";
    int w, h, start;
    size_t len;
    image im;
    refine_error err = { 0 };

    snprintf(ppm, sizeof ppm, "%s/%s", PICTURES, name);
    snprintf(input_image, sizeof input_image, "%s/%s/%.*s", CORPORA, corpus, stem, name);
    unsigned char *want = temp_read(ppm, &len);
    cr_assert_eq(sscanf((char *)want, "P6 %d %d 255%n", &w, &h, &start), 2);
    cr_assert_eq((size_t)start + 1 + (size_t)(w * h * 3), len);
    cr_assert_eq(image_load(&im, input_image, &err), REFINE_OK, "%s", err.text);
    cr_assert(im.width == w && im.height == h, "%s: %d x %d", name, im.width, im.height);
    for (int i = 0; i < w * h * 3; i++)
        cr_assert_eq(im.rgb[i], want[start + 1 + i], "%s: byte %d is %d, not %d", name, i,
                     im.rgb[i], want[start + 1 + i]);
    image_free(&im);
    free(want);
}

Test(tools_image_io, reads_every_sample_as_pillow_does)
{
    DIR *d = opendir(PICTURES);
    int n = 0;
    cr_assert_not_null(d);
    for (struct dirent *e = readdir(d); e; e = readdir(d))
        if (strstr(e->d_name, ".ppm")) {
            reads_as_pillow(e->d_name);
            n++;
        }
    (void)closedir(d);
    cr_assert_geq(n, 30);
}

/* ---- writing ---- */

static image small_picture(uint8_t rgb[W * H * 3])
{
    for (int i = 0; i < W * H * 3; i++)
        rgb[i] = (uint8_t)(i * 7);
    return (image){ W, H, rgb };
}

Test(tools_image_io, writes_to_standard_output_what_it_writes_to_a_file)
{
    uint8_t rgb[W * H * 3];
    const image im = small_picture(rgb);
    const image_text text = { "prompt", "a cat" };
    char name[TEMP_NAME], out[TEMP_NAME];
    size_t n, m;
    temp_file(name, ".png");
    temp_file(out, ".png");
    cr_assert_eq(image_save(name, &im, &text, 1, NULL), REFINE_OK);
    const int fd = open(out, O_WRONLY), keep = dup(STDOUT_FILENO);
    cr_assert_eq(dup2(fd, STDOUT_FILENO), STDOUT_FILENO);
    const refine_status st = image_save("-", &im, &text, 1, NULL);
    (void)dup2(keep, STDOUT_FILENO);
    (void)close(fd);
    cr_assert_eq(st, REFINE_OK);
    unsigned char *a = temp_read(name, &n), *b = temp_read(out, &m);
    cr_assert(n == m && memcmp(a, b, n) == 0);
    free(a);
    free(b);
    (void)unlink(name);
    (void)unlink(out);
}

Test(tools_image_io, says_where_it_cannot_write)
{
    uint8_t rgb[W * H * 3];
    const image im = small_picture(rgb);
    refine_error err = { 0 };
    cr_assert_eq(image_save("no/such/directory/x.png", &im, NULL, 0, &err), REFINE_EIO);
    cr_assert_not_null(strstr(err.text, "no/such/directory/x.png"), "%s", err.text);
    cr_assert(temp_remove_kept(err.text), "%s", err.text);
    cr_assert_eq(mem_used().now, 0u);
}

/* ---- damage ---- */

static void survives_truncation(const char *name)
{
    size_t len;
    unsigned char *p = temp_read(name, &len);
    char cut[TEMP_NAME];
    temp_file(cut, ".bin");
    for (size_t n = 0; n + 1 < len; n++) {
        image im;
        refine_error err = { 0 };
        temp_write(cut, p, n);
        const refine_status st = image_load(&im, cut, &err);
        cr_assert(st == REFINE_OK || (st == REFINE_EFORMAT && strlen(err.text) > 0));
        cr_assert(st != REFINE_OK || n > len - 20, "accepted %zu of %zu bytes", n, len);
        image_free(&im);
        cr_assert_eq(mem_used().now, 0u);
    }
    free(p);
    (void)unlink(cut);
}

Test(tools_image_io, refuses_truncated_png)
{
    char name[TEMP_NAME];
    temp_file(name, ".png");
    write_png(name, (image_kind){ "", PNG_COLOR_TYPE_RGB_ALPHA, 16, 1, 0 });
    survives_truncation(name);
    (void)unlink(name);
}

Test(tools_image_io, reads_no_byte_behind_a_png)
{
    char name[TEMP_NAME];
    size_t len;
    image im;
    image_reading how = IMAGE_READING_INIT;
    refine_error err = { 0 };
    temp_file(name, ".png");
    write_png(name, (image_kind){ "", PNG_COLOR_TYPE_RGB, 8, 0, 0 });
    uint8_t *p = temp_read(name, &len), *cut = malloc(len - 1);
    memcpy(cut, p, len - 1);
    cr_assert_eq(image_decode_png(&im, &how, cut, len - 1, "an image", &err), REFINE_EFORMAT);
    cr_assert_not_null(strstr(err.text, "ends in the middle"), "%s", err.text);
    free(cut);
    free(p);
    (void)unlink(name);
}

Test(tools_image_io, refuses_truncated_jpeg)
{
    char name[TEMP_NAME];
    temp_file(name, ".jpg");
    for (int progressive = 0; progressive < 2; progressive++) {
        write_jpeg(name, 64, 32, (jpeg_kind){ JCS_RGB, 3, progressive, 6, NULL }, quarters_sample);
        survives_truncation(name);
    }
    (void)unlink(name);
}

/* ---- a JPEG without its end ---- */

static void write_jpeg_bytes(const char *name, jpeg_kind k, uint8_t **p, size_t *len)
{
    write_jpeg(name, 64, 32, k, quarters_sample);
    *p = temp_read(name, len);
}

/* Reads `len` bytes as they are; what the whole file gives is `whole`. */
static refine_status reads_the_same(const char *name, const uint8_t *p, size_t len,
                                    const image *whole, bool noted)
{
    image im;
    image_reading how = IMAGE_READING_INIT;
    refine_error err = { 0 };
    temp_write(name, p, len);
    const refine_status st = image_read(&im, &how, name, &err);
    if (st == REFINE_OK) {
        cr_assert_eq(memcmp(im.rgb, whole->rgb, (size_t)(whole->width * whole->height * 3)), 0);
        cr_assert_eq(how.note != NULL, noted, "%zu bytes", len);
    }
    image_free(&im);
    return st;
}

static void codes_arithmetically(struct jpeg_compress_struct *j) { j->arith_code = TRUE; }

static void restarts_often(struct jpeg_compress_struct *j) { j->restart_interval = 2; }

Test(tools_image_io, reads_a_jpeg_without_an_end_if_no_pixel_is_missing)
{
    static const jpeg_kind KINDS[] = { { JCS_RGB, 3, 0, 0, NULL },
                                       { JCS_RGB, 3, 1, 0, NULL },
                                       { JCS_RGB, 3, 0, 0, splits_components },
                                       { JCS_RGB, 3, 0, 0, restarts_often } };
    char name[TEMP_NAME];
    temp_file(name, ".jpg");
    for (size_t i = 0; i < sizeof KINDS / sizeof KINDS[0]; i++) {
        uint8_t *p;
        size_t len;
        image whole;
        write_jpeg_bytes(name, KINDS[i], &p, &len);
        cr_assert_eq(image_load(&whole, name, NULL), REFINE_OK);
        cr_assert_eq(reads_the_same(name, p, len, &whole, false), REFINE_OK);
        for (size_t cut = 1; cut <= 2; cut++)
            cr_assert_eq(reads_the_same(name, p, len - cut, &whole, true), REFINE_OK, "kind %zu",
                         i);
        for (size_t cut = 3; cut < len; cut++) /* less only if what is gone are padding bits */
            cr_assert(reads_the_same(name, p, len - cut, &whole, true) == REFINE_EFORMAT || cut < 5,
                      "kind %zu, %zu bytes less", i, cut);
        image_free(&whole);
        free(p);
    }
    (void)unlink(name);
}

Test(tools_image_io, reads_a_jpeg_with_a_trailer_instead_of_an_end)
{
    /* Tables, a frame and a scan of nothing: what a decoder that went on would stumble over. */
    static const uint8_t TRAILER[] = { 0,    0,    1,    10,   14,   0,    0,    0,  0xff, 0xc4,
                                       0,    5,    0xaa, 0xbb, 0xcc, 0xff, 0xc0, 0,  3,    1,
                                       0xff, 0xda, 0,    2,    'S',  'E',  'F',  'T' };
    char name[TEMP_NAME];
    uint8_t *p;
    size_t len;
    image whole;
    temp_file(name, ".jpg");
    write_jpeg_bytes(name, (jpeg_kind){ JCS_RGB, 3, 0, 0, NULL }, &p, &len);
    cr_assert_eq(image_load(&whole, name, NULL), REFINE_OK);
    uint8_t *with = malloc(len + sizeof TRAILER);
    memcpy(with, p, len - 2);
    memcpy(with + len - 2, TRAILER, sizeof TRAILER);
    cr_assert_eq(reads_the_same(name, with, len - 2 + sizeof TRAILER, &whole, true), REFINE_OK);
    memcpy(with, p, len);
    memcpy(with + len, TRAILER, sizeof TRAILER);
    cr_assert_eq(reads_the_same(name, with, len + sizeof TRAILER, &whole, false), REFINE_OK);
    image_free(&whole);
    free(with);
    free(p);
    (void)unlink(name);
}

/* Its decoder takes zeros for what is missing and says nothing. */
Test(tools_image_io, refuses_an_arithmetically_coded_jpeg_without_an_end)
{
    char name[TEMP_NAME];
    uint8_t *p;
    size_t len;
    image whole;
    temp_file(name, ".jpg");
    write_jpeg_bytes(name, (jpeg_kind){ JCS_RGB, 3, 0, 0, codes_arithmetically }, &p, &len);
    cr_assert_eq(image_load(&whole, name, NULL), REFINE_OK);
    cr_assert_eq(reads_the_same(name, p, len - 10, &whole, false), REFINE_EFORMAT);
    image_free(&whole);
    free(p);
    (void)unlink(name);
}

/* ---- memory that fails ---- */

static refine_status load_6(const char *name, refine_error *err)
{
    image im;
    const refine_status st = image_load(&im, name, err);
    cr_assert(st != REFINE_OK || (im.width == 13 && im.height == 19), "%s", name);
    image_free(&im);
    return st;
}

static refine_status save_one(const char *name, refine_error *err)
{
    uint8_t rgb[W * H * 3];
    const image im = small_picture(rgb);
    const image_text text[] = { { "prompt", "a cat" }, { "negative_prompt", "caf\xc3\xa9" } };
    return image_save(name, &im, text, 2, err);
}

/* Fails every allocation in its turn; the last round, without a failure, must succeed. */
static void check_image_alloc_failures(const char *name,
                                       refine_status (*deed)(const char *, refine_error *))
{
    long k = 0;
    for (;; k++) {
        refine_error err = { 0 };
        mem_fail_after(k, MEM_FAIL_ONCE);
        const refine_status st = deed(name, &err);
        mem_fail_after(-1, MEM_FAIL_ONCE);
        (void)temp_remove_kept(err.text);
        cr_assert_eq(mem_used().now, 0u, "allocation %ld", k);
        cr_assert(st == REFINE_OK || (st == REFINE_ENOMEM && strlen(err.text) > 0),
                  "allocation %ld: %d %s", k, (int)st, err.text);
        const uint64_t before = mem_used().calls;
        if (st == REFINE_OK && deed(name, NULL) == REFINE_OK &&
            (long)(mem_used().calls - before) <= k)
            break;
    }
    cr_assert_geq(k, 5);
}

Test(tools_image_io, survives_every_failed_allocation_of_a_jpeg)
{
    check_image_alloc_failures("tests/fuzz/corpora/jpeg/turned6.jpg", load_6);
}

Test(tools_image_io, survives_every_failed_allocation_of_a_png)
{
    check_image_alloc_failures("tests/fuzz/corpora/png/rgb8_turned.png", load_6);
    check_image_alloc_failures("tests/fuzz/corpora/png/turned_ztext.png", load_6);
    check_image_alloc_failures("tests/fuzz/corpora/png/turned_xmp_deflated.png", load_6);
    check_image_alloc_failures("tests/fuzz/corpora/jpeg/turned_by_xmp.jpg", load_6);
}

Test(tools_image_io, survives_every_failed_allocation_while_writing)
{
    char name[TEMP_NAME];
    temp_file(name, ".png");
    check_image_alloc_failures(name, save_one);
    (void)unlink(name);
}

static void refuses_the_size(const char *name)
{
    image im;
    refine_error err = { 0 };
    cr_assert_eq(image_load(&im, name, &err), REFINE_EFORMAT);
    cr_assert_not_null(strstr(err.text, "17000 x 1 pixels"), "%s", err.text);
    cr_assert_eq(mem_used().now, 0u);
}

static uint8_t white_sample(int x, int y, int c) { return (uint8_t)(x | y | c | 255); }

/* A PNG of few bytes that says it is so large. */
static void write_png_that_says(const char *name, unsigned width, unsigned height)
{
    size_t len;
    write_png(name, (image_kind){ "", PNG_COLOR_TYPE_GRAY, 8, 0, 0 });
    /* IHDR: length, type, then width and height; its checksum lies behind 13 bytes. */
    unsigned char *p = temp_read(name, &len);
    for (int i = 0; i < 4; i++) {
        p[16 + i] = (uint8_t)(width >> (24 - 8 * i));
        p[20 + i] = (uint8_t)(height >> (24 - 8 * i));
    }
    const unsigned long sum = crc32(crc32(0, NULL, 0), p + 12, 17);
    for (int i = 0; i < 4; i++)
        p[29 + i] = (uint8_t)(sum >> (24 - 8 * i));
    temp_write(name, p, len);
    free(p);
}

Test(tools_image_io, refuses_a_side_that_is_too_long)
{
    char name[TEMP_NAME];
    temp_file(name, ".png");
    write_png_that_says(name, 17000, 1);
    refuses_the_size(name);
    write_jpeg(name, 17000, 1, (jpeg_kind){ JCS_GRAYSCALE, 1, 0, 0, NULL }, white_sample);
    refuses_the_size(name);
    (void)unlink(name);
}

Test(tools_image_io, refuses_a_png_that_is_too_short_before_it_takes_memory)
{
    char name[TEMP_NAME];
    image im;
    refine_error err = { 0 };
    temp_file(name, ".png");
    write_png_that_says(name, 8000, 8000);
    cr_assert_eq(image_load(&im, name, &err), REFINE_EFORMAT);
    cr_assert_not_null(strstr(err.text, "too short for its size"), "%s", err.text);
    (void)unlink(name);
}

Test(tools_image_io, names_what_it_cannot_read)
{
    static const struct {
        const char *bytes;
        size_t n;
        const char *name;
    } OTHERS[] = {
        { "RIFF\0\0\0\0WEBPVP8 ", 16, "WebP" },
        { "GIF89a......", 12, "GIF" },
        { "BM..........", 12, "BMP" },
        { "\0\0\0\x20"
          "ftypheic....",
          16, "HEIC" },
        { "\0\0\0\x20"
          "ftypavif....",
          16, "AVIF" },
        { "II*\0........", 12, "TIFF" },
        { "hello, world", 12, "no image" },
        { "", 0, "empty" },
    };
    char name[TEMP_NAME];
    temp_file(name, ".bin");
    for (size_t i = 0; i < sizeof OTHERS / sizeof OTHERS[0]; i++) {
        image im;
        refine_error err = { 0 };
        temp_write(name, OTHERS[i].bytes, OTHERS[i].n);
        cr_assert_eq(image_load(&im, name, &err), REFINE_EFORMAT);
        cr_assert_not_null(strstr(err.text, OTHERS[i].name), "%s", err.text);
    }
    (void)unlink(name);
    image im;
    cr_assert_eq(image_load(&im, "no/such/file.png", NULL), REFINE_EIO);
}
