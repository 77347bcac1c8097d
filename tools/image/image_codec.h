/* tools/image/image_codec.h -- the parts behind tools/image/image_io.h.  The decoders read from
 * memory, fill `out` only on success, and report with `name` in the text: REFINE_EFORMAT or
 * REFINE_ENOMEM. */
#ifndef REFINE_IMAGE_CODEC_H
#define REFINE_IMAGE_CODEC_H

#include "tools/image/image_io.h"

#include <stdio.h>

refine_status image_decode_png(image *out, image_reading *how, const uint8_t *data, size_t len,
                               const char *name, refine_error *err);
refine_status image_decode_jpeg(image *out, image_reading *how, const uint8_t *data, size_t len,
                                const char *name, refine_error *err);

/* A coded image, which grows in memory and then goes out in one piece. */
typedef struct image_bytes {
    uint8_t *data; /* owned */
    size_t len, room;
} image_bytes;

/* Room for `n` more.  False: no memory. */
bool image_bytes_reserve(image_bytes *b, size_t n);

/* What they append to `out` is to be freed on failure, too. */
refine_status image_encode_png(image_bytes *out, const image *im, const image_text *text,
                               int n_text, const char *name, refine_error *err);
refine_status image_encode_jpeg(image_bytes *out, const image *im, const image_text *text,
                                int n_text, const char *name, refine_error *err);

/* image_has_texts of a file of that format. */
bool image_png_has(FILE *file, const image_text *text, int n_text);
bool image_jpeg_has(FILE *file, const image_text *text, int n_text);
/* Whether there is a text under this key before the pixels, however the file ends. */
bool image_png_has_key(FILE *file, const char *key);
bool image_jpeg_has_key(FILE *file, const char *key);

/* The text of a key in what was found, or NULL. */
typedef const char *image_text_find(const void *have, const char *key);
bool image_texts_match(image_text_find *find, const void *have, const image_text *want, int n_want);
bool image_text_is_ascii(const char *s);

/* Takes width * height * 3 bytes after checking both sides against IMAGE_MAX_SIDE, and that they
 * and `coder`, what the decoder needs beside them, are within the ceiling. */
refine_status image_alloc(image *out, unsigned long width, unsigned long height, uint64_t coder,
                          const image_reading *how, const char *name, refine_error *err);

/* Part of what is left of the ceiling, for a chunk or metadata of a size that the file chooses. */
size_t image_memory_share(const image_reading *how, size_t most);

enum { METADATA_MAX = 2 << 20 };

/* What a file carries beside its pixels. */
typedef struct image_metadata {
    void *exif; /* "Exif", two zeros, a TIFF header, as in a JPEG's APP1 segment; owned */
    void *xmp;  /* owned */
    size_t exif_len, xmp_len;
    size_t most;        /* bytes of either; what is longer is not kept */
    bool out_of_memory; /* so that something was not kept */
    bool from_chunk;    /* exif is of a PNG's own chunk for it, and no text replaces that */
} image_metadata;

/* Copies, which replace what was there.  `tiff` begins with the TIFF header. */
void metadata_set_exif(image_metadata *m, const uint8_t *tiff, size_t len);
/* Goes on where what was there ends: EXIF may be cut into several segments. */
void metadata_add_exif(image_metadata *m, const uint8_t *tiff, size_t len);
void metadata_set_xmp(image_metadata *m, const void *xmp, size_t len);
/* Texts as a comment: an APP1 segment's EXIF, the caller's to mem_free; NULL where there is no text
 * or more than a segment holds.  False: out of memory. */
bool comment_encode(uint8_t **out, size_t *len, const image_text *text, int n_text);
bool comment_has(const image_metadata *m, const image_text *text, int n_text);

/* From a chunk of a PNG, eXIf or one of text, if it holds one of the two. */
void metadata_read_chunk(image_metadata *m, const uint8_t type[4], const uint8_t *data, size_t len);
void metadata_free(image_metadata *m);

/* The orientation, 1 to 8: EXIF's; where EXIF names none, XMP's; 1, as it lies, where neither
 * does. */
refine_status metadata_orientation(int *out, const image_metadata *m, const char *name,
                                   refine_error *err);

/* What image_turn_upright will take for an image of that size, when the decoder has given back what
 * it needs; `coder` if that is more. */
refine_status metadata_turn_bytes(uint64_t *out, const image_metadata *m, uint64_t coder,
                                  unsigned long width, unsigned long height, const char *name,
                                  refine_error *err);

/* Exchanges the image for one turned and mirrored as its metadata ask. */
refine_status image_turn_upright(image *im, const image_metadata *m, const image_reading *how,
                                 const char *name, refine_error *err);

#endif
