/* tools/image_codec.h -- the two decoders behind tools/image_io.h.  Both read from memory,
 * fill `out` only on success, and report REFINE_EFORMAT with `name` in the text. */
#ifndef REFINE_IMAGE_CODEC_H
#define REFINE_IMAGE_CODEC_H

#include "tools/image_io.h"

refine_status image_decode_png(image *out, const uint8_t *data, size_t len, const char *name,
                               refine_error *err);
refine_status image_decode_jpeg(image *out, const uint8_t *data, size_t len, const char *name,
                                refine_error *err);

/* Takes width * height * 3 bytes after checking both sides against IMAGE_MAX_SIDE. */
refine_status image_alloc(image *out, unsigned long width, unsigned long height, const char *name,
                          refine_error *err);

#endif
