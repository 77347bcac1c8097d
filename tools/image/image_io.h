/* tools/image/image_io.h -- images in and out: PNG and JPEG to 8-bit RGB and back. */
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
    uint64_t memory;       /* most bytes that reading takes, file, image and decoder together */
    const char *note;      /* told: what the user should know of the file; NULL: nothing */
    uint64_t before;       /* bytes in use when reading began */
} image_reading;

#define IMAGE_READING_INIT { .background = { 255, 255, 255 }, .memory = (uint64_t)512 << 20 }

/* Reads PNG (grey, palette, alpha, 16-bit, interlaced) or JPEG (grey, YCbCr, CMYK), turned upright
 * as EXIF or XMP say.  Grey is repeated, 16 bits are rounded to 8, and what is transparent lies on
 * the background: each sample is round((alpha * sample + (255 - alpha) * background) / 255), of 16
 * bits likewise before they are rounded.
 * REFINE_EIO: cannot be read.  REFINE_EFORMAT: damaged, too large, or of another kind,
 * which the text names.  REFINE_EBUDGET: it takes more memory than it may. */
refine_status image_read(image *out, image_reading *how, const char *path, refine_error *err);
void image_free(image *im); /* a zeroed image is fine */

/* Whether `more` bytes can be taken since the reading began.  REFINE_EBUDGET: the text says what
 * reading takes. */
refine_status image_check_memory(const image_reading *how, uint64_t more, const char *name,
                                 refine_error *err);

/* What the name of an image to be written asks for. */
typedef enum image_format {
    IMAGE_FORMAT_PNG, /* also where the name does not say */
    IMAGE_FORMAT_JPEG,
    IMAGE_FORMAT_OTHER /* which is not written */
} image_format;

image_format image_name_format(const char *path);
/* REFINE_EINVAL: another format; the text says which are written. */
refine_status image_check_name(const char *path, refine_error *err);

/* One of the texts that go with an image: a text chunk of a PNG; of a JPEG a part of EXIF's
 * UserComment.  UTF-8. */
typedef struct image_text {
    const char *key, *value;
} image_text;

/* A value that no text has: the key must not be there. */
extern const char IMAGE_TEXT_ABSENT[];

/* Whether the file is an image of the format its name asks for that carries all these texts, a PNG
 * before its pixels; a value of NULL stands for any. */
bool image_has_texts(const char *path, const image_text *text, int n_text);

/* Whether a file is there that is neither empty nor an image that was cut off before its pixels,
 * and that has no text under this key: somebody else's, whole or not. */
bool image_is_foreign(const char *path, const char *key);

/* Writes 8-bit RGB as the name asks, complete or not at all: under another name beside it, flushed
 * and renamed.  "-" is a PNG on standard output.  The same image and texts give the same bytes.
 * A JPEG is of quality 95, all its components of full size; texts of more than 64 KiB are left
 * out.  REFINE_EINVAL: a name of another format. */
refine_status image_save(const char *path, const image *im, const image_text *text, int n_text,
                         refine_error *err);

#endif
