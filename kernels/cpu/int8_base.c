/* kernels/cpu/int8_base.c -- int8 products on any CPU: pairs of 16 bits, four words. */
#define LANES        4
#define PIXELS       2
#define NAME         "plain"
#define VARIANT      INT8_BASE
#define ELEMENT      int16_t
#define WEIGHT       int16_t
#define ZERO         0
#define DOT(s, a, w) ((s) + ((a) << 16 >> 16) * ((w) << 16 >> 16) + ((a) >> 16) * ((w) >> 16))
#include "kernels/cpu/int8_variants.h"

#include "kernels/cpu/int8_body.h"
