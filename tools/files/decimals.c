/* tools/files/decimals.c -- digits are added until they say which number it is. */
#include "tools/files/decimals.h"

#include <float.h>
#include <stdio.h>
#include <stdlib.h>

const char *format_exact_double(char out[DECIMALS_MAX], double v)
{
    double read;
    int digits = FLT_DIG;
    do {
        (void)snprintf(out, DECIMALS_MAX, "%.*g", digits, v);
        read = strtod(out, NULL);
    } while ((read < v || read > v) && digits++ < DBL_DECIMAL_DIG);
    return out;
}

const char *format_exact_float(char out[DECIMALS_MAX], float v)
{
    float read;
    int digits = FLT_DIG;
    do {
        (void)snprintf(out, DECIMALS_MAX, "%.*g", digits, (double)v);
        read = strtof(out, NULL);
    } while ((read < v || read > v) && digits++ < FLT_DECIMAL_DIG);
    return out;
}
