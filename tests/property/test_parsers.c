/* tests/property/test_parsers.c -- files that are almost right.
 *
 * libFuzzer (tests/fuzz) finds its way by bytes.  Here files are made by their grammar, so that all
 * of what stands around a fault is right: each is drawn with lawful and unlawful values in the
 * places where a value stands, and given to the same checks as the fuzzer's.  These end the process
 * when a promise is broken: a file is taken or refused with a line, and nothing is left behind.
 */
#include "engine/base/mem.h"
#include "kernels/tensor.h"
#include "offload/pack.h"
#include "tests/fuzz/targets.h"
#include "tests/property/property.h"
#include "tests/support/pack_fixture.h"
#include "tests/support/temp_file.h"
#include "tools/batch/manifest.h"
#include "tools/files/latents_io.h"
#include "tools/files/safetensors.h"
#include "tools/image/image_codec.h"

#include <stdarg.h>
#include <unistd.h>
#include <zlib.h>

/* ---- what is written ---- */

enum { MOST_BYTES = 1 << 18 };

typedef struct page {
    size_t n;
    uint8_t byte[MOST_BYTES];
} page;

static page file; /* of the case, */
static bool odd;  /* of which something is unlawful, or may be */

static void begin_file(void)
{
    file.n = 0;
    odd = false;
}

/* What is lawful must be taken. */
static void check_parse_status(draws *d, refine_status st, const refine_error *err)
{
    if (st != REFINE_OK && !odd)
        fail_case(d, "is refused with %d: %s", st, err->text);
}

static void page_append_bytes(page *p, const void *bytes, size_t n)
{
    cr_assert(n <= MOST_BYTES - p->n);
    memcpy(p->byte + p->n, bytes, n);
    p->n += n;
}

static void page_append_format(page *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void page_append_format(page *p, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    const int n = vsnprintf((char *)p->byte + p->n, MOST_BYTES - p->n, fmt, args);
    va_end(args);
    cr_assert(n >= 0 && (size_t)n < MOST_BYTES - p->n);
    p->n += (size_t)n;
}

static void page_append_number(page *p, uint64_t v, int bytes, bool big)
{
    for (int i = 0; i < bytes; i++) {
        const uint8_t b = (uint8_t)(v >> 8 * (big ? bytes - 1 - i : i));
        page_append_bytes(p, &b, 1);
    }
}

/* A number as it should be, or one that is not. */
static uint64_t draw_number(draws *d, uint64_t right)
{
    static const uint64_t ODD[] = { 0,          1,          7,          255,        4096,
                                    65535,      1u << 20,   0x7fffffff, 0x80000000, 0xffffffff,
                                    1ull << 32, 1ull << 53, INT64_MAX,  UINT64_MAX };
    const int how = draw_once_in(d, 12) ? draw_integer(d, 1, 3) : 0;
    odd |= how != 0;
    switch (how) {
    case 1: return ODD[draw_below(d, sizeof ODD / sizeof ODD[0])];
    case 2: return right + 1;
    case 3: return right - 1;
    default: return right;
    }
}

/* ---- JSON ---- */

static void draw_string(draws *d, page *p)
{
    static const char *const PARTS[] = { "a",        "_b",      "/",       "..",
                                         "\\n",      "\\u0000", "\\ud83d", "\\ude00",
                                         "\xc3\xa9", "\xff",    "\\\"",    "%s" };
    page_append_format(p, "\"");
    for (int n = draw_integer(d, 0, 6); n > 0; n--)
        page_append_format(p, "%s", PARTS[draw_below(d, 12)]);
    page_append_format(p, "\"");
}

static void draw_value(draws *d, page *p, int depth)
{
    static const char *const SCALARS[] = { "null",       "true",
                                           "0",          "-1",
                                           "3.5",        "1e400",
                                           "2",          "1e-9",
                                           "4294967296", "18446744073709551616",
                                           "-0",         "9007199254740993" };
    const int kind = draw_integer(d, 0, depth > 0 ? 3 : 1);
    if (kind == 0)
        page_append_format(p, "%s", SCALARS[draw_below(d, 12)]);
    else if (kind == 1)
        draw_string(d, p);
    else
        for (int n = draw_integer(d, 0, 3), i = 0; i <= n; i++) {
            page_append_format(p, "%s", i == 0 ? (kind == 2 ? "[" : "{") : i < n ? "," : "");
            if (i < n && kind == 3) {
                draw_string(d, p);
                page_append_format(p, ":");
            }
            if (i < n)
                draw_value(d, p, depth - 1);
            else
                page_append_format(p, "%s", kind == 2 ? "]" : "}");
        }
}

/* The value that belongs there, or any. */
static void draw_member(draws *d, page *p, const char *key, const char *right)
{
    page_append_format(p, "\"%s\":", key);
    if (draw_once_in(d, 10)) {
        odd = true;
        draw_value(d, p, 2);
    } else {
        page_append_format(p, "%s", right);
    }
}

/* ---- packs ---- */

/* A word of the index: of the superblock, or a record. */
static uint32_t *draw_word(draws *d, pack_fixture *f)
{
    const pack_superblock *s = fixture_super(f);
    uint32_t *const at[] = { (uint32_t *)fixture_super(f) + 2, (uint32_t *)fixture_tensors(f),
                             (uint32_t *)fixture_chunks(f), (uint32_t *)fixture_frames(f) };
    const size_t words[] = { 26, s->n_tensors * sizeof(pack_tensor) / 4,
                             s->n_chunks * sizeof(pack_chunk) / 4,
                             s->n_frames * sizeof(pack_frame) / 4 };
    const int which = draw_below(d, 4);
    return at[which] + draw_below(d, (int)words[which]);
}

static void draw_fixture(draws *d, pack_fixture *f)
{
    static const char *const NAMES[] = { "a", "b", "c", "d", "e", "f" };
    static const int SEGMENTS[] = { 0, 1, 4, 4, 5, 6 };
    fixture_tensor t[6];
    const int n = draw_integer(d, 1, 6);
    for (int i = 0; i < n; i++)
        t[i] = (fixture_tensor){ NAMES[i],
                                 SEGMENTS[i],
                                 SEGMENTS[i] == 0 ? DT_F32 : DT_F16,
                                 draw_scale(d, 1, 300),
                                 1,
                                 1,
                                 draw_scale(d, 1, 90),
                                 128 };
    pack_fixture_make(f, t, n, (fixture_codec)draw_below(d, FIXTURE_MIXED + 1), "a b\n");
}

static void expect_opens(draws *d, pack_fixture *f)
{
    pack *p;
    refine_error err = { 0 };
    pack_fixture_write(f);
    if (pack_open(&p, f->path, &err) != REFINE_OK)
        fail_case(d, "a good pack is refused: %s", err.text);
    pack_close(p);
}

Property(any_pack_opens_or_says_why)
{
    pack_fixture f;
    uint32_t *word[3];
    draw_fixture(d, &f);
    const int changes = draw_integer(d, 0, 3);
    describe_case(d, "a pack of %d chunks, %d words of it changed", f.n_chunks, changes);
    if (changes == 0)
        expect_opens(d, &f);
    for (int i = 0; i < changes; i++)
        word[i] = draw_word(d, &f); /* before any changes, which would mislead the search */
    for (int i = 0; i < changes; i++)
        *word[i] = (uint32_t)draw_number(d, *word[i] + (uint64_t)draw_scale(d, 1, 1 << 30));
    (void)fuzz_pack(f.file, f.bytes);
    pack_fixture_free(&f);
}

/* ---- checkpoints ---- */

static void draw_safetensor(draws *d, page *p, int i, uint64_t *at)
{
    static const char *const TYPES[] = { "\"F16\"", "\"F32\"",     "\"BF16\"",
                                         "\"I64\"", "\"F8_E4M3\"", "\"F64\"" };
    static const int BYTES[] = { 2, 4, 2, 8, 1, 8 };
    const int type = draw_below(d, 6), b = draw_scale(d, 1, 40);
    const int a = draw_once_in(d, 8) ? 0 : draw_scale(d, 1, 40);
    const uint64_t bytes = (uint64_t)a * (uint64_t)b * (uint64_t)BYTES[type];
    const uint64_t from = bytes ? *at
                                : (uint64_t)draw_integer(d, 0, (int)*at); /* empty: anywhere */
    char shape[64], range[64];
    (void)snprintf(shape, sizeof shape, "[%llu,%llu]",
                   (unsigned long long)draw_number(d, (uint64_t)a),
                   (unsigned long long)draw_number(d, (uint64_t)b));
    (void)snprintf(range, sizeof range, "[%llu,%llu]", (unsigned long long)draw_number(d, from),
                   (unsigned long long)draw_number(d, from + bytes));
    *at += bytes;
    const int name = draw_once_in(d, 20) ? 0 : i;
    odd |= name != i;
    page_append_format(p, "%s\"model.diffusion_model.t%d\":{", i > 0 ? "," : "", name);
    draw_member(d, p, "dtype", TYPES[type]);
    page_append_format(p, ",");
    draw_member(d, p, "shape", shape);
    page_append_format(p, ",");
    draw_member(d, p, "data_offsets", range);
    page_append_format(p, "}");
}

static void expect_checkpoint(draws *d, int n)
{
    char path[TEMP_NAME];
    safetensors *f;
    refine_error err = { 0 };
    temp_file(path, ".safetensors");
    temp_write(path, file.byte, file.n);
    check_parse_status(d, safetensors_open(&f, path, &err), &err);
    if (!is_wrong(d) && f->n != n)
        fail_case(d, "%d tensors of %d", f->n, n);
    safetensors_close(f);
    (void)unlink(path);
}

Property(any_checkpoint_opens_or_says_why)
{
    static page head;
    uint64_t at = 0;
    head.n = 0;
    begin_file();
    const int n = draw_integer(d, 0, 5);
    odd |= n == 0; /* what names no tensor is no checkpoint */
    page_append_format(&head, "{");
    for (int i = 0; i < n; i++)
        draw_safetensor(d, &head, i, &at);
    if (draw_once_in(d, 3)) {
        page_append_format(&head, "%s\"__metadata__\":", n > 0 ? "," : "");
        draw_value(d, &head, 2);
        odd = true;
    }
    page_append_format(&head, "}%*s", draw_integer(d, 0, 8), "");
    page_append_number(&file, draw_number(d, head.n), 8, false);
    page_append_bytes(&file, head.byte, head.n);
    for (uint64_t i = 0, end = draw_number(d, at); i < end && file.n < MOST_BYTES; i++)
        file.byte[file.n++] = (uint8_t)i;
    describe_case(d, "%.*s", (int)head.n, head.byte);
    (void)fuzz_safetensors(file.byte, file.n);
    if (!odd)
        expect_checkpoint(d, n);
}

/* ---- NumPy ---- */

static void expect_latents(draws *d, int h, int w)
{
    char path[TEMP_NAME];
    latents l;
    refine_error err = { 0 };
    temp_file(path, ".npy");
    temp_write(path, file.byte, file.n);
    check_parse_status(d, latents_load(&l, path, 1, &err), &err);
    if (!is_wrong(d) && (l.h != h || l.w != w))
        fail_case(d, "%d x %d latents, not %d x %d", l.h, l.w, h, w);
    latents_free(&l);
    (void)unlink(path);
}

Property(any_numpy_file_opens_or_says_why)
{
    static const char *const TYPES[] = { "'<f4'", "'<f2'", "'<f8'", "'>f4'", "'|u1'", "'<c8'" };
    static const char *const ORDERS[] = { "False", "True", "0", "None" };
    static page head;
    const int h = draw_scale(d, 1, 30), w = draw_scale(d, 1, 30),
              version = draw_once_in(d, 6) ? 2 : 1;
    const int type = draw_below(d, 6), rows_first = draw_below(d, 4), from = draw_once_in(d, 4);
    const int end = draw_once_in(d, 10) ? 5 : 4;
    head.n = 0;
    begin_file();
    odd |= type != 0 || rows_first != 0 || end != 4 || version != 1;
    page_append_format(&head, "{'descr': %s, 'fortran_order': %s, 'shape': (", TYPES[type],
                       ORDERS[rows_first]);
    for (int i = from; i < end; i++)
        page_append_format(
            &head, "%llu, ",
            (unsigned long long)draw_number(d, (uint64_t)(int[]){ 1, 4, h, w, 1 }[i]));
    const bool open = draw_once_in(d, 8);
    odd |= open;
    page_append_format(&head, ")%s%*s\n", open ? "" : ", }", draw_integer(d, 0, 64), "");
    page_append_bytes(&file, "\x93NUMPY", 6);
    page_append_number(&file, draw_number(d, (uint64_t)version), 1, false);
    page_append_number(&file, 0, 1, false);
    page_append_number(&file, draw_number(d, head.n), version == 1 ? 2 : 4, false);
    page_append_bytes(&file, head.byte, head.n);
    for (uint64_t i = draw_number(d, (uint64_t)(16 * h * w)); i > 0 && file.n < MOST_BYTES; i--)
        file.byte[file.n++] = (uint8_t)(i % 63);
    describe_case(d, "%.*s", (int)head.n, head.byte);
    (void)fuzz_npy(file.byte, file.n);
    if (!odd)
        expect_latents(d, h, w);
}

/* ---- PNG ---- */

static void page_append_chunk(page *p, const char *type, const page *body)
{
    const size_t from = p->n + 4;
    page_append_number(p, body->n, 4, true);
    page_append_bytes(p, type, 4);
    page_append_bytes(p, body->byte, body->n);
    page_append_number(p, crc32(0, p->byte + from, (uInt)(p->n - from)), 4, true);
}

/* EXIF as cameras write it: one directory, values in place or behind it. */
static void draw_exif(draws *d, page *p)
{
    static const int TAGS[] = { 0x112, 0x10f, 0x8769, 0x9286, 0xa002 };
    const bool big = draw_once_in(d, 2);
    const int n = draw_integer(d, 0, 5);
    p->n = 0;
    page_append_format(p, "%s", big ? "MM" : "II");
    page_append_number(p, draw_number(d, 42), 2, big);
    page_append_number(p, draw_number(d, 8), 4, big);
    page_append_number(p, draw_number(d, (uint64_t)n), 2, big);
    for (int i = 0; i < n; i++) {
        page_append_number(p, (uint64_t)TAGS[draw_below(d, 5)], 2, big);
        page_append_number(p, draw_number(d, 3), 2, big);
        page_append_number(p, draw_number(d, 1), 4, big);
        page_append_number(p, draw_number(d, (uint64_t)draw_integer(d, 0, 9)), big ? 2 : 4, big);
        if (big)
            page_append_number(p, 0, 2, big);
    }
    page_append_number(p, draw_number(d, 0), 4, big);
}

static void draw_ancillary(draws *d, page *p)
{
    static const char *const TYPES[] = { "tEXt", "eXIf", "gAMA", "tRNS", "sRGB", "cHRM",
                                         "iCCP", "pHYs", "bKGD", "IHDR", "PLTE", "IEND" };
    static page body;
    const int which = draw_below(d, 12);
    body.n = 0;
    if (which == 1)
        draw_exif(d, &body);
    else
        for (int n = draw_scale(d, 1, 40) - 1; n > 0; n--)
            page_append_number(&body, (uint64_t)draw_integer(d, 0, 255), 1, true);
    page_append_chunk(p, TYPES[which], &body);
    odd = true;
}

static int samples_of(int colour) { return (int[]){ 1, 1, 3, 1, 2, 1, 4 }[colour]; }

/* Rows of a filter byte and samples, some lacking or more than there should be. */
static void page_append_pixels(draws *d, page *p, int w, int h, int depth, int colour)
{
    static uint8_t rows[MOST_BYTES], packed[MOST_BYTES];
    static page body;
    const size_t row = 1 + ((size_t)w * (size_t)(depth * samples_of(colour)) + 7) / 8;
    size_t n = (size_t)draw_number(d, row * (size_t)h);
    uLongf bytes = sizeof packed;
    if (n > sizeof rows / 2)
        n = sizeof rows / 2;
    for (size_t i = 0; i < n; i++)
        rows[i] = i % row == 0 ? (uint8_t)draw_number(d, i / row % 5) : (uint8_t)(i * 37);
    cr_assert(compress2(packed, &bytes, rows, n, 1) == Z_OK);
    const int blocks = draw_integer(d, 1, 3);
    for (int i = 0; i < blocks; i++) {
        const size_t from = bytes * (size_t)i / (size_t)blocks,
                     to = bytes * (size_t)(i + 1) / (size_t)blocks;
        body.n = 0;
        page_append_bytes(&body, packed + from, to - from);
        page_append_chunk(p, "IDAT", &body);
    }
}

/* Of colours without a palette. */
static bool is_lawful_depth(int colour, int depth) { return depth >= 8 || colour == 0; }

static void expect_image(draws *d, int w, int h)
{
    image im = { 0 };
    image_reading how = IMAGE_READING_INIT;
    refine_error err = { 0 };
    check_parse_status(d, image_decode_png(&im, &how, file.byte, file.n, "it", &err), &err);
    if (!is_wrong(d) && (im.width != w || im.height != h))
        fail_case(d, "%d x %d pixels, not %d x %d", im.width, im.height, w, h);
    image_free(&im);
}

Property(any_png_is_read_or_refused)
{
    static const int COLOURS[] = { 2, 0, 3, 4, 6 }, DEPTHS[] = { 8, 16, 1, 2, 4 };
    static page body;
    const int w = draw_scale(d, 1, 60), h = draw_scale(d, 1, 30);
    const int colour = COLOURS[draw_below(d, 5)], depth = DEPTHS[draw_below(d, 5)];
    body.n = 0;
    begin_file();
    odd |= colour == 3 || !is_lawful_depth(colour, depth);
    page_append_bytes(&file, "\x89PNG\r\n\x1a\n", 8);
    page_append_number(&body, draw_number(d, (uint64_t)w), 4, true);
    page_append_number(&body, draw_number(d, (uint64_t)h), 4, true);
    page_append_number(&body, draw_number(d, (uint64_t)depth), 1, true);
    page_append_number(&body, draw_number(d, (uint64_t)colour), 1, true);
    page_append_number(&body, draw_number(d, 0), 2, true);
    const int interlaced = draw_integer(d, 0, 1); /* and its rows are not */
    odd |= interlaced != 0;
    page_append_number(&body, draw_number(d, (uint64_t)interlaced), 1, true);
    page_append_chunk(&file, "IHDR", &body);
    for (int n = draw_integer(d, 0, 3); n > 0; n--)
        draw_ancillary(d, &file);
    if (colour == 3) {
        body.n = 0;
        for (int n = 3 * draw_scale(d, 1, 256); n > 0; n--)
            page_append_number(&body, (uint64_t)n, 1, true);
        page_append_chunk(&file, "PLTE", &body);
    }
    page_append_pixels(d, &file, w, h, depth, colour);
    for (int n = draw_integer(d, 0, 2); n > 0; n--)
        draw_ancillary(d, &file);
    body.n = 0;
    if (draw_once_in(d, 8))
        odd = true;
    else
        page_append_chunk(&file, "IEND", &body);
    describe_case(d, "%dx%d, colour type %d of %d bits, %zu bytes", w, h, colour, depth, file.n);
    (void)fuzz_png(file.byte, file.n);
    if (!odd)
        expect_image(d, w, h);
}

/* ---- JPEG ---- */

/* A good one, segments put in behind its first marker. */
Property(any_jpeg_is_read_or_refused)
{
    static page body;
    static uint8_t good[MOST_BYTES];
    FILE *f = fopen("tests/fuzz/corpora/jpeg/rgb444.jpg", "rb");
    cr_assert(f, "no example");
    const size_t n_good = fread(good, 1, sizeof good, f);
    (void)fclose(f);
    begin_file();
    page_append_bytes(&file, good, 2);
    const int n = draw_integer(d, 0, 4);
    for (int i = 0; i < n; i++) {
        static const int MARKERS[] = { 0xe1, 0xe0, 0xee, 0xfe, 0xe2, 0xdb, 0xdd };
        const int marker = MARKERS[draw_below(d, 7)];
        body.n = 0;
        if (marker == 0xe1 && draw_once_in(d, 2)) {
            static page exif;
            draw_exif(d, &exif);
            page_append_bytes(&body, "Exif\0", 6);
            page_append_bytes(&body, exif.byte, exif.n);
        } else {
            for (int k = draw_scale(d, 1, 80) - 1; k > 0; k--)
                page_append_number(&body, (uint64_t)draw_integer(d, 0, 255), 1, true);
        }
        page_append_number(&file, 0xff00u | (unsigned)marker, 2, true);
        page_append_number(&file, draw_number(d, body.n + 2), 2, true);
        page_append_bytes(&file, body.byte, body.n);
    }
    page_append_bytes(&file, good + 2,
                      n_good - 2 -
                          (size_t)draw_integer(d, 0, draw_once_in(d, 4) ? (int)n_good / 2 : 0));
    describe_case(d, "%d segments before those of a good one, %zu bytes", n, file.n);
    (void)fuzz_jpeg(file.byte, file.n);
}

/* ---- manifests ---- */

static void draw_line(draws *d, page *p)
{
    enum { N_KEYS = 12, INPUT = 0, HEIGHT = 8, WIDTH = 10, OTHER = N_KEYS - 1 };
    static const char *const KEYS[N_KEYS] = { "input",  "output",   "prompt",   "negative",
                                              "seed",   "steps",    "strength", "guidance",
                                              "height", "prompt_2", "width",    "other" };
    static const char *const RIGHT[N_KEYS] = { "\"b.png\"", "\"o.png\"", "\"a cat\"", "\"\"",
                                               "7",         "20",        "0.4",       "5",
                                               "64",        "\"b\"",     "128",       "1" };
    const int n = draw_integer(d, 0, 4);
    bool has[N_KEYS] = { [INPUT] = true };
    page_append_format(p, "{");
    draw_member(d, p, "input", "\"a.png\"");
    for (int i = 0; i < n; i++) {
        const int key = draw_below(d, N_KEYS);
        odd |= has[key] || key == OTHER;
        has[key] = true;
        page_append_format(p, ",");
        draw_member(d, p, KEYS[key], RIGHT[key]);
    }
    const bool open = draw_once_in(d, 12);
    odd |= open || has[HEIGHT] != has[WIDTH];
    page_append_format(p, "%s%s", open ? "" : "}", draw_once_in(d, 3) ? "\r\n" : "\n");
}

Property(any_manifest_is_read_or_refused)
{
    char path[TEMP_NAME];
    work_list l = { 0 };
    refine_error err = { 0 };
    const int n = draw_integer(d, 0, 5);
    begin_file();
    odd |= n == 0;
    if (draw_once_in(d, 6)) {
        page_append_format(&file, "\xef\xbb\xbf");
        odd = true;
    }
    for (int i = 0; i < n; i++) {
        draw_line(d, &file);
        if (draw_once_in(d, 6))
            page_append_format(&file, "\n");
    }
    describe_case(d, "%.*s", (int)file.n, file.byte);
    temp_file(path, ".jsonl");
    temp_write(path, file.byte, file.n);
    const refine_status st = manifest_read(&l, path, &err);
    (void)unlink(path);
    check_parse_status(d, st, &err);
    for (int i = 0; st == REFINE_OK && i < l.n; i++)
        if (l.item[i].input && !l.item[i].input[0]) /* none: from text, where it was null */
            fail_case(d, "item %d has an input of no name", i);
    if (st == REFINE_OK ? l.n != n : st != REFINE_EFORMAT || !err.text[0])
        fail_case(d, "%d items of %d lines, status %d: %s", l.n, n, st, err.text);
    work_list_free(&l);
    if (mem_used().now != 0)
        fail_case(d, "%llu bytes are left", (unsigned long long)mem_used().now);
}

/* ---- traces ---- */

Property(any_trace_is_read_or_refused)
{
    static const char *const PHASES[] = { "\"X\"", "\"C\"", "\"M\"", "\"B\"", "\"i\"" };
    begin_file();
    const int n = draw_integer(d, 0, 12);
    page_append_format(&file, "{\"traceEvents\":[");
    for (int i = 0; i < n; i++) {
        char text[32];
        page_append_format(&file, "%s{", i > 0 ? "," : "");
        draw_member(d, &file, "ph", PHASES[draw_below(d, 5)]);
        page_append_format(&file, ",");
        (void)snprintf(text, sizeof text, "%llu",
                       (unsigned long long)draw_number(d, (uint64_t)i * 100));
        draw_member(d, &file, "ts", text);
        page_append_format(&file, ",");
        draw_member(d, &file, "dur", "50");
        page_append_format(&file, ",");
        (void)snprintf(text, sizeof text, "%d", draw_integer(d, 0, 9));
        draw_member(d, &file, "tid", text);
        page_append_format(&file, ",\"pid\":1,");
        draw_member(d, &file, "name", "\"unet.a\"");
        page_append_format(&file, ",");
        draw_member(d, &file, "args", "{\"chunk\":1,\"bytes\":5}");
        page_append_format(&file, "}");
    }
    page_append_format(&file, "],");
    draw_member(d, &file, "otherData", "{}");
    page_append_format(&file, "}");
    describe_case(d, "%.*s", (int)(file.n < 900 ? file.n : 900), file.byte);
    (void)fuzz_trace(file.byte, file.n);
}

/* ---- prompts ---- */

Property(any_prompt_is_read)
{
    static const char *const PARTS[] = { "a ",
                                         "(cat:1.2)",
                                         "\xf0\x9f\x98\x80",
                                         "\xcc\x81",
                                         "\xe2\x80\x8d",
                                         "!",
                                         "\xff",
                                         "\xe0\xa4\x95",
                                         "'s",
                                         "<|endoftext|>",
                                         "\xef\xbb\xbf",
                                         "1234567890",
                                         "\xc4\xb0",
                                         "\xed\xa0\x80" };
    begin_file();
    page_append_number(&file, (uint64_t)draw_integer(d, 0, 2), 1, false);
    const int n = draw_scale(d, 1, 300) - 1;
    for (int i = 0; i < n; i++)
        page_append_format(&file, "%s", PARTS[draw_below(d, 14)]);
    describe_case(d, "%.*s", (int)(file.n < 900 ? file.n : 900) - 1, file.byte + 1);
    (void)fuzz_tokenizer(file.byte, file.n);
}
