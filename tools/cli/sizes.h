/* tools/cli/sizes.h -- amounts of bytes as people write and read them. */
#ifndef REFINE_SIZES_H
#define REFINE_SIZES_H

#include <stdbool.h>
#include <stdint.h>

/* "512M", "1.5G", "64K", "4096", "2GiB": powers of 1024.  False, and *out untouched, for
 * anything else, for zero and for what does not fit. */
bool sizes_parse(const char *text, uint64_t *out);

/* "6.08 GB", "812 MB", "4.1 kB": powers of 1000, three digits. */
enum { SIZES_TEXT = 16 };
const char *sizes_text(char out[SIZES_TEXT], double bytes);

#endif
