/* tools/image/tiff_orientation.h -- the orientation tag of a TIFF header, as EXIF has one.
 *
 *     "II" or "MM", 42, offset of IFD 0 -> n, n entries of 12 bytes: tag, type, count, value
 *                                                                    (its offset, from 5 bytes on)
 *
 * As Pillow 13 reads it (PIL.TiffImagePlugin.ImageFileDirectory_v2): the first entry of the tag
 * whose type is known and that is not empty; the first number of any type counts, a fraction too,
 * but no byte; a value outside the data ends the reading.
 */
#ifndef REFINE_TIFF_ORIENTATION_H
#define REFINE_TIFF_ORIENTATION_H

#include <stddef.h>
#include <stdint.h>

/* 0: there is no such tag; 1, too, where it is none of 1 to 8. */
int tiff_orientation(const uint8_t *tiff, size_t len);

#endif
