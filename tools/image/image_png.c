/* tools/image/image_png.c -- PNG in and out by libpng, whose errors are long jumps.
 *
 * Everything a jump would leak hangs off one struct that outlives the setjmp.
 */
#include "engine/base/mem.h"
#include "engine/base/num.h"
#include "engine/base/try.h"
#include "tools/image/image_codec.h"
#include "tools/image/png_whole.h"

#include <png.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>

enum { CHUNK_LIMIT = 8 << 20, DEFLATE_MAX = 1032 };

/* What went wrong, for libpng to fill in. */
typedef struct png_failure {
    char text[128];
    bool out_of_memory;
} png_failure;

static void on_png_error(png_structp png, png_const_charp text)
{
    png_failure *f = png_get_error_ptr(png);
    snprintf(f->text, sizeof f->text, "%s", text);
    png_longjmp(png, 1);
}

static void on_warning(png_structp png, png_const_charp text)
{
    (void)png;
    (void)text;
}

static png_voidp libpng_alloc(png_structp png, png_alloc_size_t bytes)
{
    png_failure *f = png_get_mem_ptr(png);
    void *p = mem_alloc(bytes);
    if (!p)
        f->out_of_memory = true;
    return p;
}

static void libpng_free(png_structp png, png_voidp p)
{
    (void)png;
    mem_free(p);
}

static refine_status report_png_failure(const png_failure *f, const char *what, const char *name,
                                        refine_error *err)
{
    if (f->out_of_memory)
        return refine_fail(err, REFINE_ENOMEM, "%s: out of memory", name);
    return refine_fail(err, REFINE_EFORMAT, "%s: cannot %s the PNG: %s", name, what, f->text);
}

/* ---- reading ---- */

typedef struct png_in {
    const uint8_t *data;
    size_t len, at;
    FILE *file; /* instead of data */
    png_structp png;
    png_infop info;
    image im;
    png_bytep *rows;
    png_failure failure;
    image_metadata meta;
} png_in;

static void read_bytes(png_structp png, png_bytep out, size_t n)
{
    png_in *p = png_get_io_ptr(png);
    if (!num_within(p->at, n, p->len))
        png_error(png, "the file ends in the middle");
    memcpy(out, p->data + p->at, n);
    p->at += n;
}

/* Samples as they are added up: no gamma is known, as none of its chunks is read. */
static void lay_on_background(png_in *p, const uint8_t rgb[3])
{
    const png_color_16 c = { .red = rgb[0], .green = rgb[1], .blue = rgb[2] };
    png_set_background(p->png, &c, PNG_BACKGROUND_GAMMA_SCREEN, 0, 1.0);
}

/* Whatever is in the file comes out as 8-bit RGB. */
static void set_transforms(png_in *p, const uint8_t background[3])
{
    png_set_expand(p->png);
    png_set_scale_16(p->png);
    png_set_gray_to_rgb(p->png);
    if ((png_get_color_type(p->png, p->info) & PNG_COLOR_MASK_ALPHA) != 0 ||
        png_get_valid(p->png, p->info, PNG_INFO_tRNS) != 0)
        lay_on_background(p, background);
    (void)png_set_interlace_handling(p->png);
    png_read_update_info(p->png, p->info);
}

/* Texts are looked through for the two that hold metadata, and none is kept.  libpng's own reading
 * of EXIF leaves out one that does not begin with the TIFF header. */
static int read_metadata_chunk(png_structp png, png_unknown_chunkp c)
{
    png_in *p = png_get_user_chunk_ptr(png);
    metadata_read_chunk(&p->meta, c->name, c->data, c->size);
    return 1;
}

/* A chunk, what it is inflated to and what is kept of that are within what is left. */
static void limit_chunks(png_in *p, const image_reading *how)
{
    const size_t most = image_memory_share(how, CHUNK_LIMIT);
    png_set_chunk_malloc_max(p->png, most + (most == 0)); /* 0 would be no limit */
    p->meta.most = num_min(most, METADATA_MAX);
}

/* Chunks that an image can do without are not even parsed. */
static void set_png_limits(png_in *p, const image_reading *how)
{
    static const png_byte UNREAD[] = "bKGD\0cHRM\0gAMA\0hIST\0iCCP\0oFFs\0pCAL\0pHYs\0sBIT\0"
                                     "sCAL\0sPLT\0sRGB\0sTER\0tIME";
    static const png_byte METADATA[] = "eXIf\0iTXt\0tEXt\0zTXt";
    png_set_keep_unknown_chunks(p->png, PNG_HANDLE_CHUNK_NEVER, UNREAD, sizeof UNREAD / 5);
    png_set_keep_unknown_chunks(p->png, PNG_HANDLE_CHUNK_ALWAYS, METADATA, sizeof METADATA / 5);
    png_set_read_user_chunk_fn(p->png, p, read_metadata_chunk);
    png_set_user_limits(p->png, PNG_UINT_31_MAX, PNG_UINT_31_MAX); /* image_alloc has its own */
    limit_chunks(p, how);
    png_set_crc_action(p->png, PNG_CRC_ERROR_QUIT, PNG_CRC_WARN_DISCARD);
}

/* Pointers to the rows; rows as they are coded, filtered and on their way to RGB; zlib. */
static uint64_t decoder_bytes(const png_in *p, png_uint_32 w, png_uint_32 h)
{
    enum { ROWS = 4, WIDEST = 8, ZLIB = 64 << 10 };
    return h * (uint64_t)sizeof *p->rows + (uint64_t)w * ROWS * WIDEST + ZLIB;
}

static refine_status read_png(png_in *p, const image_reading *how, const char *name,
                              refine_error *err)
{
    uint64_t beside;
    if (setjmp(png_jmpbuf(p->png)))
        return report_png_failure(&p->failure, "decode", name, err);
    png_set_read_fn(p->png, p, read_bytes);
    set_png_limits(p, how);
    png_read_info(p->png, p->info);
    const png_uint_32 w = png_get_image_width(p->png, p->info);
    const png_uint_32 h = png_get_image_height(p->png, p->info);
    /* Deflate makes at most 1032 bytes of one: a short file must not take much memory. */
    if (png_get_rowbytes(p->png, p->info) / DEFLATE_MAX * h > p->len)
        png_error(p->png, "the file is too short for its size");
    TRY(metadata_turn_bytes(&beside, &p->meta, decoder_bytes(p, w, h), w, h, name, err));
    TRY(image_alloc(&p->im, w, h, beside, how, name, err));
    limit_chunks(p, how);
    set_transforms(p, how->background);
    if (png_get_rowbytes(p->png, p->info) != (size_t)w * 3)
        png_error(p->png, "its pixels are of an unknown kind");
    p->rows = mem_alloc(h * sizeof *p->rows);
    if (!p->rows)
        return refine_fail(err, REFINE_ENOMEM, "%s: out of memory", name);
    for (png_uint_32 y = 0; y < h; y++)
        p->rows[y] = p->im.rgb + (size_t)y * w * 3;
    png_read_image(p->png, p->rows);
    png_read_end(p->png, p->info);
    /* libpng leaves out a chunk that it has no memory for. */
    return p->failure.out_of_memory ? report_png_failure(&p->failure, "decode", name, err)
                                    : REFINE_OK;
}

refine_status image_decode_png(image *out, image_reading *how, const uint8_t *data, size_t len,
                               const char *name, refine_error *err)
{
    png_in p = { .data = data, .len = len };
    refine_status st = REFINE_ENOMEM;

    how->note = NULL;
    p.png = png_create_read_struct_2(PNG_LIBPNG_VER_STRING, &p.failure, on_png_error, on_warning,
                                     &p.failure, libpng_alloc, libpng_free);
    p.info = p.png ? png_create_info_struct(p.png) : NULL;
    if (p.info)
        st = read_png(&p, how, name, err);
    else
        refine_fail(err, REFINE_ENOMEM, "%s: out of memory", name);
    if (st == REFINE_OK)
        st = image_turn_upright(&p.im, &p.meta, how, name, err);
    metadata_free(&p.meta);
    png_destroy_read_struct(&p.png, &p.info, NULL);
    mem_free(p.rows);
    if (st != REFINE_OK)
        image_free(&p.im);
    else
        *out = p.im;
    return st;
}

/* ---- texts ---- */

static void read_from_file(png_structp png, png_bytep out, size_t n)
{
    png_in *p = png_get_io_ptr(png);
    if (fread(out, 1, n, p->file) != n)
        png_error(png, "the file ends");
}

static const char *find_png_text(const void *info, const char *key)
{
    const png_in *p = info;
    png_textp have = NULL;
    int n = 0;
    (void)png_get_text(p->png, p->info, &have, &n);
    for (int i = 0; i < n; i++)
        if (strcmp(have[i].key, key) == 0)
            return have[i].text ? have[i].text : "";
    return NULL;
}

static bool find_png_texts(png_in *p, const image_text *text, int n_text)
{
    if (setjmp(png_jmpbuf(p->png)))
        return false;
    png_set_read_fn(p->png, p, read_from_file);
    png_set_crc_action(p->png, PNG_CRC_QUIET_USE, PNG_CRC_QUIET_USE); /* png_is_whole sees to it */
    png_set_chunk_malloc_max(p->png, CHUNK_LIMIT);
    png_read_info(p->png, p->info);
    return image_texts_match(find_png_text, p, text, n_text);
}

static bool has_png_texts(FILE *file, const image_text *text, int n_text)
{
    png_in p = { .file = file };

    p.png = png_create_read_struct_2(PNG_LIBPNG_VER_STRING, &p.failure, on_png_error, on_warning,
                                     &p.failure, libpng_alloc, libpng_free);
    p.info = p.png ? png_create_info_struct(p.png) : NULL;
    const bool has = p.info && find_png_texts(&p, text, n_text);
    png_destroy_read_struct(&p.png, &p.info, NULL);
    return has;
}

bool image_png_has(FILE *file, const image_text *text, int n_text)
{
    if (!has_png_texts(file, text, n_text))
        return false;
    rewind(file);
    return png_is_whole(file);
}

bool image_png_has_key(FILE *file, const char *key)
{
    return has_png_texts(file, &(image_text){ key, NULL }, 1);
}

/* ---- writing ---- */

typedef struct png_out {
    png_structp png;
    png_infop info;
    image_bytes *out;
    png_failure failure;
} png_out;

static void write_bytes(png_structp png, png_bytep in, size_t n)
{
    png_out *p = png_get_io_ptr(png);
    if (!image_bytes_reserve(p->out, n)) {
        p->failure.out_of_memory = true;
        png_error(png, "out of memory");
    }
    memcpy(p->out->data + p->out->len, in, n);
    p->out->len += n;
}

static void flush_bytes(png_structp png) { (void)png; }

static void set_texts(png_out *p, const image_text *text, int n)
{
    for (int i = 0; i < n; i++) {
        png_text t = { .compression = image_text_is_ascii(text[i].value)
                                          ? PNG_TEXT_COMPRESSION_NONE
                                          : PNG_ITXT_COMPRESSION_NONE,
                       .key = (png_charp)(uintptr_t)text[i].key,
                       .text = (png_charp)(uintptr_t)text[i].value,
                       .text_length = strlen(text[i].value) };
        png_set_text(p->png, p->info, &t, 1);
    }
}

static refine_status encode_png_image(png_out *p, const image *im, const image_text *text,
                                      int n_text, const char *name, refine_error *err)
{
    if (setjmp(png_jmpbuf(p->png)))
        return report_png_failure(&p->failure, "encode", name, err);
    png_set_write_fn(p->png, p, write_bytes, flush_bytes);
    png_set_IHDR(p->png, p->info, (png_uint_32)im->width, (png_uint_32)im->height, 8,
                 PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT,
                 PNG_FILTER_TYPE_DEFAULT);
    set_texts(p, text, n_text);
    png_write_info(p->png, p->info);
    for (int y = 0; y < im->height; y++)
        png_write_row(p->png, im->rgb + (size_t)y * (size_t)im->width * 3);
    png_write_end(p->png, NULL);
    return REFINE_OK;
}

refine_status image_encode_png(image_bytes *out, const image *im, const image_text *text,
                               int n_text, const char *name, refine_error *err)
{
    png_out p = { .out = out };
    refine_status st = REFINE_ENOMEM;

    p.png = png_create_write_struct_2(PNG_LIBPNG_VER_STRING, &p.failure, on_png_error, on_warning,
                                      &p.failure, libpng_alloc, libpng_free);
    p.info = p.png ? png_create_info_struct(p.png) : NULL;
    if (p.info)
        st = encode_png_image(&p, im, text, n_text, name, err);
    else
        refine_fail(err, REFINE_ENOMEM, "%s: out of memory", name);
    png_destroy_write_struct(&p.png, &p.info);
    return st;
}
