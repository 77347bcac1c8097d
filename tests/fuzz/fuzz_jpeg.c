/* tests/fuzz/fuzz_jpeg.c -- hostile JPEG files: an image of a lawful size, or one line of refusal.
 *
 * Their EXIF segments, too.
 */
#include "engine/base/mem.h"
#include "tools/image/image_codec.h"

#include <assert.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    image im = { 0 };
    image_reading how = IMAGE_READING_INIT;
    refine_error err = { 0 };
    const refine_status st = image_decode_jpeg(&im, &how, data, size, "input", &err);
    if (st == REFINE_OK)
        assert(im.width >= 1 && im.width <= IMAGE_MAX_SIDE && im.height >= 1 &&
               im.height <= IMAGE_MAX_SIDE && im.rgb);
    else
        assert(!im.rgb && err.status == st && err.text[0] != '\0');
    image_free(&im);
    assert(mem_used().now == 0);
    return 0;
}
