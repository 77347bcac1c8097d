/* tools/image_jpeg.c -- JPEG in by libjpeg-turbo, upright by libexif. */
#include <stddef.h>
#include <stdio.h> /* jpeglib.h needs both */

#include "engine/base/mem.h"
#include "engine/base/num.h"
#include "engine/base/try.h"
#include "tools/image_codec.h"

#include <jpeglib.h>
#include <libexif/exif-data.h>
#include <setjmp.h>
#include <string.h>

enum { CODER_MEMORY = 256 << 20, MAX_SCANS = 200 };

/* Everything a long jump would leak hangs off this; it outlives the setjmp. */
typedef struct jpeg_in {
    struct jpeg_decompress_struct j;
    struct jpeg_error_mgr  error;
    struct jpeg_progress_mgr progress;
    jmp_buf  out;
    char     text[JMSG_LENGTH_MAX];
    image    im;
    uint8_t *row;       /* one row as it is coded, for CMYK */
} jpeg_in;

static void on_error(j_common_ptr j)
{
    jpeg_in *p = (jpeg_in *)j->client_data;
    j->err->format_message(j, p->text);
    longjmp(p->out, 1);
}

/* A warning means damaged data: libjpeg would go on with grey. */
static void on_message(j_common_ptr j, int level)
{
    if (level < 0)
        on_error(j);
}

/* A progressive file can name thousands of scans, each a pass over the whole picture. */
static void on_progress(j_common_ptr j)
{
    jpeg_in *p = (jpeg_in *)j->client_data;
    if (j->is_decompressor && ((j_decompress_ptr)j)->input_scan_number > MAX_SCANS) {
        snprintf(p->text, sizeof p->text, "too many scans");
        longjmp(p->out, 1);
    }
}

/* Adobe stores CMYK inverted: 255 is no ink. */
static void cmyk_to_rgb(uint8_t *rgb, const uint8_t *cmyk, int n, bool inverted)
{
    for (int i = 0; i < n; i++)
        for (int c = 0; c < 3; c++) {
            const int ink = inverted ? cmyk[4 * i + c] : 255 - cmyk[4 * i + c];
            const int black = inverted ? cmyk[4 * i + 3] : 255 - cmyk[4 * i + 3];
            rgb[3 * i + c] = (uint8_t)((ink * black + 127) / 255);
        }
}

static refine_status read_jpeg(jpeg_in *p, const uint8_t *data, size_t len, const char *name,
                               refine_error *err)
{
    struct jpeg_decompress_struct *j = &p->j;
    if (setjmp(p->out))
        return refine_fail(err, REFINE_EFORMAT, "%s: damaged JPEG: %s", name, p->text);
    jpeg_create_decompress(j);
    j->client_data = p;
    j->mem->max_memory_to_use = CODER_MEMORY;
    p->progress.progress_monitor = on_progress;
    j->progress = &p->progress;
    jpeg_mem_src(j, data, (unsigned long)len);
    (void)jpeg_read_header(j, TRUE);
    const bool cmyk = j->jpeg_color_space == JCS_CMYK || j->jpeg_color_space == JCS_YCCK;
    j->out_color_space = cmyk ? JCS_CMYK : JCS_RGB;
    TRY(image_alloc(&p->im, j->image_width, j->image_height, name, err));
    p->row = mem_alloc((size_t)j->image_width * 4);
    if (!p->row)
        return refine_fail(err, REFINE_ENOMEM, "%s: out of memory", name);
    (void)jpeg_start_decompress(j);
    while (j->output_scanline < j->output_height) {
        uint8_t *dst = p->im.rgb + (size_t)j->output_scanline * (size_t)p->im.width * 3;
        JSAMPROW row = cmyk ? p->row : dst;
        (void)jpeg_read_scanlines(j, &row, 1);
        if (cmyk)
            cmyk_to_rgb(dst, p->row, p->im.width, j->saw_Adobe_marker);
    }
    (void)jpeg_finish_decompress(j);
    return REFINE_OK;
}

/* 1..8; 1, as it lies, when the file does not say. */
static int orientation(const uint8_t *data, size_t len)
{
    ExifData *exif = exif_data_new_from_data(data, (unsigned)num_min(len, 1u << 30));
    ExifEntry *e =
        exif ? exif_content_get_entry(exif->ifd[EXIF_IFD_0], EXIF_TAG_ORIENTATION) : NULL;
    int v = 1;
    if (e && e->format == EXIF_FORMAT_SHORT && e->components == 1 && e->size >= 2)
        v = exif_get_short(e->data, exif_data_get_byte_order(exif));
    if (exif)
        exif_data_unref(exif);
    return v >= 1 && v <= 8 ? v : 1;
}

/* Where pixel (x, y) of the upright picture lies in the stored one, by EXIF's table:
 * 2 mirrored, 3 turned half, 4 both, 5..8 the same with the sides exchanged. */
static size_t stored_at(const image *im, int how, int x, int y)
{
    const int w = im->width, h = im->height;
    int sx = how >= 5 ? y : x, sy = how >= 5 ? x : y;
    if (how == 2 || how == 3 || how == 7 || how == 8)
        sx = w - 1 - sx;
    if (how == 3 || how == 4 || how == 6 || how == 7)
        sy = h - 1 - sy;
    return ((size_t)sy * (size_t)w + (size_t)sx) * 3;
}

static refine_status turn_upright(image *im, int how, const char *name, refine_error *err)
{
    image up;
    if (how == 1)
        return REFINE_OK;
    const bool swap = how >= 5;
    TRY(image_alloc(&up, (unsigned long)(swap ? im->height : im->width),
                    (unsigned long)(swap ? im->width : im->height), name, err));
    for (int y = 0; y < up.height; y++)
        for (int x = 0; x < up.width; x++)
            memcpy(up.rgb + ((size_t)y * (size_t)up.width + (size_t)x) * 3,
                   im->rgb + stored_at(im, how, x, y), 3);
    image_free(im);
    *im = up;
    return REFINE_OK;
}

refine_status image_decode_jpeg(image *out, const uint8_t *data, size_t len, const char *name,
                                refine_error *err)
{
    jpeg_in *p = mem_calloc(1, sizeof *p);
    if (!p)
        return refine_fail(err, REFINE_ENOMEM, "%s: out of memory", name);
    p->j.err = jpeg_std_error(&p->error);
    p->j.client_data = p;
    p->error.error_exit = on_error;
    p->error.emit_message = on_message;
    refine_status st = read_jpeg(p, data, len, name, err);
    jpeg_destroy_decompress(&p->j);
    if (st == REFINE_OK)
        st = turn_upright(&p->im, orientation(data, len), name, err);
    if (st == REFINE_OK)
        *out = p->im;
    else
        image_free(&p->im);
    mem_free(p->row);
    mem_free(p);
    return st;
}
