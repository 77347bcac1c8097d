/* tests/support/load_image.h -- reading an image as by default. */
#ifndef TEST_LOAD_IMAGE_H
#define TEST_LOAD_IMAGE_H

#include "tools/image/image_io.h"

static inline refine_status image_load(image *out, const char *path, refine_error *err)
{
    image_reading how = IMAGE_READING_INIT;
    return image_read(out, &how, path, err);
}

#endif
