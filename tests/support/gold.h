/* tests/support/gold.h -- reads the golden values of tests/golden/.
 *
 *     "RGOLD1\n\0" | u32 count | count entries, little-endian:
 *     u16 length, name | u32 n, c, h, w | u32 stride k | u32 stored | stored f32 values
 *
 * An entry is every k-th element of a tensor, flat in the order (n, c, h, w).
 */
#ifndef REFINE_TESTS_GOLD_H
#define REFINE_TESTS_GOLD_H

#include <refine/status.h>

#include <stddef.h>
#include <stdint.h>

enum { GOLD_NAME = 96 };

typedef struct gold gold;

typedef struct gold_entry {
    char         name[GOLD_NAME];
    uint32_t     n, c, h, w;
    uint32_t     stride, stored;
    const float *value;         /* `stored` of them, the file's */
} gold_entry;

/* REFINE_EIO: cannot be read.  REFINE_EFORMAT: not such a file, or damaged. */
refine_status gold_open(gold **out, const char *path, refine_error *err);
/* The same for bytes in memory, which are copied. */
refine_status gold_parse(gold **out, const void *bytes, size_t len, refine_error *err);
void          gold_close(gold *g);      /* NULL is fine */

/* NULL: there is none of that name. */
const gold_entry *gold_find(const gold *g, const char *name);
/* Entries in the order of the file; NULL: there are not as many. */
const gold_entry *gold_at(const gold *g, uint32_t i);

#endif
