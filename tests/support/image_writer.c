/* tests/support/image_writer.c -- PNG and JPEG of every kind, of patterns that tests know. */
#include "tests/support/image_writer.h"

#include <criterion/criterion.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

/* Samples of pixel (x, y): a pattern that uses the whole range of the depth. */
unsigned sample_of(int x, int y, int channel, int depth)
{
    const unsigned v = (unsigned)(x * 31 + y * 57 + channel * 91) * 2654435761u >> 16;
    return v & ((1u << depth) - 1);
}

static void put_bits(uint8_t *row, int index, int depth, unsigned v)
{
    if (depth == 16) {
        row[2 * index] = (uint8_t)(v >> 8);
        row[2 * index + 1] = (uint8_t)v;
    } else if (depth == 8) {
        row[index] = (uint8_t)v;
    } else {
        const int per = 8 / depth;
        row[index / per] |= (uint8_t)(v << (8 - depth - index % per * depth));
    }
}

int channels_of(int type)
{
    static const int CHANNELS[] = { 1, 0, 3, 1, 2, 0, 4 };
    return CHANNELS[type];
}

void write_png(const char *name, image_kind k)
{
    static uint8_t rows[H][W * 8];
    png_bytep at[H];
    FILE *f = fopen(name, "wb");
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_infop info = png_create_info_struct(png);
    png_color palette[256];
    png_byte alpha[256];

    memset(rows, 0, sizeof rows);
    for (int i = 0; i < 256; i++) {
        palette[i] = (png_color){ (png_byte)(i * 3), (png_byte)(255 - i), (png_byte)(i ^ 0x55) };
        alpha[i] = (png_byte)(i * 7);
    }
    for (int y = 0; y < H; y++) {
        at[y] = rows[y];
        for (int x = 0; x < W; x++)
            for (int c = 0; c < channels_of(k.type); c++)
                put_bits(rows[y], x * channels_of(k.type) + c, k.depth,
                         sample_of(x, y, c, k.depth));
    }
    png_init_io(png, f);
    png_set_IHDR(png, info, W, H, k.depth, k.type,
                 k.interlaced ? PNG_INTERLACE_ADAM7 : PNG_INTERLACE_NONE, 0, 0);
    if (k.type == PNG_COLOR_TYPE_PALETTE) {
        png_set_PLTE(png, info, palette, 1 << k.depth);
        png_set_tRNS(png, info, alpha, 1 << k.depth, NULL);
    }
    if (k.keyed && !(k.type & (PNG_COLOR_MASK_ALPHA | PNG_COLOR_MASK_PALETTE))) {
        const bool grey = k.type == PNG_COLOR_TYPE_GRAY;
        png_color_16 key = { .gray = (png_uint_16)sample_of(KEY_X, KEY_Y, 0, k.depth) };
        key.red = key.gray;
        key.green = grey ? 0 : (png_uint_16)sample_of(KEY_X, KEY_Y, 1, k.depth);
        key.blue = grey ? 0 : (png_uint_16)sample_of(KEY_X, KEY_Y, 2, k.depth);
        png_set_tRNS(png, info, NULL, 0, &key);
    }
    png_write_info(png, info);
    png_write_image(png, at);
    png_write_end(png, info);
    png_destroy_write_struct(&png, &info);
    (void)fclose(f);
}

/* An APP1 segment that says nothing but the orientation. */
static void put_orientation(struct jpeg_compress_struct *j, int how)
{
    uint8_t exif[] = { 'E', 'x',  'i', 'f', 0, 0, 'M', 'M', 0, 42,           0, 0, 0, 8, 0, 1,
                       1,   0x12, 0,   3,   0, 0, 0,   1,   0, (uint8_t)how, 0, 0, 0, 0, 0, 0 };
    jpeg_write_marker(j, JPEG_APP0 + 1, exif, sizeof exif);
}

/* Flat blocks of 16 x 16, so that the coding loses next to nothing. */
void write_jpeg(const char *name, int w, int h, jpeg_kind k, uint8_t (*value)(int x, int y, int c))
{
    struct jpeg_compress_struct j;
    struct jpeg_error_mgr e;
    FILE *f = fopen(name, "wb");
    static uint8_t row[17000];
    JSAMPROW at = row;
    j.err = jpeg_std_error(&e);
    jpeg_create_compress(&j);
    jpeg_stdio_dest(&j, f);
    j.image_width = (JDIMENSION)w;
    j.image_height = (JDIMENSION)h;
    j.input_components = k.channels;
    j.in_color_space = k.in;
    jpeg_set_defaults(&j);
    jpeg_set_quality(&j, 98, TRUE);
    if (k.progressive)
        jpeg_simple_progression(&j);
    if (k.change)
        k.change(&j);
    jpeg_start_compress(&j, TRUE);
    if (k.orientation)
        put_orientation(&j, k.orientation);
    for (int y = 0; y < h; y++) {
        for (int x = 0; x < w; x++)
            for (int c = 0; c < k.channels; c++)
                row[x * k.channels + c] = value(x, y, c);
        (void)jpeg_write_scanlines(&j, &at, 1);
    }
    jpeg_finish_compress(&j);
    jpeg_destroy_compress(&j);
    (void)fclose(f);
}

/* Four quarters: red, green / blue, white. */
uint8_t quarters_sample(int x, int y, int c)
{
    const int q = (y >= 16) * 2 + (x >= 32);
    static const uint8_t RGB[4][3] = {
        { 255, 0, 0 }, { 0, 255, 0 }, { 0, 0, 255 }, { 255, 255, 255 }
    };
    return RGB[q][c];
}

void splits_components(struct jpeg_compress_struct *j)
{
    static const jpeg_scan_info SCANS[] = { { 1, { 0 }, 0, 63, 0, 0 },
                                            { 1, { 1 }, 0, 63, 0, 0 },
                                            { 1, { 2 }, 0, 63, 0, 0 } };
    j->scan_info = SCANS;
    j->num_scans = 3;
}

/* A zTXt chunk of XMP that inflates to `n` bytes, the orientation behind them. */
size_t deflate_xmp_chunk(uint8_t *out, size_t room, size_t n)
{
    static const char KEY[] = "XML:com.adobe.xmp\0", TAG[] = "tiff:Orientation=\"6\"";
    uint8_t *text = calloc(1, n + sizeof TAG);
    uLongf len = room - sizeof KEY;
    memcpy(out, KEY, sizeof KEY);
    memcpy(text + n, TAG, sizeof TAG);
    cr_assert_eq(compress(out + sizeof KEY, &len, text, n + sizeof TAG), Z_OK);
    free(text);
    return sizeof KEY + len;
}
