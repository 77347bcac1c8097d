/* tools/cli/numbers.h -- numbers as arguments give them. */
#ifndef REFINE_NUMBERS_H
#define REFINE_NUMBERS_H

#include <stdbool.h>
#include <stdint.h>

/* False, and *out untouched, for anything but one number of that range. */
bool numbers_real(const char *text, double least, double most, double *out);
bool numbers_whole(const char *text, uint64_t least, uint64_t most, uint64_t *out);
bool numbers_int(const char *text, int least, int most, int *out);

/* "640x480", or what else lies between; both from `least` to `most`. */
bool numbers_pair(const char *text, char between, int least, int most, int *a, int *b);

#endif
