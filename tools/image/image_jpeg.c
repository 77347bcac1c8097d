/* tools/image/image_jpeg.c -- JPEG in by libjpeg-turbo, whose errors are long jumps.
 *
 * libjpeg's own memory is not counted; CODER_MEMORY bounds it.  Only a progressive image
 * needs more than a few rows: two bytes for each sample of each component.
 */
#include <stddef.h>
#include <stdio.h> /* jpeglib.h needs both */

#include "engine/base/mem.h"
#include "engine/base/try.h"
#include "tools/image/image_codec.h"

#include <jerror.h>
#include <jpeglib.h>
#include <setjmp.h>
#include <stdbool.h>
#include <string.h>

enum { CODER_MEMORY = 256 << 20, SCANS_MAX = 200 };

/* Everything a long jump would leak hangs off this; it outlives the setjmp. */
typedef struct jpeg_in {
    struct jpeg_decompress_struct j;
    struct jpeg_error_mgr error;
    struct jpeg_progress_mgr progress;
    jmp_buf out;
    char text[JMSG_LENGTH_MAX];
    refine_status status;
    image im;
    uint8_t *row; /* one row as it is coded, for CMYK */
    image_metadata meta;
    const char *note;
    unsigned seen; /* bit i: component i had a scan */
    bool ran_out;  /* the file ended before libjpeg had all it asked for */
} jpeg_in;

static void on_jpeg_error(j_common_ptr j)
{
    jpeg_in *p = (jpeg_in *)j->client_data;
    if (j->err->msg_code == JERR_NO_BACKING_STORE)
        snprintf(p->text, sizeof p->text, "too large for a progressive one");
    else
        j->err->format_message(j, p->text);
    p->status = j->err->msg_code == JERR_OUT_OF_MEMORY ? REFINE_ENOMEM : REFINE_EFORMAT;
    longjmp(p->out, 1);
}

/* What libjpeg warns of and fills with grey is damage, but not what it can read all the same.  It
 * reads ahead, so that the end of the file need not be missed; only arithmetic coding does not say
 * whether it is. */
static void on_message(j_common_ptr j, int level)
{
    const int code = j->err->msg_code;
    jpeg_in *p = (jpeg_in *)j->client_data;
    if (level < 0 && code == JWRN_JPEG_EOF && !p->j.arith_code)
        p->ran_out = true;
    else if (level < 0 && code != JWRN_EXTRANEOUS_DATA && code != JWRN_JFIF_MAJOR &&
             code != JWRN_ADOBE_XFORM && code != JWRN_NOT_SEQUENTIAL)
        on_jpeg_error(j);
}

/* Is called for every row of blocks.  A progressive file can name thousands of scans, each a pass
 * over the whole image. */
static void on_jpeg_progress(j_common_ptr j)
{
    jpeg_in *p = (jpeg_in *)j->client_data;
    for (int i = 0; i < p->j.comps_in_scan; i++)
        p->seen |= 1u << p->j.cur_comp_info[i]->component_index;
    if (j->is_decompressor && ((j_decompress_ptr)j)->input_scan_number > SCANS_MAX) {
        snprintf(p->text, sizeof p->text, "more than %d scans", SCANS_MAX);
        p->status = REFINE_EFORMAT;
        longjmp(p->out, 1);
    }
}

/* As Adobe stores it and Pillow always takes it: 255 is no ink. */
static void cmyk_to_rgb(uint8_t *rgb, const uint8_t *cmyk, int n)
{
    for (int i = 0; i < n; i++)
        for (int c = 0; c < 3; c++)
            rgb[3 * i + c] = (uint8_t)((cmyk[4 * i + c] * cmyk[4 * i + 3] + 127) / 255);
}

static bool begins_app1(const uint8_t *p, size_t len, const char *with, size_t n)
{
    return len >= n && memcmp(p, with, n) == 0;
}

/* Keeps EXIF and XMP, and takes no memory for what else programs put there.  The whole file is in
 * the source's buffer. */
static boolean read_app1(j_decompress_ptr j)
{
    static const char EXIF[] = "Exif\0", XMP[] = "http://ns.adobe.com/xap/1.0/";
    jpeg_in *p = j->client_data;
    struct jpeg_source_mgr *s = j->src;
    const uint8_t *at = s->next_input_byte;
    const size_t len = s->bytes_in_buffer >= 2 ? (size_t)at[0] << 8 | at[1] : 0;
    if (len < 2 || len > s->bytes_in_buffer)
        ERREXIT(j, JERR_BAD_LENGTH);
    if (!p->meta.exif && begins_app1(at + 2, len - 2, EXIF, sizeof EXIF))
        metadata_set_exif(&p->meta, at + 2 + sizeof EXIF, len - 2 - sizeof EXIF);
    if (begins_app1(at + 2, len - 2, XMP, sizeof XMP))
        metadata_set_xmp(&p->meta, at + 2 + sizeof XMP, len - 2 - sizeof XMP);
    s->next_input_byte += len;
    s->bytes_in_buffer -= len;
    return TRUE;
}

/* Whether every coefficient of every component was there, to its last bit. */
static bool has_all_coefficients(const jpeg_in *p)
{
    const struct jpeg_decompress_struct *j = &p->j;
    if (p->seen != (1u << j->num_components) - 1)
        return false;
    for (int c = 0; c < j->num_components && j->coef_bits; c++)
        for (int k = 0; k < DCTSIZE2; k++)
            if (j->coef_bits[c][k] != 0)
                return false;
    return true;
}

/* Whether the next marker, behind what is none, ends the image. */
static bool is_end_next(const struct jpeg_decompress_struct *j)
{
    const uint8_t *p = j->src->next_input_byte;
    if (j->unread_marker != 0)
        return j->unread_marker == JPEG_EOI;
    for (size_t i = 1; i < j->src->bytes_in_buffer; i++)
        if (p[i - 1] == 0xff && p[i] != 0xff && p[i] != 0)
            return p[i] == JPEG_EOI;
    return false;
}

/* The last row is out.  One scan: what follows holds no pixel, and some cameras put things there
 * that libjpeg would stumble over.  Several: they were read to the end before the first row. */
static void end_jpeg(jpeg_in *p)
{
    static const char NO_END[] = "the JPEG has no end marker; its pixels are all there";
    struct jpeg_decompress_struct *j = &p->j;
    if (p->ran_out && !has_all_coefficients(p)) {
        snprintf(p->text, sizeof p->text, "the file ends in the middle");
        p->status = REFINE_EFORMAT;
        longjmp(p->out, 1);
    }
    if (p->ran_out || (!jpeg_has_multiple_scans(j) && !is_end_next(j)))
        p->note = NO_END;
}

static refine_status read_jpeg(jpeg_in *p, const uint8_t *data, size_t len, const char *name,
                               refine_error *err)
{
    struct jpeg_decompress_struct *j = &p->j;
    if (setjmp(p->out))
        return refine_fail(err, p->status, "%s: cannot decode the JPEG: %s", name, p->text);
    jpeg_create_decompress(j);
    j->client_data = p;
    j->mem->max_memory_to_use = CODER_MEMORY;
    p->progress.progress_monitor = on_jpeg_progress;
    j->progress = &p->progress;
    jpeg_mem_src(j, data, (unsigned long)len);
    jpeg_set_marker_processor(j, JPEG_APP0 + 1, read_app1);
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
            cmyk_to_rgb(dst, p->row, p->im.width);
    }
    end_jpeg(p);
    return REFINE_OK;
}

refine_status image_decode_jpeg(image *out, image_reading *how, const uint8_t *data, size_t len,
                                const char *name, refine_error *err)
{
    jpeg_in *p = mem_calloc(1, sizeof *p);
    if (!p)
        return refine_fail(err, REFINE_ENOMEM, "%s: out of memory", name);
    p->j.err = jpeg_std_error(&p->error);
    p->j.client_data = p;
    p->error.error_exit = on_jpeg_error;
    p->error.emit_message = on_message;
    refine_status st = read_jpeg(p, data, len, name, err);
    jpeg_destroy_decompress(&p->j);
    if (st == REFINE_OK)
        st = image_turn_upright(&p->im, &p->meta, name, err);
    metadata_free(&p->meta);
    how->note = p->note;
    if (st == REFINE_OK)
        *out = p->im;
    else
        image_free(&p->im);
    mem_free(p->row);
    mem_free(p);
    return st;
}
