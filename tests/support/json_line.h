/* tests/support/json_line.h -- members of a flat JSON object, as tests and benches print them for
 * tools/gpu_check.sh.
 */
#ifndef TEST_JSON_LINE_H
#define TEST_JSON_LINE_H

#include <stdio.h>

/* ,"key":"text", without what may not stand in it. */
void json_text(FILE *f, const char *key, const char *text);

/* ,"key":1.25; null for what is no number, which JSON has no word for. */
void json_number(FILE *f, const char *key, double v);

#endif
