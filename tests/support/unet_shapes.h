/* tests/support/unet_shapes.h -- what the real UNet computes, for benches of kernels.
 *
 * Sizes are those of an image of 512 x 512; of one of 1024 x 1024 they are twice as large.
 */
#ifndef TEST_UNET_SHAPES_H
#define TEST_UNET_SHAPES_H

#include <stdbool.h>

typedef enum unet_kind {
    UNET_LINEAR,
    UNET_GEGLU,
    UNET_CONV,     /* 3x3, behind a norm */
    UNET_SHORTCUT, /* 1x1 */
    UNET_SELF,     /* attention, heads of 64 channels */
    UNET_CROSS     /* the same to the 77 tokens of a prompt */
} unet_kind;

typedef struct unet_shape {
    unet_kind   kind;
    const char *name;
    int         size; /* output pixels in a row and rows */
    int         c_in, c_out, stride;
    int         times; /* in a step; 0: it is none of an image of 512 */
} unet_shape;

extern const unet_shape UNET_SHAPES[];
extern const int        N_UNET_SHAPES;

static inline bool unet_shape_is_conv(const unet_shape *s)
{
    return s->kind == UNET_CONV || s->kind == UNET_SHORTCUT;
}

#endif
