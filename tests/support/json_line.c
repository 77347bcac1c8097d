/* tests/support/json_line.c -- see its header. */
#include "tests/support/json_line.h"

#include <math.h>

void json_text(FILE *f, const char *key, const char *text)
{
    (void)fprintf(f, ",\"%s\":\"", key);
    for (; *text; text++)
        if ((unsigned char)*text >= ' ')
            (void)fprintf(f, *text == '"' || *text == '\\' ? "\\%c" : "%c", *text);
    (void)putc('"', f);
}

void json_number(FILE *f, const char *key, double v)
{
    if (isfinite(v))
        (void)fprintf(f, ",\"%s\":%.6g", key, v);
    else
        (void)fprintf(f, ",\"%s\":null", key);
}
