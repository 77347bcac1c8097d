/* tests/support/image_writer.h -- PNG and JPEG of every kind, of patterns that tests know. */
#ifndef IMAGE_WRITER_H
#define IMAGE_WRITER_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <jpeglib.h>
#include <png.h>

/* Of a PNG; and its pixel that is transparent where it is keyed. */
enum { W = 13, H = 9, KEY_X = 3, KEY_Y = 2 };

typedef struct image_kind {
    const char *name;
    int type, depth, interlaced;
    int keyed; /* of no palette and no alpha: one colour is transparent */
} image_kind;

/* Samples of pixel (x, y): a pattern that uses the whole range of the depth. */
unsigned sample_of(int x, int y, int channel, int depth);
int channels_of(int type);
void write_png(const char *name, image_kind k);

typedef struct jpeg_kind {
    J_COLOR_SPACE in;
    int channels, progressive, orientation;
    void (*change)(struct jpeg_compress_struct *j); /* of the defaults; or NULL */
} jpeg_kind;

/* Flat blocks of 16 x 16 lose next to nothing. */
void write_jpeg(const char *name, int w, int h, jpeg_kind k, uint8_t (*value)(int x, int y, int c));
/* Four quarters: red, green / blue, white. */
uint8_t quarters_sample(int x, int y, int c);
/* jpeg_kind.change: a scan for each component. */
void splits_components(struct jpeg_compress_struct *j);
/* A zTXt chunk of XMP that inflates to `n` bytes, the orientation behind them: its own bytes. */
size_t deflate_xmp_chunk(uint8_t *out, size_t room, size_t n);

#endif
