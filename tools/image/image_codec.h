/* tools/image/image_codec.h -- the parts behind tools/image/image_io.h.  The decoders read from
 * memory, fill `out` only on success, and report with `name` in the text: REFINE_EFORMAT or
 * REFINE_ENOMEM. */
#ifndef REFINE_IMAGE_CODEC_H
#define REFINE_IMAGE_CODEC_H

#include "tools/image/image_io.h"

refine_status image_decode_png(image *out, const uint8_t *data, size_t len, const char *name,
                               refine_error *err);
refine_status image_decode_jpeg(image *out, const uint8_t *data, size_t len, const char *name,
                                refine_error *err);

/* Takes width * height * 3 bytes after checking both sides against IMAGE_MAX_SIDE. */
refine_status image_alloc(image *out, unsigned long width, unsigned long height, const char *name,
                          refine_error *err);

/* EXIF's orientation, 1 to 8; 1, as it lies, when `exif` does not say.  The bytes are those of
 * a JPEG's APP1 segment: "Exif", two zeros, a TIFF header. */
refine_status image_orientation(int *out, const uint8_t *exif, size_t len, const char *name,
                                refine_error *err);

/* Exchanges the image for one turned and mirrored as an orientation of 1 to 8 asks. */
refine_status image_turn_upright(image *im, int orientation, const char *name, refine_error *err);

#endif
