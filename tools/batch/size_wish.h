/* tools/batch/size_wish.h -- the size that was asked for, and what it comes to for one image.
 *
 *     1024x768   these sides
 *     1024       the longer side; the shape is the image's
 *     1.5MP      the area, in units of 1024 x 1024 pixels; the shape is the image's
 *     input      the image's own
 *
 * Invariants of a fit: its sides are multiples of 8 within SIZE_SIDE_MIN and SIZE_SIDE_MAX, and
 * its cut lies inside the image.
 */
#ifndef REFINE_SIZE_WISH_H
#define REFINE_SIZE_WISH_H

#include <stdbool.h>

enum { SIZE_SIDE_MIN = 64, SIZE_SIDE_MAX = 16384, SIZE_UNIT = 8 };

#define SIZE_WISH_TAKES                                                                            \
    "sides such as 1024x768, each a multiple of 8 from 64 to 16384; the longer side, such as "     \
    "1024; an area from 0.01MP to 256MP; or input"

typedef enum size_kind { SIZE_OWN, SIZE_SIDES, SIZE_LONGER, SIZE_AREA } size_kind;

/* An image of another shape: fills the size and loses its edges; is wholly inside it, and the
 * result is smaller; changes its shape. */
typedef enum size_fit_kind { FIT_COVER, FIT_CONTAIN, FIT_STRETCH } size_fit_kind;

typedef struct size_wish {
    size_kind kind; /* 0: as without a wish */
    int width, height; /* SIZE_SIDES: both; SIZE_LONGER: the longer in both */
    double megapixels;
    size_fit_kind fit;
} size_wish;

/* What of an image is taken, and how large it becomes. */
typedef struct size_fit {
    int x, y, cut_width, cut_height;
    int width, height;
} size_fit;

/* False, and all but `fit` undefined: it is none of the above. */
bool size_wish_parse(size_wish *w, const char *text);

/* Of an image of 1 to SIZE_SIDE_MAX pixels a side.  False: a side would be too short. */
bool size_wish_apply(size_fit *out, const size_wish *w, int width, int height);

#endif
