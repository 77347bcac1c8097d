/* tools/files/text_out.c -- a buffer before a new file, and two ways of escaping. */
#include "tools/files/text_out.h"

#include "engine/base/num.h"
#include "engine/base/try.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

refine_status text_out_open(text_out *o, const char *path, refine_error *err)
{
    o->at = 0;
    o->used = 0;
    o->st = REFINE_OK;
    o->err = err;
    return new_file_open(&o->f, path, NEW_FILE_STREAM, err);
}

static void flush_text_buffer(text_out *o)
{
    if (o->st == REFINE_OK)
        o->st = new_file_write(&o->f, o->buffer, o->used, o->at, o->err);
    o->at += o->used;
    o->used = 0;
}

void text_out_bytes(text_out *o, const char *s, size_t len)
{
    while (len > 0) {
        const size_t n = num_min(len, sizeof o->buffer - o->used);
        memcpy(o->buffer + o->used, s, n);
        o->used += n;
        s += n;
        len -= n;
        if (o->used == sizeof o->buffer)
            flush_text_buffer(o);
    }
}

void text_out_put(text_out *o, const char *fmt, ...)
{
    for (int attempt = 0; attempt < 2; attempt++) {
        va_list args;
        const size_t room = sizeof o->buffer - o->used;
        va_start(args, fmt);
        const int n = vsnprintf(o->buffer + o->used, room, fmt, args);
        va_end(args);
        if (n < 0)
            return;
        if ((size_t)n < room || attempt == 1) {
            o->used += num_min((size_t)n, room - 1);
            return;
        }
        flush_text_buffer(o);
    }
}

/* The length of the UTF-8 character at `s`, 0 when there is none. */
static size_t utf8_length(const unsigned char *s)
{
    const size_t n = s[0] < 0x80                    ? 1
                     : s[0] >= 0xc2 && s[0] <= 0xdf ? 2
                     : s[0] >= 0xe0 && s[0] <= 0xef ? 3
                     : s[0] >= 0xf0 && s[0] <= 0xf4 ? 4
                                                    : 0;
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    const bool overlong = (s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xf0 && s[1] < 0x90);
    const bool surrogate = s[0] == 0xed && s[1] >= 0xa0;
    const bool beyond = s[0] == 0xf4 && s[1] >= 0x90;
    return overlong || surrogate || beyond ? 0 : n;
}

/* The character, or what stands for bytes that are none; how many bytes to go on. */
static size_t write_character(text_out *o, const char *s)
{
    const size_t n = utf8_length((const unsigned char *)s);
    text_out_bytes(o, n ? s : "\xef\xbf\xbd", n ? n : 3);
    return n ? n : 1;
}

void text_out_json(text_out *o, const char *s)
{
    text_out_bytes(o, "\"", 1);
    while (*s) {
        const unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\' || c < 0x20 || c == 0x7f) {
            text_out_put(o, "\\u%04x", c);
            s++;
        } else {
            s += write_character(o, s);
        }
    }
    text_out_bytes(o, "\"", 1);
}

void text_out_html(text_out *o, const char *s)
{
    while (*s) {
        switch (*s) {
        case '&': text_out_put(o, "&amp;"); break;
        case '<': text_out_put(o, "&lt;"); break;
        case '>': text_out_put(o, "&gt;"); break;
        case '"': text_out_put(o, "&quot;"); break;
        case '\'': text_out_put(o, "&#39;"); break;
        default: s += write_character(o, s); continue;
        }
        s++;
    }
}

refine_status text_out_commit(text_out *o)
{
    flush_text_buffer(o);
    if (o->st == REFINE_OK)
        return new_file_commit(&o->f, o->err);
    new_file_abandon(&o->f);
    return o->st;
}

void text_out_abandon(text_out *o) { new_file_abandon(&o->f); }
