/* tools/image/image_io.h -- images in and out: PNG and JPEG to 8-bit RGB, RGB to PNG. */
#ifndef REFINE_IMAGE_IO_H
#define REFINE_IMAGE_IO_H

#include <refine/status.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { IMAGE_MAX_SIDE = 16384 };

typedef struct image {
    int width, height;
    uint8_t *rgb; /* width * height * 3, rows from the top; owned */
} image;

/* How an image is read. */
typedef struct image_reading {
    uint8_t background[3]; /* RGB that shows where the image is transparent */
    const char *note;      /* told: what the user should know of the file; NULL: nothing */
} image_reading;

#define IMAGE_READING_INIT { .background = { 255, 255, 255 } }

/* Reads PNG (grey, palette, alpha, 16-bit, interlaced) or JPEG (grey, YCbCr, CMYK), turned upright
 * as EXIF or XMP say.  Grey is repeated, 16 bits are rounded to 8, and what is transparent lies on
 * the background: each sample is round((alpha * sample + (255 - alpha) * background) / 255), of 16
 * bits likewise before they are rounded.
 * REFINE_EIO: cannot be read.  REFINE_EFORMAT: damaged, too large, or of another kind,
 * which the text names. */
refine_status image_read(image *out, image_reading *how, const char *path, refine_error *err);
void image_free(image *im); /* a zeroed image is fine */

/* One text chunk of a PNG.  UTF-8. */
typedef struct image_text {
    const char *key, *value;
} image_text;

/* A value that no text has: the key must not be there. */
extern const char IMAGE_TEXT_ABSENT[];

/* Whether the file is a PNG that carries all these texts before its pixels; a value of NULL stands
 * for any. */
bool image_png_has(const char *path, const image_text *text, int n_text);

/* Writes an 8-bit RGB PNG, complete or not at all: under another name beside it, flushed and
 * renamed.  "-" is standard output.  The same image and texts give the same bytes. */
refine_status image_save_png(const char *path, const image *im, const image_text *text, int n_text,
                             refine_error *err);

#endif
