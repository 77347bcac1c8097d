/* tools/files/text_out.h -- text of any length into a new file, through a small buffer.
 *
 *     text_out o;
 *     TRY(text_out_open(&o, "report.html", err));
 *     text_out_put(&o, "<p>%d</p>\n", n);
 *     st = text_out_commit(&o);
 *
 * The first failure sticks: puts after it do nothing and commit returns it.  The file
 * appears when it is complete, or not at all.
 */
#ifndef REFINE_TEXT_OUT_H
#define REFINE_TEXT_OUT_H

#include "tools/files/new_file.h"

enum { TEXT_OUT_BUFFER = 16384 };

typedef struct text_out {
    new_file f;
    uint64_t at; /* bytes that left the buffer */
    size_t used; /* bytes in it */
    refine_status st;
    refine_error *err;
    char buffer[TEXT_OUT_BUFFER];
} text_out;

/* An existing file is replaced.  On failure nothing needs closing. */
refine_status text_out_open(text_out *o, const char *path, refine_error *err);

/* Bytes as they are; printf, of which what is longer than TEXT_OUT_BUFFER - 1 is cut. */
void text_out_bytes(text_out *o, const char *s, size_t len);
void text_out_put(text_out *o, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* As a JSON string, quotes included.  Bytes that are no UTF-8 become U+FFFD, here and below. */
void text_out_json(text_out *o, const char *s);

/* As the text of an HTML element or of a quoted attribute. */
void text_out_html(text_out *o, const char *s);

refine_status text_out_commit(text_out *o);
void text_out_abandon(text_out *o);

#endif
