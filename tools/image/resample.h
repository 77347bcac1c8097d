/* tools/image/resample.h -- resizing images the way the reference pipeline does. */
#ifndef REFINE_RESAMPLE_H
#define REFINE_RESAMPLE_H

#include <refine/status.h>

#include <stdint.h>

enum { RESAMPLE_MAX_SIDE = 65535 };

/* src [sh][sw][3] to dst [dh][dw][3], 8-bit RGB; every byte equals that of Pillow's
 * Image.resize((dw, dh), LANCZOS).  dst and src do not overlap.  Takes and returns
 * memory: dw * sh * 3 bytes when both sides change, and the filter's weights. */
refine_status resample_lanczos(uint8_t *dst, int dw, int dh, const uint8_t *src, int sw, int sh,
                               refine_error *err);

#endif
