/* tools/image/png_whole.c -- walks the chunks of a PNG without decoding them.
 *
 *     signature, 8 bytes; then chunks: length, 4 bytes; type, 4; data; CRC-32 of type and data, 4
 *
 * Invariant: no length is believed; what is read is at most what the file holds.
 */
#include "tools/image/png_whole.h"

#include "engine/base/num.h"

#include <string.h>
#include <zlib.h>

enum { SIGNATURE = 8, FIELD = 4, BLOCK = 1 << 14 };

static uint32_t load_big_endian(const unsigned char p[FIELD])
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static bool read_chunk_field(FILE *f, unsigned char out[FIELD])
{
    return fread(out, 1, FIELD, f) == FIELD;
}

/* False: the data end before `left` bytes of them. */
static bool sum_chunk_data(FILE *f, uint32_t left, uLong *crc)
{
    unsigned char block[BLOCK];
    while (left > 0) {
        const size_t n = num_min(left, sizeof block);
        if (fread(block, 1, n, f) != n)
            return false;
        *crc = crc32(*crc, block, (uInt)n);
        left -= (uint32_t)n;
    }
    return true;
}

bool png_is_whole(FILE *f)
{
    unsigned char signature[SIGNATURE], length[FIELD], type[FIELD], sum[FIELD];
    if (fread(signature, 1, SIGNATURE, f) != SIGNATURE ||
        memcmp(signature, "\x89PNG\r\n\x1a\n", SIGNATURE) != 0)
        return false;
    while (read_chunk_field(f, length) && read_chunk_field(f, type)) {
        uLong crc = crc32(crc32(0, NULL, 0), type, FIELD);
        if (!sum_chunk_data(f, load_big_endian(length), &crc) || !read_chunk_field(f, sum) ||
            load_big_endian(sum) != crc)
            return false;
        if (memcmp(type, "IEND", FIELD) == 0)
            return true;
    }
    return false;
}
