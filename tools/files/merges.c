/* tools/files/merges.c -- a CLIP merge list out of whatever file it was published in.
 *
 *     path -> file -> [gunzip] -> text lines  -> 48894 lines -> checked by tokenizer_open
 *                              -> JSON merges ->
 *
 * Everything read is bounded by FILE_BYTES_MAX, unpacked as well as packed.
 */
#define _POSIX_C_SOURCE 200809L /* stat */
#define ZLIB_CONST              /* zlib's input may be constant */
#include "tools/files/merges.h"

#include "engine/base/mem.h"
#include "engine/base/num.h"
#include "engine/base/try.h"
#include "engine/text/tokenizer.h"
#include "tools/files/file_kind.h"

#include <errno.h>
#include <jansson.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <zlib.h>

enum { FILE_BYTES_MAX = 16 << 20 };

/* ---- bytes ---- */

typedef struct buffer {
    char *at;
    size_t len, room; /* room is always > len: a final NUL fits */
} buffer;

static refine_status buffer_grow(buffer *b, size_t more, refine_error *err)
{
    if (more < b->room - b->len)
        return REFINE_OK;
    size_t room = num_max(b->room, 65536);
    while (room - b->len <= more)
        room *= 2;
    char *at = mem_realloc(b->at, room);
    if (!at)
        return refine_fail(err, REFINE_ENOMEM, "tokenizer: out of memory");
    b->at = at;
    b->room = room;
    return REFINE_OK;
}

static refine_status buffer_add(buffer *b, const char *s, size_t len, refine_error *err)
{
    TRY(buffer_grow(b, len, err));
    memcpy(b->at + b->len, s, len);
    b->len += len;
    b->at[b->len] = '\0';
    return REFINE_OK;
}

static refine_status too_big(const char *path, refine_error *err)
{
    return refine_fail(err, REFINE_EFORMAT, "%s: more than %d MiB; not a CLIP tokenizer file", path,
                       FILE_BYTES_MAX >> 20);
}

static refine_status read_file(const char *path, buffer *b, refine_error *err)
{
    enum { CHUNK = 65536 };
    refine_status st = REFINE_OK;
    FILE *f = fopen(path, "rb");
    if (!f)
        return fail_to_open(path, err);
    for (size_t got = 1; got > 0;) {
        TRY_OR(done, buffer_grow(b, CHUNK, err));
        got = fread(b->at + b->len, 1, CHUNK, f);
        b->len += got;
        if (b->len > FILE_BYTES_MAX) {
            st = too_big(path, err);
            goto done;
        }
    }
    b->at[b->len] = '\0';
    if (ferror(f))
        st = refine_fail(err, REFINE_EIO, "%s: cannot read: %s", path, strerror(errno));
done:
    (void)fclose(f);
    return st;
}

static voidpf zlib_alloc(voidpf unused, uInt count, uInt bytes)
{
    (void)unused;
    return mem_calloc(count, bytes);
}

static void zlib_free(voidpf unused, voidpf p)
{
    (void)unused;
    mem_free(p);
}

static refine_status gunzip_bytes(const char *path, const void *in, size_t len, buffer *out,
                                  refine_error *err)
{
    enum { CHUNK = 65536, GZIP_WINDOW = 15 + 16 };
    z_stream z = { .zalloc = zlib_alloc, .zfree = zlib_free };
    refine_status st = REFINE_OK;

    if (inflateInit2(&z, GZIP_WINDOW) != Z_OK)
        return refine_fail(err, REFINE_ENOMEM, "%s: cannot start zlib: out of memory", path);
    z.next_in = in;
    z.avail_in = (uInt)len;
    for (int rc = Z_OK; rc != Z_STREAM_END;) {
        TRY_OR(done, buffer_grow(out, CHUNK, err));
        z.next_out = (Bytef *)out->at + out->len;
        z.avail_out = CHUNK;
        rc = inflate(&z, Z_NO_FLUSH);
        out->len += CHUNK - z.avail_out;
        if (rc != Z_OK && rc != Z_STREAM_END) {
            st = rc == Z_MEM_ERROR ? REFINE_ENOMEM : REFINE_EFORMAT;
            st = refine_fail(err, st, "%s: %s", path,
                             st == REFINE_ENOMEM ? "out of memory" : "damaged or cut gzip file");
            goto done;
        }
        if (out->len > FILE_BYTES_MAX) {
            st = too_big(path, err);
            goto done;
        }
    }
    out->at[out->len] = '\0';
done:
    (void)inflateEnd(&z);
    return st;
}

/* ---- text ---- */

/* A list cut short would give wrong ids and no error, so a short one has to say that it
 * is meant to be. */
static const char DEMO[] = "#version: demo";

static refine_status wrong_count(const char *path, size_t count, refine_error *err)
{
    return refine_fail(err, REFINE_EFORMAT,
                       "%s: %zu merges where CLIP has %d; give the model's own tokenizer", path,
                       count, TOKENIZER_MERGES);
}

static bool is_merges_header(const char *line)
{
    return strncmp(line, "#version", 8) == 0 || strncmp(line, "\"bpe_simple_vocab", 17) == 0;
}

static refine_status from_text(const char *path, const buffer *in, buffer *out, refine_error *err)
{
    size_t count = 0;
    for (size_t at = 0; at < in->len && count < TOKENIZER_MERGES;) {
        const char *line = in->at + at;
        const char *stop = memchr(line, '\n', in->len - at);
        size_t len = stop ? (size_t)(stop - line) : in->len - at;
        at += len + (stop != NULL);
        if (len > 0 && line[len - 1] == '\r')
            len--;
        if (len == 0 || (line == in->at && is_merges_header(line)))
            continue;
        TRY(buffer_add(out, line, len, err));
        TRY(buffer_add(out, "\n", 1, err));
        count++;
    }
    const bool may_be_short = strncmp(in->at, DEMO, strlen(DEMO)) == 0;
    if (count == 0 || (count < TOKENIZER_MERGES && !may_be_short))
        return wrong_count(path, count, err);
    return REFINE_OK;
}

/* ---- JSON ---- */

/* A merge is "left right", or ["left", "right"] in newer files. */
static refine_status add_json_merge(const char *path, const json_t *merge, buffer *out,
                                    refine_error *err)
{
    const json_t *part[2] = { merge, NULL };
    if (json_array_size(merge) == 2) {
        part[0] = json_array_get(merge, 0);
        part[1] = json_array_get(merge, 1);
    }
    for (int i = 0; i < 2 && part[i]; i++) {
        const char *s = json_string_value(part[i]);
        if (!s || strchr(s, '\n'))
            return refine_fail(err, REFINE_EFORMAT,
                               "%s: a member of model.merges is neither text nor a pair", path);
        TRY(buffer_add(out, s, strlen(s), err));
        TRY(buffer_add(out, i == 0 && part[1] ? " " : "\n", 1, err));
    }
    return REFINE_OK;
}

static refine_status add_json_merges(const char *path, const json_t *merges, buffer *out,
                                     refine_error *err)
{
    const size_t count = json_array_size(merges);
    if (count != TOKENIZER_MERGES)
        return wrong_count(path, count, err);
    for (size_t i = 0; i < count; i++)
        TRY(add_json_merge(path, json_array_get(merges, i), out, err));
    return REFINE_OK;
}

/* Does the vocabulary number merge i as 512 + i? */
static refine_status check_vocabulary(const char *path, const json_t *vocab, const buffer *merges,
                                      refine_error *err)
{
    const char *line = merges->at;
    for (int i = 0; i < TOKENIZER_MERGES; i++) {
        const char *space = strchr(line, ' '), *stop = space ? strchr(space, '\n') : NULL;
        char token[256];
        if (!stop || (size_t)(stop - line) > sizeof token)
            return refine_fail(err, REFINE_EFORMAT, "%s: merge %d is not two words", path, i + 1);
        const size_t left = (size_t)(space - line), right = (size_t)(stop - space) - 1;
        memcpy(token, line, left);
        memcpy(token + left, space + 1, right);
        token[left + right] = '\0';
        const json_t *id = json_object_get(vocab, token);
        if (!json_is_integer(id) || json_integer_value(id) != TOKENIZER_SYMBOLS + i)
            return refine_fail(err, REFINE_EFORMAT,
                               "%s: token \"%s\" is not number %d; this is not CLIP's vocabulary",
                               path, token, TOKENIZER_SYMBOLS + i);
        line = stop + 1;
    }
    return REFINE_OK;
}

static refine_status load_text_file(const char *path, buffer *out, refine_error *err);

/* "DIR/name" where `path` is "DIR/something"; false when it does not fit. */
static bool sibling_path(const char *path, const char *name, char out[MERGES_PATH])
{
    const char *slash = strrchr(path, '/');
    const int dir = slash ? (int)(slash - path) + 1 : 0;
    const int n = snprintf(out, MERGES_PATH, "%.*s%s", dir, path, name);
    return n > 0 && n < MERGES_PATH;
}

static refine_status from_json(const char *path, const buffer *in, buffer *out, refine_error *err)
{
    json_error_t where;
    char beside[MERGES_PATH];
    refine_status st = REFINE_OK;
    json_t *root = json_loadb(in->at, in->len, 0, &where);
    if (!root)
        return refine_fail(err, REFINE_EFORMAT, "%s: line %d: %s", path, where.line, where.text);

    const json_t *model = json_object_get(root, "model");
    if (json_is_object(model)) {
        TRY_OR(done, add_json_merges(path, json_object_get(model, "merges"), out, err));
        TRY_OR(done, check_vocabulary(path, json_object_get(model, "vocab"), out, err));
        goto done;
    }
    if (!sibling_path(path, "merges.txt", beside)) {
        st = refine_fail(err, REFINE_EINVAL, "%s: the path is too long", path);
        goto done;
    }
    TRY_OR(done, load_text_file(beside, out, err));
    st = check_vocabulary(path, root, out, err);
done:
    json_decref(root);
    return st;
}

/* ---- paths ---- */

/* Reads `path`, unpacked if it is gzip. */
static refine_status read_plain(const char *path, buffer *out, refine_error *err)
{
    buffer raw = { 0 };
    refine_status st;
    TRY_OR(done, read_file(path, &raw, err));
    if (raw.len >= 2 && memcmp(raw.at, "\x1f\x8b", 2) == 0) {
        st = gunzip_bytes(path, raw.at, raw.len, out, err);
    } else {
        *out = raw;
        raw.at = NULL;
    }
done:
    mem_free(raw.at);
    return st;
}

static refine_status load_text_file(const char *path, buffer *out, refine_error *err)
{
    buffer in = { 0 };
    refine_status st = read_plain(path, &in, err);
    if (st == REFINE_OK)
        st = from_text(path, &in, out, err);
    mem_free(in.at);
    return st;
}

static refine_status load_file(const char *path, buffer *out, refine_error *err)
{
    buffer in = { 0 };
    refine_status st = read_plain(path, &in, err);
    if (st == REFINE_OK)
        st = in.at[strspn(in.at, " \t\r\n")] == '{' ? from_json(path, &in, out, err)
                                                    : from_text(path, &in, out, err);
    mem_free(in.at);
    return st;
}

static bool is_merges_directory(const char *path)
{
    struct stat s;
    return stat(path, &s) == 0 && S_ISDIR(s.st_mode);
}

static bool is_merges_file(const char *path)
{
    struct stat s;
    return stat(path, &s) == 0 && S_ISREG(s.st_mode);
}

/* The tokenizer file in directory `dir`; false if there is none. */
static bool find_in(const char *dir, char out[MERGES_PATH])
{
    static const char *const sub[] = { "tokenizer_2/", "", "tokenizer/" };
    static const char *const name[] = { "vocab.json", "merges.txt", "tokenizer.json",
                                        "bpe_simple_vocab_16e6.txt.gz",
                                        "bpe_simple_vocab_16e6.txt" };
    for (size_t s = 0; s < sizeof sub / sizeof sub[0]; s++)
        for (size_t i = 0; i < sizeof name / sizeof name[0]; i++) {
            char path[MERGES_PATH];
            const int n = snprintf(path, sizeof path, "%s/%s%s", dir, sub[s], name[i]);
            if (n > 0 && n < MERGES_PATH && is_merges_file(path)) {
                memcpy(out, path, (size_t)n + 1);
                return true;
            }
        }
    return false;
}

/* Checks the list, and moves it to *text. */
static refine_status move_merges(buffer *list, char **text, size_t *len, refine_error *err)
{
    tokenizer *check = NULL;
    TRY(tokenizer_open(&check, list->at, list->len, err));
    tokenizer_close(check);
    *text = list->at;
    *len = list->len;
    list->at = NULL;
    return REFINE_OK;
}

refine_status merges_load(const char *path, char **text, size_t *len, refine_error *err)
{
    char found[MERGES_PATH];
    buffer out = { 0 };
    refine_status st;

    *text = NULL;
    *len = 0;
    if (is_merges_directory(path)) {
        if (!find_in(path, found))
            return refine_fail(err, REFINE_EIO,
                               "%s: no tokenizer here; expected merges.txt, tokenizer.json or "
                               "bpe_simple_vocab_16e6.txt.gz",
                               path);
        path = found;
    }
    TRY_OR(done, load_file(path, &out, err));
    st = move_merges(&out, text, len, err);
done:
    mem_free(out.at);
    return st;
}

refine_status merges_unpack(const void *gzip, size_t bytes, char **text, size_t *len,
                            refine_error *err)
{
    static const char NAME[] = "the built-in vocabulary";
    buffer lines = { 0 }, out = { 0 };
    refine_status st;

    *text = NULL;
    *len = 0;
    TRY_OR(done, gunzip_bytes(NAME, gzip, bytes, &lines, err));
    TRY_OR(done, from_text(NAME, &lines, &out, err));
    st = move_merges(&out, text, len, err);
done:
    mem_free(lines.at);
    mem_free(out.at);
    return st;
}

bool merges_files(char file[MERGES_PATH], char beside[MERGES_PATH], const char *path)
{
    const size_t len = strlen(path);
    const bool directory = is_merges_directory(path);
    if (directory ? !find_in(path, file) : len >= MERGES_PATH)
        return false;
    if (!directory)
        memcpy(file, path, len + 1);
    if (!sibling_path(file, "merges.txt", beside))
        beside[0] = '\0';
    return true;
}
