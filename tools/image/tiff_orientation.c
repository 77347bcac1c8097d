/* tools/image/tiff_orientation.c -- a walk over the entries of one directory. */
#include "tools/image/tiff_orientation.h"

#include "engine/base/num.h"

#include <stdbool.h>
#include <string.h>

enum { ORIENTATION = 274, HEADER = 8, ENTRY = 12, INLINE = 4 /* bytes that lie in the entry */ };

/* Types of values, by their numbers in TIFF. */
enum {
    BYTE = 1,
    ASCII,
    SHORT,
    LONG,
    RATIONAL,
    SIGNED_BYTE,
    UNDEFINED,
    SIGNED_SHORT,
    SIGNED_LONG,
    SIGNED_RATIONAL,
    FLOAT,
    DOUBLE,
    IFD,
    LONG8 = 16,
    TYPES
};

/* Bytes of a value; 0: no such type. */
static const uint8_t TYPE_BYTES[TYPES] = {
    [BYTE] = 1,        [ASCII] = 1,           [SHORT] = 2,     [LONG] = 4,
    [RATIONAL] = 8,    [SIGNED_BYTE] = 1,     [UNDEFINED] = 1, [SIGNED_SHORT] = 2,
    [SIGNED_LONG] = 4, [SIGNED_RATIONAL] = 8, [FLOAT] = 4,     [DOUBLE] = 8,
    [IFD] = 4,         [LONG8] = 8,
};

typedef struct tiff_data {
    const uint8_t *p;
    size_t len;
    bool big_endian;
} tiff_data;

/* `n` bytes at p, which are there. */
static uint64_t read_unsigned(const tiff_data *t, const uint8_t *p, int n)
{
    uint64_t v = 0;
    for (int i = 0; i < n; i++)
        v |= (uint64_t)p[i] << 8 * (t->big_endian ? n - 1 - i : i);
    return v;
}

static int64_t read_signed(const tiff_data *t, const uint8_t *p, int n)
{
    const uint64_t v = read_unsigned(t, p, n), sign = UINT64_C(1) << (8 * n - 1);
    return (int64_t)(v ^ sign) - (int64_t)sign;
}

static double read_float(const tiff_data *t, const uint8_t *p)
{
    const uint32_t bits = (uint32_t)read_unsigned(t, p, 4);
    float v;
    memcpy(&v, &bits, sizeof v);
    return (double)v;
}

static double read_double(const tiff_data *t, const uint8_t *p)
{
    const uint64_t bits = read_unsigned(t, p, 8);
    double v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

/* 0: it is no number.  A fraction without a denominator is none. */
static double read_number(const tiff_data *t, const uint8_t *p, unsigned type)
{
    double below;
    switch (type) {
    case SHORT:
    case LONG:
    case IFD:
    case LONG8: return (double)read_unsigned(t, p, TYPE_BYTES[type]);
    case SIGNED_BYTE:
    case SIGNED_SHORT:
    case SIGNED_LONG: return (double)read_signed(t, p, TYPE_BYTES[type]);
    case RATIONAL:
        below = (double)read_unsigned(t, p + 4, 4);
        return below > 0 ? (double)read_unsigned(t, p, 4) / below : 0;
    case SIGNED_RATIONAL:
        below = (double)read_signed(t, p + 4, 4);
        return below < 0 || below > 0 ? (double)read_signed(t, p, 4) / below : 0;
    case FLOAT: return read_float(t, p);
    case DOUBLE: return read_double(t, p);
    default: return 0;
    }
}

static int orientation_of(double v)
{
    for (int i = 1; i <= 8; i++)
        if (v >= i && v <= i)
            return i;
    return 1;
}

/* The value of an entry: false, and the reading ends, where it lies outside the data. */
static bool find_value(const tiff_data *t, const uint8_t *entry, uint64_t bytes, const uint8_t **at)
{
    *at = entry + 8;
    if (bytes <= INLINE)
        return true;
    const uint64_t offset = read_unsigned(t, *at, 4);
    if (!num_within(offset, bytes, t->len))
        return false;
    *at = t->p + offset;
    return true;
}

static int walk_directory(const tiff_data *t, size_t at)
{
    if (!num_within(at, 2, t->len))
        return 0;
    uint8_t seen[8192] = { 0 }; /* a bit for each tag that has a value */
    uint64_t sum = 0;
    for (size_t left = read_unsigned(t, t->p + at, 2), e = at + 2;
         left > 0 && num_within(e, ENTRY, t->len); left--, e += ENTRY) {
        const uint8_t *entry = t->p + e, *value;
        const unsigned tag = (unsigned)read_unsigned(t, entry, 2);
        const unsigned type = (unsigned)read_unsigned(t, entry + 2, 2);
        const uint64_t size = type < TYPES ? TYPE_BYTES[type] : 0;
        const uint64_t bytes = size * read_unsigned(t, entry + 4, 4);
        if (bytes == 0 || (seen[tag / 8] >> tag % 8 & 1) != 0)
            continue;
        /* Values of more bytes than there are lie over each other: no more are read. */
        sum += bytes > INLINE ? bytes : 0;
        if (bytes > INLINE && sum > t->len)
            continue;
        if (!find_value(t, entry, bytes, &value))
            return 0;
        seen[tag / 8] |= (uint8_t)(1u << tag % 8);
        if (tag == ORIENTATION)
            return orientation_of(read_number(t, value, type));
    }
    return 0;
}

/* 42 in either order, and 43, of a larger format, where it does not look like that. */
static bool begins_tiff(tiff_data *t)
{
    static const char HEADS[][4] = { "MM\0*", "II*\0", "MM*\0", "II\0*", "MM\0+" };
    for (size_t i = 0; i < sizeof HEADS / sizeof HEADS[0] && t->len >= HEADER; i++)
        if (memcmp(t->p, HEADS[i], sizeof HEADS[i]) == 0) {
            t->big_endian = HEADS[i][0] == 'M';
            return true;
        }
    return false;
}

int tiff_orientation(const uint8_t *tiff, size_t len)
{
    tiff_data t = { .p = tiff, .len = len };
    return begins_tiff(&t) ? walk_directory(&t, (size_t)read_unsigned(&t, tiff + 4, 4)) : 0;
}
