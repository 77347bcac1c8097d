/* engine/device_choice.h -- which device a run takes, and in which type it computes. */
#ifndef REFINE_DEVICE_CHOICE_H
#define REFINE_DEVICE_CHOICE_H

#include "kernels/device.h"
#include <refine/refine.h>

typedef struct device_choice {
    dev *d; /* the caller's to close */
    dtype compute;
    bool int8_math; /* the UNet multiplies integers */
    char note[200]; /* why it is not another device, or "" */
} device_choice;

/* `auto` takes the first GPU, unless a precision is asked for that only the CPU has; where there
 * is none that can be used it takes the CPU, and notes why. */
refine_status device_choose(device_choice *out, const refine_options *o, refine_error *err);

#endif
