/* tools/image/image_orientation.c -- which way up an image is, and turning it.
 *
 *     1 as it lies   2 mirrored      3 turned half    4 upside down, mirrored
 *     5..8           the same after the sides are exchanged: 6 lies on its left side,
 *                    8 on its right, 5 and 7 mirrored besides
 *
 * As Pillow's ImageOps.exif_transpose finds it: a value in EXIF decides, be it none of these; XMP
 * is asked where EXIF has no such tag.
 */
#define _GNU_SOURCE /* memmem */
#include "engine/base/mem.h"
#include "engine/base/num.h"
#include "engine/base/try.h"
#include "tools/image/image_codec.h"
#include "tools/image/tiff_orientation.h"

#include <string.h>

enum { EXIF_HEAD = 6 };

static const char EXIF_BEGIN[EXIF_HEAD] = "Exif\0";

/* Puts p behind `kept` bytes of *to, which are there. */
static void join_metadata(image_metadata *m, void **to, size_t *to_len, size_t kept, const void *p,
                          size_t len)
{
    uint8_t *all = kept + len <= m->most ? mem_realloc(*to, kept + len + 1) : NULL;
    if (!all) {
        m->out_of_memory = m->out_of_memory || kept + len <= m->most;
        return;
    }
    if (len > 0)
        memcpy(all + kept, p, len);
    *to = all;
    *to_len = kept + len;
}

void metadata_add_exif(image_metadata *m, const uint8_t *tiff, size_t len)
{
    if (!m->exif)
        join_metadata(m, &m->exif, &m->exif_len, 0, EXIF_BEGIN, EXIF_HEAD);
    if (m->exif)
        join_metadata(m, &m->exif, &m->exif_len, m->exif_len, tiff, len);
}

void metadata_set_exif(image_metadata *m, const uint8_t *tiff, size_t len)
{
    mem_free(m->exif);
    m->exif = NULL;
    metadata_add_exif(m, tiff, len);
}

void metadata_set_xmp(image_metadata *m, const void *xmp, size_t len)
{
    join_metadata(m, &m->xmp, &m->xmp_len, 0, xmp, len);
}

void metadata_free(image_metadata *m)
{
    mem_free(m->exif);
    mem_free(m->xmp);
    *m = (image_metadata){ 0 };
}

/* 0: no such tag.  Some programs write the beginning twice. */
static int orientation_in_exif(const image_metadata *m)
{
    const uint8_t *tiff = (const uint8_t *)m->exif + EXIF_HEAD;
    const size_t len = m->exif_len - EXIF_HEAD;
    const bool twice = len >= EXIF_HEAD && memcmp(tiff, EXIF_BEGIN, EXIF_HEAD) == 0;
    const size_t again = twice ? EXIF_HEAD : 0;
    return tiff_orientation(tiff + again, len - again);
}

/* An attribute, tiff:Orientation="6", or an element, <tiff:Orientation>6<. */
static int orientation_in_xmp(const char *xmp, size_t len)
{
    static const char TAG[] = "tiff:Orientation";
    const char *const end = xmp + len;
    for (const char *p = xmp; (p = memmem(p, (size_t)(end - p), TAG, sizeof TAG - 1)) != NULL;) {
        p += sizeof TAG - 1;
        const size_t left = (size_t)(end - p);
        if (left >= 2 && p[0] == '>')
            p += 1;
        else if (left >= 3 && p[0] == '=' && (p[1] == '"' || p[1] == '\''))
            p += 2;
        else
            continue;
        if (*p >= '0' && *p <= '9')
            return *p >= '1' && *p <= '8' ? *p - '0' : 1;
    }
    return 1;
}

refine_status metadata_orientation(int *out, const image_metadata *m, const char *name,
                                   refine_error *err)
{
    if (m->out_of_memory)
        return refine_fail(err, REFINE_ENOMEM, "%s: out of memory", name);
    *out = m->exif ? orientation_in_exif(m) : 0;
    if (*out == 0)
        *out = m->xmp ? orientation_in_xmp(m->xmp, m->xmp_len) : 1;
    return REFINE_OK;
}

refine_status metadata_turn_bytes(uint64_t *out, const image_metadata *m, uint64_t coder,
                                  unsigned long width, unsigned long height, const char *name,
                                  refine_error *err)
{
    int orientation;
    TRY(metadata_orientation(&orientation, m, name, err));
    *out = orientation == 1 ? coder : num_max(coder, (uint64_t)width * height * 3);
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

refine_status image_turn_upright(image *im, const image_metadata *m, const image_reading *how,
                                 const char *name, refine_error *err)
{
    image up;
    int orientation;
    TRY(metadata_orientation(&orientation, m, name, err));
    if (orientation == 1)
        return REFINE_OK;
    const bool swap = orientation >= 5;
    TRY(image_alloc(&up, (unsigned long)(swap ? im->height : im->width),
                    (unsigned long)(swap ? im->width : im->height), 0, how, name, err));
    for (int y = 0; y < up.height; y++)
        for (int x = 0; x < up.width; x++)
            memcpy(up.rgb + ((size_t)y * (size_t)up.width + (size_t)x) * 3,
                   im->rgb + stored_at(im, orientation, x, y), 3);
    image_free(im);
    *im = up;
    return REFINE_OK;
}
