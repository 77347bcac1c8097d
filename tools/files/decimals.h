/* tools/files/decimals.h -- a number as the shortest decimal that is read back as that number. */
#ifndef REFINE_DECIMALS_H
#define REFINE_DECIMALS_H

enum { DECIMALS_MAX = 32 };

/* "0.3", "0.30000000000000004".  Both return out. */
const char *format_exact_double(char out[DECIMALS_MAX], double v);
const char *format_exact_float(char out[DECIMALS_MAX], float v);

#endif
