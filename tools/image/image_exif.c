/* tools/image/image_exif.c -- which way up an image is, by libexif, and turning it.
 *
 *     1 as it lies   2 mirrored      3 turned half    4 upside down, mirrored
 *     5..8           the same after the sides are exchanged: 6 lies on its left side,
 *                    8 on its right, 5 and 7 mirrored besides
 *
 * libexif's own memory, a few times the segment's size, is not counted.
 */
#include "engine/base/mem.h"
#include "engine/base/num.h"
#include "engine/base/try.h"
#include "tools/image/image_codec.h"

#include <libexif/exif-data.h>
#include <string.h>

enum { EXIF_MAX = 1 << 24 };

static int orientation_in(ExifData *d)
{
    const ExifEntry *e = exif_content_get_entry(d->ifd[EXIF_IFD_0], EXIF_TAG_ORIENTATION);
    if (!e || e->format != EXIF_FORMAT_SHORT || e->components != 1 || e->size < 2)
        return 1;
    const int v = exif_get_short(e->data, exif_data_get_byte_order(d));
    return v >= 1 && v <= 8 ? v : 1;
}

refine_status image_orientation(int *out, const uint8_t *exif, size_t len, const char *name,
                                refine_error *err)
{
    ExifData *d = exif_data_new();
    if (!d)
        return refine_fail(err, REFINE_ENOMEM, "%s: out of memory", name);
    exif_data_load_data(d, exif, (unsigned)num_min(len, EXIF_MAX));
    *out = orientation_in(d);
    exif_data_unref(d);
    return REFINE_OK;
}

/* Where pixel (x, y) of the upright image lies in the stored one. */
static size_t stored_at(const image *im, int how, int x, int y)
{
    const int w = im->width, h = im->height;
    int sx = how >= 5 ? y : x, sy = how >= 5 ? x : y;
    if (how == 2 || how == 3 || how == 7 || how == 8)
        sx = w - 1 - sx;
    if (how == 3 || how == 4 || how == 6 || how == 7)
        sy = h - 1 - sy;
    return ((size_t)sy * (size_t)w + (size_t)sx) * 3;
}

refine_status image_turn_upright(image *im, int orientation, const char *name, refine_error *err)
{
    image up;
    if (orientation == 1)
        return REFINE_OK;
    const bool swap = orientation >= 5;
    TRY(image_alloc(&up, (unsigned long)(swap ? im->height : im->width),
                    (unsigned long)(swap ? im->width : im->height), name, err));
    for (int y = 0; y < up.height; y++)
        for (int x = 0; x < up.width; x++)
            memcpy(up.rgb + ((size_t)y * (size_t)up.width + (size_t)x) * 3,
                   im->rgb + stored_at(im, orientation, x, y), 3);
    image_free(im);
    *im = up;
    return REFINE_OK;
}
