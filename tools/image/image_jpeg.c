/* tools/image/image_jpeg.c -- JPEG in and out by libjpeg-turbo, whose errors are long jumps.
 *
 * libjpeg's own memory is not counted; what it will be is computed from the header and held against
 * the ceiling.  Only an image of several scans needs more than a few rows: two bytes for each
 * sample of each component.
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

enum { SCANS_MAX = 200 };

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
    if (begins_app1(at + 2, len - 2, EXIF, sizeof EXIF))
        metadata_add_exif(&p->meta, at + 2 + sizeof EXIF, len - 2 - sizeof EXIF);
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

/* Metadata and all that stands before the first scan.  Jumps to p->out on failure. */
static void read_jpeg_header(jpeg_in *p, const uint8_t *data, size_t len)
{
    struct jpeg_decompress_struct *j = &p->j;
    jpeg_create_decompress(j);
    j->client_data = p;
    p->progress.progress_monitor = on_jpeg_progress;
    j->progress = &p->progress;
    jpeg_mem_src(j, data, (unsigned long)len);
    jpeg_set_marker_processor(j, JPEG_APP0 + 1, read_app1);
    (void)jpeg_read_header(j, TRUE);
}

/* Coefficients, if a later scan may change them; and rows of blocks: as they are coded, upsampled,
 * as neighbours of others and as RGB. */
static uint64_t coder_bytes(j_decompress_ptr j)
{
    enum { KINDS_OF_ROWS = 4, TABLES = 256 << 10 };
    uint64_t coefficients = 0;
    for (int c = 0; c < j->num_components && jpeg_has_multiple_scans(j); c++) {
        const jpeg_component_info *i = &j->comp_info[c];
        coefficients += ((uint64_t)i->width_in_blocks + (uint64_t)i->h_samp_factor) *
                        ((uint64_t)i->height_in_blocks + (uint64_t)i->v_samp_factor) *
                        sizeof(JBLOCK);
    }
    const uint64_t row = (uint64_t)j->image_width * (uint64_t)j->num_components;
    return coefficients + row * (uint64_t)j->max_v_samp_factor * DCTSIZE * KINDS_OF_ROWS + TABLES;
}

static refine_status read_jpeg(jpeg_in *p, const image_reading *how, const uint8_t *data,
                               size_t len, const char *name, refine_error *err)
{
    struct jpeg_decompress_struct *j = &p->j;
    uint64_t beside;
    if (setjmp(p->out))
        return refine_fail(err, p->status, "%s: cannot decode the JPEG: %s", name, p->text);
    read_jpeg_header(p, data, len);
    const bool cmyk = j->jpeg_color_space == JCS_CMYK || j->jpeg_color_space == JCS_YCCK;
    j->out_color_space = cmyk ? JCS_CMYK : JCS_RGB;
    TRY(metadata_turn_bytes(&beside, &p->meta, coder_bytes(j), j->image_width, j->image_height,
                            name, err));
    TRY(image_alloc(&p->im, j->image_width, j->image_height, beside, how, name, err));
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

/* NULL: out of memory. */
static jpeg_in *make_jpeg_in(void)
{
    jpeg_in *p = mem_calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->j.err = jpeg_std_error(&p->error);
    p->j.client_data = p;
    p->error.error_exit = on_jpeg_error;
    p->error.emit_message = on_message;
    return p;
}

refine_status image_decode_jpeg(image *out, image_reading *how, const uint8_t *data, size_t len,
                                const char *name, refine_error *err)
{
    jpeg_in *p = make_jpeg_in();
    if (!p)
        return refine_fail(err, REFINE_ENOMEM, "%s: out of memory", name);
    p->meta.most = METADATA_MAX;
    refine_status st = read_jpeg(p, how, data, len, name, err);
    jpeg_destroy_decompress(&p->j);
    if (st == REFINE_OK)
        st = image_turn_upright(&p->im, &p->meta, how, name, err);
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

/* ---- texts ---- */

static bool read_jpeg_metadata(jpeg_in *p, const uint8_t *data, size_t len)
{
    if (setjmp(p->out))
        return false;
    read_jpeg_header(p, data, len);
    return true;
}

static bool has_end_marker(FILE *f)
{
    uint8_t end[2];
    return fseek(f, -(long)sizeof end, SEEK_END) == 0 &&
           fread(end, 1, sizeof end, f) == sizeof end && end[0] == 0xff && end[1] == JPEG_EOI;
}

/* Of a damaged one, in what could be read. */
static bool has_jpeg_texts(FILE *file, const image_text *text, int n_text, bool damaged)
{
    enum { HEAD = 1 << 17 }; /* the comment's segment and the tables */
    jpeg_in *p = make_jpeg_in();
    uint8_t *head = mem_alloc(HEAD);
    bool has = false;

    if (p && head) {
        p->meta.most = METADATA_MAX;
        has = (read_jpeg_metadata(p, head, fread(head, 1, HEAD, file)) || damaged) &&
              comment_has(&p->meta, text, n_text);
        jpeg_destroy_decompress(&p->j);
        metadata_free(&p->meta);
    }
    mem_free(head);
    mem_free(p);
    return has;
}

bool image_jpeg_has(FILE *file, const image_text *text, int n_text)
{
    return has_jpeg_texts(file, text, n_text, false) && has_end_marker(file);
}

bool image_jpeg_has_key(FILE *file, const char *key)
{
    return has_jpeg_texts(file, &(image_text){ key, NULL }, 1, true);
}

/* ---- writing ---- */

/* What a long jump would leak is the caller's or libjpeg's. */
typedef struct jpeg_out {
    struct jpeg_compress_struct j;
    struct jpeg_error_mgr error;
    struct jpeg_destination_mgr sink;
    jmp_buf out;
    char text[JMSG_LENGTH_MAX];
    bool out_of_memory;
    image_bytes *bytes;
} jpeg_out;

static void on_encoding_error(j_common_ptr j)
{
    jpeg_out *p = (jpeg_out *)j->client_data;
    j->err->format_message(j, p->text);
    p->out_of_memory = p->out_of_memory || j->err->msg_code == JERR_OUT_OF_MEMORY;
    longjmp(p->out, 1);
}

/* libjpeg writes into the room behind what there is. */
static void offer_room(j_compress_ptr j)
{
    enum { LEAST = 1 << 16 };
    jpeg_out *p = j->client_data;
    if (!image_bytes_reserve(p->bytes, LEAST)) {
        p->out_of_memory = true;
        ERREXIT(j, JERR_OUT_OF_MEMORY);
    }
    p->sink.next_output_byte = p->bytes->data + p->bytes->len;
    p->sink.free_in_buffer = p->bytes->room - p->bytes->len;
}

/* Is called when the room is full, whatever free_in_buffer says. */
static boolean take_full_room(j_compress_ptr j)
{
    jpeg_out *p = j->client_data;
    p->bytes->len = p->bytes->room;
    offer_room(j);
    return TRUE;
}

static void take_last_room(j_compress_ptr j)
{
    jpeg_out *p = j->client_data;
    p->bytes->len = p->bytes->room - p->sink.free_in_buffer;
}

/* Quality 95, every component at full size. */
static void set_jpeg_parameters(j_compress_ptr j, const image *im)
{
    j->image_width = (JDIMENSION)im->width;
    j->image_height = (JDIMENSION)im->height;
    j->input_components = 3;
    j->in_color_space = JCS_RGB;
    jpeg_set_defaults(j);
    jpeg_set_quality(j, 95, TRUE);
    j->comp_info[0].h_samp_factor = j->comp_info[0].v_samp_factor = 1;
}

static refine_status encode_jpeg_image(jpeg_out *p, const image *im, const uint8_t *exif,
                                       size_t exif_len, const char *name, refine_error *err)
{
    j_compress_ptr j = &p->j;
    if (setjmp(p->out)) {
        if (p->out_of_memory)
            return refine_fail(err, REFINE_ENOMEM, "%s: out of memory", name);
        return refine_fail(err, REFINE_EFORMAT, "%s: cannot encode the JPEG: %s", name, p->text);
    }
    jpeg_create_compress(j);
    j->client_data = p;
    p->sink.init_destination = offer_room;
    p->sink.empty_output_buffer = take_full_room;
    p->sink.term_destination = take_last_room;
    j->dest = &p->sink;
    set_jpeg_parameters(j, im);
    jpeg_start_compress(j, TRUE);
    if (exif)
        jpeg_write_marker(j, JPEG_APP0 + 1, exif, (unsigned)exif_len);
    while (j->next_scanline < j->image_height) {
        JSAMPROW row = im->rgb + (size_t)j->next_scanline * (size_t)im->width * 3;
        (void)jpeg_write_scanlines(j, &row, 1);
    }
    jpeg_finish_compress(j);
    return REFINE_OK;
}

refine_status image_encode_jpeg(image_bytes *out, const image *im, const image_text *text,
                                int n_text, const char *name, refine_error *err)
{
    size_t exif_len = 0;
    uint8_t *exif = NULL;
    const bool described = comment_encode(&exif, &exif_len, text, n_text);
    jpeg_out *p = mem_calloc(1, sizeof *p);
    refine_status st = REFINE_ENOMEM;

    if (p && described) {
        p->bytes = out;
        p->j.err = jpeg_std_error(&p->error);
        p->j.client_data = p;
        p->error.error_exit = on_encoding_error;
        st = encode_jpeg_image(p, im, exif, exif_len, name, err);
        jpeg_destroy_compress(&p->j);
    } else {
        refine_fail(err, REFINE_ENOMEM, "%s: out of memory", name);
    }
    mem_free(exif);
    mem_free(p);
    return st;
}
