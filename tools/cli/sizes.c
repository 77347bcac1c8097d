/* tools/cli/sizes.c -- amounts of bytes as text. */
#include "tools/cli/sizes.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool sizes_parse(const char *text, uint64_t *out)
{
    static const char UNITS[] = "KMGT";
    char *end;

    if (!isdigit((unsigned char)*text) || strchr(text, 'x') || strchr(text, 'X'))
        return false;
    double v = strtod(text, &end);
    const char unit = (char)toupper((unsigned char)*end);
    const char *known = unit ? strchr(UNITS, unit) : NULL;
    if (known) {
        v = ldexp(v, 10 * (int)(known - UNITS + 1));
        end++;
        if (*end == 'i')
            end++;
    }
    if (*end == 'B' || *end == 'b')
        end++;
    if (*end != 0 || !(v >= 1.0) || v >= 0x1p63)
        return false;
    *out = (uint64_t)v;
    return true;
}

const char *sizes_text(char out[SIZES_TEXT], double bytes)
{
    static const char *const UNITS[] = { "B", "kB", "MB", "GB", "TB" };
    int u = 0;
    while (u < 4 && bytes >= 999.5) {
        bytes /= 1000;
        u++;
    }
    const int digits = u == 0 || bytes >= 99.95 ? 0 : bytes >= 9.995 ? 1 : 2;
    (void)snprintf(out, SIZES_TEXT, "%.*f %s", digits, bytes, UNITS[u]);
    return out;
}
