/* tools/image/image_comment.c -- texts as the one comment of a JPEG, EXIF's UserComment.
 *
 *     the prompt
 *     Negative prompt: the negative prompt              (left out where that is empty)
 *     Steps: 50, Seed: 7, ..., key: value, key: "a value, in JSON"
 *
 * This is the layout that AUTOMATIC1111's web UI made common, with its names for what it has a name
 * for.  The text is ASCII where that will do, else UTF-16 with the high byte first.
 *
 * Invariants:
 *  1. Texts that were written are read back as they were: a prompt of several lines, or one that
 *     could be taken for the next line, goes to the last line, in JSON.
 *  2. A prompt that is empty and one that is not there are the same.
 */
#include "engine/base/mem.h"
#include "tools/image/image_codec.h"

#include <jansson.h>
#include <libexif/exif-data.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

enum { CODE = 8, SEGMENT_MAX = 65533, FOUND_MAX = 64 };

static const char ASCII_CODE[CODE + 1] = "ASCII\0\0", UNICODE_CODE[CODE + 1] = "UNICODE";
static const char PROMPT[] = "prompt", NEGATIVE[] = "negative_prompt";
static const char NEGATIVE_LINE[] = "Negative prompt: ";

static const struct {
    const char *key, *name;
} NAMES[] = {
    { "steps", "Steps" }, { "scheduler", "Sampler" },           { "guidance", "CFG scale" },
    { "seed", "Seed" },   { "strength", "Denoising strength" },
};

enum { N_NAMES = sizeof NAMES / sizeof NAMES[0] };

/* ---- writing ---- */

static bool append_comment(image_bytes *b, const void *p, size_t n)
{
    if (!image_bytes_reserve(b, n))
        return false;
    memcpy(b->data + b->len, p, n);
    b->len += n;
    return true;
}

static bool append_comment_text(image_bytes *b, const char *s)
{
    return append_comment(b, s, strlen(s));
}

/* Whether a prompt can have a line of its own. (1) */
static bool fits_line(const char *s)
{
    return !strchr(s, '\n') && strncmp(s, NEGATIVE_LINE, sizeof NEGATIVE_LINE - 1) != 0;
}

static const char *comment_text_of(const image_text *text, int n, const char *key)
{
    for (int i = 0; i < n; i++)
        if (strcmp(text[i].key, key) == 0)
            return text[i].value;
    return "";
}

static bool append_comment_value(image_bytes *b, const char *value)
{
    if (*value && !strpbrk(value, ",:\"\\\n") && *value != ' ' && value[strlen(value) - 1] != ' ')
        return append_comment_text(b, value);
    json_t *string = json_string(value);
    char *quoted = string ? json_dumps(string, JSON_ENCODE_ANY) : NULL;
    const bool done = quoted && append_comment_text(b, quoted);
    free(quoted);
    json_decref(string);
    return done;
}

static const char *shown_name(const char *key)
{
    for (int i = 0; i < N_NAMES; i++)
        if (strcmp(NAMES[i].key, key) == 0)
            return NAMES[i].name;
    return key;
}

static bool append_comment_line(image_bytes *b, const image_text *text, int n)
{
    const char *separator = "";
    for (int i = 0; i < n; i++) {
        const bool is_prompt = strcmp(text[i].key, PROMPT) == 0;
        if ((is_prompt || strcmp(text[i].key, NEGATIVE) == 0) && fits_line(text[i].value))
            continue;
        if (!append_comment_text(b, separator) ||
            !append_comment_text(b, shown_name(text[i].key)) || !append_comment_text(b, ": ") ||
            !append_comment_value(b, text[i].value))
            return false;
        separator = ", ";
    }
    return append_comment(b, "", 1);
}

static bool write_comment(image_bytes *b, const image_text *text, int n)
{
    const char *prompt = comment_text_of(text, n, PROMPT),
               *negative = comment_text_of(text, n, NEGATIVE);
    if (!append_comment_text(b, fits_line(prompt) ? prompt : "") || !append_comment(b, "\n", 1))
        return false;
    if (*negative && fits_line(negative) &&
        !(append_comment_text(b, NEGATIVE_LINE) && append_comment_text(b, negative) &&
          append_comment(b, "\n", 1)))
        return false;
    return append_comment_line(b, text, n);
}

static bool append_utf16(image_bytes *b, utf8proc_int32_t c)
{
    const unsigned v = (unsigned)c, w = v - 0x10000;
    const unsigned unit[2] = { v < 0x10000 ? v : 0xd800 | w >> 10, 0xdc00 | (w & 0x3ff) };
    for (int i = 0; i < (v < 0x10000 ? 1 : 2); i++) {
        const uint8_t byte[2] = { (uint8_t)(unit[i] >> 8), (uint8_t)unit[i] };
        if (!append_comment(b, byte, sizeof byte))
            return false;
    }
    return true;
}

/* What is no UTF-8 becomes U+FFFD. */
static bool write_user_comment(image_bytes *b, const char *s)
{
    if (image_text_is_ascii(s))
        return append_comment(b, ASCII_CODE, CODE) && append_comment_text(b, s);
    if (!append_comment(b, UNICODE_CODE, CODE))
        return false;
    while (*s) {
        utf8proc_int32_t c;
        const utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)s, -1, &c);
        if (!append_utf16(b, n > 0 ? c : 0xfffd))
            return false;
        s += n > 0 ? n : 1;
    }
    return true;
}

/* The content is libexif's; d is left to be unreferenced. */
static bool add_comment_entry(ExifData *d, const image_bytes *b)
{
    ExifMem *memory = exif_mem_new_default();
    ExifEntry *e = memory ? exif_entry_new_mem(memory) : NULL;
    if (e) {
        exif_content_add_entry(d->ifd[EXIF_IFD_EXIF], e);
        e->tag = EXIF_TAG_USER_COMMENT;
        e->format = EXIF_FORMAT_UNDEFINED;
        e->data = exif_mem_alloc(memory, (ExifLong)b->len);
        e->size = e->data ? (unsigned)b->len : 0;
        e->components = e->size;
        if (e->data)
            memcpy(e->data, b->data, b->len);
    }
    const bool added = e && e->data;
    exif_entry_unref(e);
    exif_mem_unref(memory);
    return added;
}

/* libexif's own memory becomes ours, which is counted. */
static bool save_exif(uint8_t **out, size_t *len, const image_bytes *comment)
{
    ExifData *d = exif_data_new();
    unsigned char *made = NULL;
    unsigned n = 0;
    bool done = false;
    if (d)
        exif_data_set_byte_order(d, EXIF_BYTE_ORDER_MOTOROLA);
    if (d && add_comment_entry(d, comment))
        exif_data_save_data(d, &made, &n);
    exif_data_unref(d);
    if (made && n <= SEGMENT_MAX)
        *out = mem_alloc(n);
    if (*out)
        memcpy(*out, made, n);
    done = *out || n > SEGMENT_MAX;
    *len = *out ? n : 0;
    free(made);
    return done;
}

bool comment_encode(uint8_t **out, size_t *len, const image_text *text, int n_text)
{
    image_bytes line = { 0 }, comment = { 0 };
    *out = NULL;
    *len = 0;
    if (n_text == 0)
        return true;
    bool done = write_comment(&line, text, n_text) &&
                write_user_comment(&comment, (char *)line.data);
    if (done && comment.len <= SEGMENT_MAX)
        done = save_exif(out, len, &comment);
    mem_free(line.data);
    mem_free(comment.data);
    return done;
}

/* ---- reading ---- */

/* What a comment holds.  Keys and plain values lie in `bytes`. */
typedef struct comment_texts {
    image_bytes bytes;
    image_text text[FOUND_MAX];
    json_t *quoted[FOUND_MAX]; /* what a value is part of, or NULL */
    int n;
} comment_texts;

static bool append_utf8(image_bytes *b, unsigned c)
{
    utf8proc_uint8_t out[4];
    const utf8proc_ssize_t n = utf8proc_encode_char((utf8proc_int32_t)c, out);
    return append_comment(b, out, (size_t)n);
}

static bool read_utf16(image_bytes *b, const uint8_t *p, size_t len)
{
    for (size_t i = 0; i + 1 < len; i += 2) {
        unsigned c = (unsigned)p[i] << 8 | p[i + 1];
        if (c >= 0xd800 && c < 0xdc00 && i + 3 < len && (p[i + 2] & 0xfc) == 0xdc) {
            c = 0x10000 + ((c & 0x3ff) << 10 | (p[i + 2] & 3u) << 8 | p[i + 3]);
            i += 2;
        }
        if (!append_utf8(b, c >= 0xd800 && c < 0xe000 ? 0xfffd : c))
            return false;
    }
    return true;
}

/* The comment in UTF-8 with a zero behind it; false: there is none. */
static bool read_user_comment(image_bytes *b, const image_metadata *m)
{
    ExifData *d = m->exif ? exif_data_new() : NULL;
    bool found = false;
    if (!d)
        return false;
    exif_data_unset_option(d, EXIF_DATA_OPTION_FOLLOW_SPECIFICATION); /* nothing is put right */
    exif_data_load_data(d, m->exif, (unsigned)m->exif_len);
    const ExifEntry *e = exif_content_get_entry(d->ifd[EXIF_IFD_EXIF], EXIF_TAG_USER_COMMENT);
    if (e && e->size >= CODE && memcmp(e->data, ASCII_CODE, CODE) == 0)
        found = append_comment(b, e->data + CODE, e->size - CODE);
    else if (e && e->size >= CODE && memcmp(e->data, UNICODE_CODE, CODE) == 0)
        found = read_utf16(b, e->data + CODE, e->size - CODE);
    exif_data_unref(d);
    return found && append_comment(b, "", 1);
}

static const char *key_of_name(const char *name)
{
    for (int i = 0; i < N_NAMES; i++)
        if (strcmp(NAMES[i].name, name) == 0)
            return NAMES[i].key;
    return name;
}

static bool add_found(comment_texts *t, const char *key, const char *value, json_t *quoted)
{
    if (t->n == FOUND_MAX) {
        json_decref(quoted);
        return false;
    }
    t->quoted[t->n] = quoted;
    t->text[t->n++] = (image_text){ key, value };
    return true;
}

/* "name: value, name: value", taken apart in its place. */
static bool parse_comment_line(comment_texts *t, char *p)
{
    while (*p) {
        char *value = strstr(p, ": ");
        json_error_t where;
        if (!value)
            return false;
        *value = 0;
        value += 2;
        if (*value == '"') {
            json_t *v = json_loads(value, JSON_DECODE_ANY | JSON_DISABLE_EOF_CHECK, &where);
            if (!v || !add_found(t, key_of_name(p), json_string_value(v), v))
                return false;
            p = value + where.position;
            if (*p && strncmp(p, ", ", 2) != 0)
                return false;
            p += *p ? 2 : 0;
            continue;
        }
        const char *const key = key_of_name(p);
        p = strstr(value, ", ");
        if (p) {
            *p = 0;
            p += 2;
        } else {
            p = value + strlen(value);
        }
        if (!add_found(t, key, value, NULL))
            return false;
    }
    return true;
}

/* Prompts of lines of their own come last, so that those of the last line are found before. */
static bool parse_comment(comment_texts *t, char *s)
{
    char *last = strrchr(s, '\n');
    const char *negative = "";
    if (!last)
        return false;
    *last++ = 0;
    char *second = strchr(s, '\n');
    if (second) {
        *second++ = 0;
        if (strncmp(second, NEGATIVE_LINE, sizeof NEGATIVE_LINE - 1) != 0 || strchr(second, '\n'))
            return false;
        negative = second + sizeof NEGATIVE_LINE - 1;
    }
    return parse_comment_line(t, last) && add_found(t, PROMPT, s, NULL) &&
           add_found(t, NEGATIVE, negative, NULL);
}

static const char *find_comment_text(const void *have, const char *key)
{
    const comment_texts *t = have;
    for (int i = 0; i < t->n; i++)
        if (strcmp(t->text[i].key, key) == 0)
            return t->text[i].value;
    return NULL;
}

bool comment_has(const image_metadata *m, const image_text *text, int n_text)
{
    comment_texts t = { .n = 0 };
    const bool has = read_user_comment(&t.bytes, m) && parse_comment(&t, (char *)t.bytes.data) &&
                     image_texts_match(find_comment_text, &t, text, n_text);
    for (int i = 0; i < t.n; i++)
        json_decref(t.quoted[i]);
    mem_free(t.bytes.data);
    return has;
}
