/* tools/files/json_values.c -- the corners of JSON: large, not finite, not UTF-8. */
#include "tools/files/json_values.h"

#include "engine/base/mem.h"

#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { NOTE_BYTES = 1024 };

json_int_t saturate_json_integer(uint64_t v) { return v < INT64_MAX ? (json_int_t)v : INT64_MAX; }

double finite_or_zero(double v) { return isfinite(v) ? v : 0.0; }

json_t *clean_json_text(const char *s)
{
    static const char REPLACEMENT[] = "\xef\xbf\xbd";
    json_t *v = json_string(s ? s : "");
    if (v || !s)
        return v;
    char *clean = mem_alloc(3 * strlen(s) + 1), *p = clean;
    for (; clean && *s; s++) {
        const bool ascii = (unsigned char)*s < 0x80;
        memcpy(p, ascii ? s : REPLACEMENT, ascii ? 1 : 3);
        p += ascii ? 1 : 3;
    }
    v = clean ? json_stringn(clean, (size_t)(p - clean)) : NULL;
    mem_free(clean);
    return v;
}

bool is_utf8_text(const char *s)
{
    json_t *v = json_string(s);
    json_decref(v);
    return v != NULL;
}

void append_json_note(json_t *list, const char *fmt, ...)
{
    char text[NOTE_BYTES];
    const json_t *v;
    size_t i;
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    json_t *note = clean_json_text(text);
    json_array_foreach(list, i, v) if (json_equal(v, note))
    {
        json_decref(note);
        return;
    }
    (void)json_array_append_new(list, note);
}

refine_status print_json_object(FILE *out, json_t *o, int digits, refine_error *err)
{
    char *text = o ? json_dumps(o, JSON_INDENT(1) | JSON_REAL_PRECISION(digits)) : NULL;
    json_decref(o);
    if (!text)
        return refine_fail(err, REFINE_ENOMEM, "out of memory");
    fprintf(out, "%s\n", text);
    (void)fflush(out);
    free(text);
    return REFINE_OK;
}
