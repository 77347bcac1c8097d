/* tools/files/json_values.h -- figures and text that JSON can hold, and an object printed. */
#ifndef REFINE_JSON_VALUES_H
#define REFINE_JSON_VALUES_H

#include <refine/status.h>

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* JSON's integers end at 2^63 - 1 for most readers; larger amounts become that. */
json_int_t saturate_json_integer(uint64_t v);

/* A rate over no time at all is none, and JSON has no word for infinity. */
double finite_or_zero(double v);

/* A string, the caller's; NULL is "".  Of what is not UTF-8, every byte that is no ASCII becomes a
 * replacement character, as in the tokenizer. */
json_t *clean_json_text(const char *s);

/* UTF-8, as JSON and PNG want texts. */
bool is_utf8_text(const char *s);

/* A sentence, printf-style, at the end of a list, unless that has it already.  Without memory it is
 * lost. */
void append_json_note(json_t *list, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Prints an object (stolen; NULL: out of memory) and a newline, its reals with so many digits (0:
 * all of them).  REFINE_ENOMEM; what cannot be written leaves its mark on `out`. */
refine_status print_json_object(FILE *out, json_t *o, int digits, refine_error *err);

#endif
