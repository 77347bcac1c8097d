/* tests/support/unet_shapes.c -- the table. */
#include "tests/support/unet_shapes.h"

const unet_shape UNET_SHAPES[] = {
    { UNET_CONV, "conv_in", 64, 4, 384, 1, 1 },
    { UNET_CONV, "conv 384", 64, 384, 384, 1, 9 },
    { UNET_CONV, "conv 768 -> 384", 64, 768, 384, 1, 2 },
    { UNET_CONV, "conv 1152 -> 384", 64, 1152, 384, 1, 1 },
    { UNET_CONV, "conv up 768", 64, 768, 768, 1, 1 },
    { UNET_CONV, "conv down 384", 32, 384, 384, 2, 1 },
    { UNET_CONV, "conv_out", 64, 384, 4, 1, 1 },
    { UNET_CONV, "conv 768", 32, 768, 768, 1, 6 },
    { UNET_CONV, "conv 1536 -> 768", 32, 1536, 768, 1, 2 },
    { UNET_CONV, "conv up 1536", 32, 1536, 1536, 1, 1 },
    { UNET_CONV, "conv down 768", 16, 768, 768, 2, 1 },
    { UNET_CONV, "conv 1536", 16, 1536, 1536, 1, 6 },
    { UNET_CONV, "conv 3072 -> 1536", 16, 3072, 1536, 1, 2 },
    { UNET_CONV, "conv 1536 (8x8)", 8, 1536, 1536, 1, 11 },
    { UNET_CONV, "conv 3072 (8x8)", 8, 3072, 1536, 1, 3 },
    { UNET_SHORTCUT, "shortcut 1536 -> 768", 32, 1536, 768, 1, 2 },
    { UNET_SHORTCUT, "shortcut 3072 -> 1536", 16, 3072, 1536, 1, 2 },
    { UNET_LINEAR, "qkv 768", 32, 768, 2304, 1, 20 },
    { UNET_LINEAR, "out 768", 32, 768, 768, 1, 70 },
    { UNET_GEGLU, "ff1 768", 32, 768, 6144, 1, 20 },
    { UNET_LINEAR, "ff2 768", 32, 3072, 768, 1, 20 },
    { UNET_LINEAR, "qkv 1536", 16, 1536, 4608, 1, 20 },
    { UNET_LINEAR, "out 1536", 16, 1536, 1536, 1, 70 },
    { UNET_GEGLU, "ff1 1536", 16, 1536, 12288, 1, 20 },
    { UNET_LINEAR, "ff2 1536", 16, 6144, 1536, 1, 20 },
    { UNET_GEGLU, "ff1 1536 (8x8)", 8, 1536, 12288, 1, 4 },
    { UNET_SELF, "self 768", 32, 768, 768, 1, 20 },
    { UNET_SELF, "self 1536", 16, 1536, 1536, 1, 20 },
    { UNET_SELF, "self 768 at 1024", 64, 768, 768, 1, 0 },
    { UNET_CROSS, "cross 768", 32, 768, 768, 1, 20 },
};

const int N_UNET_SHAPES = sizeof UNET_SHAPES / sizeof UNET_SHAPES[0];
