/* tests/fuzz/fuzz_png.c -- hostile PNG files: an image of a lawful size, or one line of refusal.
 *
 * Each input is read twice, as it is and with the checksums of its chunks put right, so that
 * changes get past them.
 */
#include "engine/base/mem.h"
#include "engine/base/num.h"
#include "tools/image/image_codec.h"

#include <assert.h>
#include <stdint.h>
#include <string.h>
#include <zlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_png_input(const uint8_t *data, size_t size)
{
    image im = { 0 };
    image_reading how = IMAGE_READING_INIT;
    refine_error err = { 0 };
    const refine_status st = image_decode_png(&im, &how, data, size, "input", &err);
    if (st == REFINE_OK)
        assert(im.width >= 1 && im.width <= IMAGE_MAX_SIDE && im.height >= 1 &&
               im.height <= IMAGE_MAX_SIDE && im.rgb);
    else
        assert(!im.rgb && err.status == st && err.text[0] != '\0');
    image_free(&im);
}

static void put_be32(uint8_t *p, unsigned long v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> (24 - 8 * i));
}

static size_t get_be32(const uint8_t *p)
{
    return (size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];
}

/* Length, type, data, checksum of type and data; behind the signature's 8 bytes. */
static void put_checksums_right(uint8_t *p, size_t size)
{
    for (size_t at = 8; num_within(at, 12, size);) {
        const size_t len = get_be32(p + at);
        if (!num_within(at + 12, len, size))
            break;
        put_be32(p + at + 8 + len, crc32(crc32(0, NULL, 0), p + at + 4, (uInt)len + 4));
        at += 12 + len;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    check_png_input(data, size);
    uint8_t *copy = mem_alloc(size + (size == 0));
    if (!copy)
        return 0;
    memcpy(copy, data, size);
    put_checksums_right(copy, size);
    check_png_input(copy, size);
    mem_free(copy);
    assert(mem_used().now == 0);
    return 0;
}
