/* engine/model/finite.h -- is a result made of numbers?
 *
 * NaN and infinity go through every later operator and come out as black or white pixels, so what
 * a phase hands to the host is looked at there, and a run ends with the first that is not finite.
 */
#ifndef REFINE_FINITE_H
#define REFINE_FINITE_H

#include "kernels/device.h"

size_t finite_bad(const float *v, size_t n); /* how many are NaN or infinite */
float finite_largest(const float *v, size_t n); /* magnitude among the others; 0: none */

typedef struct finite_place {
    const char *what;   /* "the UNet's result" */
    const char *advice; /* what to do about it */
    int step, steps;    /* from 0; steps 0: it is not of a step */
    int image, images;  /* from 0 */
} finite_place;

/* Fails the device (REFINE_EDEVICE) with one line when `bad` of n values are not finite. */
void finite_judge(dev *d, const finite_place *at, size_t bad, size_t n);

#endif
