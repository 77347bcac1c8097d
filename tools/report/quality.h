/* tools/report/quality.h -- how far what was computed is from a reference.
 *
 * Of numbers, r the reference's and g those that were got, sums over all of them:
 *
 *     relative error   sqrt(sum (r - g)^2 / sum r^2)
 *     SQNR             10 log10(sum r^2 / sum (r - g)^2)         dB
 *     PSNR             20 log10((max r - min r) / rms(r - g))    dB
 *
 * Of 8-bit images: PSNR with a peak of 255 over all channels, and the mean SSIM of Wang et al.
 * (2004) over luma (0.299 R + 0.587 G + 0.114 B): K1 0.01, K2 0.03, L 255, a Gaussian window of
 * 11 x 11 and sigma 1.5 wherever it lies wholly inside the image, no scaling down.
 *
 * Where nothing differs, decibels are INFINITY.
 */
#ifndef REFINE_QUALITY_H
#define REFINE_QUALITY_H

#include <stddef.h>
#include <stdint.h>

/* Zeroed, it has seen nothing. */
typedef struct quality {
    double signal, noise; /* sums of squares */
    double low, high;     /* of the reference */
    uint64_t n;
} quality;

void quality_add(quality *q, const float *reference, const float *got, size_t n);

double quality_relative(const quality *q);
double quality_sqnr(const quality *q);
double quality_psnr(const quality *q);

typedef struct image_quality {
    double psnr, ssim;
    int apart; /* grey levels, of the value that differs most */
} image_quality;

/* Both have w * h * 3 bytes; no side is shorter than 11. */
image_quality compare_image_quality(const uint8_t *reference, const uint8_t *got, int w, int h);

#endif
