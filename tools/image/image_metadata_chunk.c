/* tools/image/image_metadata_chunk.c -- metadata that a PNG carries in chunks.
 *
 *     eXIf   EXIF as it is, which counts before that of a text
 *     tEXt   key 0 text
 *     zTXt   key 0 0 deflated text
 *     iTXt   key 0 deflated? 0 language 0 translated key 0 text
 *
 * Two keys of texts matter: XMP as it is, and EXIF as ImageMagick and others write it, a line feed,
 * "exif", its length and then its bytes in hexadecimal, on lines of their own.
 */
#include "engine/base/mem.h"
#include "engine/base/num.h"
#include "tools/image/image_codec.h"

#include <string.h>
#include <zlib.h>

static const char XMP_KEY[] = "XML:com.adobe.xmp", EXIF_KEY[] = "Raw profile type exif";

enum { PROFILE_LINES = 3 }; /* before the bytes */

typedef struct text_span {
    const uint8_t *p;
    size_t len;
} text_span;

/* Takes what lies before the next zero off the front; false: there is none. */
static bool take_until_zero(text_span *rest, text_span *word)
{
    const uint8_t *zero = rest->len ? memchr(rest->p, 0, rest->len) : NULL;
    if (!zero)
        return false;
    *word = (text_span){ rest->p, (size_t)(zero - rest->p) };
    rest->len -= word->len + 1;
    rest->p = zero + 1;
    return true;
}

static bool is_key(text_span word, const char *key)
{
    return word.len == strlen(key) && memcmp(word.p, key, word.len) == 0;
}

/* Skips what stands between the key and the text. */
static bool skip_text_head(text_span *rest, const uint8_t type[4], bool *deflated)
{
    text_span word;
    *deflated = type[0] == 'z';
    if (type[0] == 't')
        return true;
    const size_t head = *deflated ? 1 : 2;
    if (rest->len < head)
        return false;
    *deflated = *deflated || rest->p[0] != 0;
    rest->p += head;
    rest->len -= head;
    return type[0] == 'z' || (take_until_zero(rest, &word) && take_until_zero(rest, &word));
}

/* The text, the caller's to mem_free; NULL: damaged, longer than m->most, or no memory. */
static uint8_t *inflate_text(image_metadata *m, text_span from, size_t *len)
{
    z_stream z = { .next_in = (Bytef *)(uintptr_t)from.p, .avail_in = (uInt)from.len };
    uint8_t *out = NULL;
    size_t room = num_min(4096 + 4 * from.len, m->most);
    int status = inflateInit(&z);

    m->out_of_memory = m->out_of_memory || status == Z_MEM_ERROR;
    while (status == Z_OK) {
        uint8_t *more = mem_realloc(out, room);
        if (!more) {
            m->out_of_memory = true;
            break;
        }
        out = more;
        z.next_out = out + z.total_out;
        z.avail_out = (uInt)(room - z.total_out);
        status = inflate(&z, Z_NO_FLUSH);
        if (status == Z_OK && (z.avail_out > 0 || room == m->most))
            break;
        room = num_min(2 * room, m->most);
    }
    *len = z.total_out;
    (void)inflateEnd(&z);
    if (status == Z_STREAM_END)
        return out;
    mem_free(out);
    return NULL;
}

static int hex_value(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
}

/* Reads hexadecimal over itself: two digits become one byte in front of them. */
static void set_exif_profile(image_metadata *m, uint8_t *text, size_t len)
{
    size_t n = 0, at = 0;
    int high = -1;
    for (int lines = 0; lines < PROFILE_LINES && at < len; at++)
        lines += text[at] == '\n';
    for (; at < len; at++) {
        const int v = hex_value(text[at]);
        if (v < 0)
            continue;
        if (high >= 0)
            text[n++] = (uint8_t)(high << 4 | v);
        high = high < 0 ? v : -1;
    }
    const size_t head = n >= 6 && memcmp(text, "Exif\0", 6) == 0 ? 6 : 0;
    if (!m->from_chunk)
        metadata_set_exif(m, text + head, n - head);
}

static void set_text(image_metadata *m, text_span key, uint8_t *text, size_t len)
{
    if (is_key(key, XMP_KEY))
        metadata_set_xmp(m, text, len);
    else
        set_exif_profile(m, text, len);
}

static void read_text_chunk(image_metadata *m, const uint8_t type[4], const uint8_t *data,
                            size_t len)
{
    text_span rest = { data, len }, key;
    bool deflated;
    if (!take_until_zero(&rest, &key) || !(is_key(key, XMP_KEY) || is_key(key, EXIF_KEY)) ||
        !skip_text_head(&rest, type, &deflated))
        return;
    if (!deflated && rest.len > m->most)
        return;
    uint8_t *text = deflated ? inflate_text(m, rest, &len) : mem_alloc(rest.len + 1);
    if (!text) {
        m->out_of_memory = m->out_of_memory || !deflated;
        return;
    }
    if (!deflated) {
        memcpy(text, rest.p, rest.len);
        len = rest.len;
    }
    set_text(m, key, text, len);
    mem_free(text);
}

void metadata_read_chunk(image_metadata *m, const uint8_t type[4], const uint8_t *data, size_t len)
{
    if (memcmp(type, "eXIf", 4) != 0) {
        read_text_chunk(m, type, data, len);
        return;
    }
    metadata_set_exif(m, data, len);
    m->from_chunk = true;
}
