/* tools/report/quality.c -- sums of squares, and windows over images. */
#include "tools/report/quality.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

enum { WINDOW = 11 };
static const double SIGMA = 1.5, LEVELS = 255.0, K1 = 0.01, K2 = 0.03;

/* ---- numbers ---- */

void quality_add(quality *q, const float *reference, const float *got, size_t n)
{
    for (size_t i = 0; i < n; i++, q->n++) {
        const double r = (double)reference[i], d = r - (double)got[i];
        q->signal += r * r;
        q->noise += d * d;
        q->low = q->n == 0 ? r : fmin(q->low, r);
        q->high = q->n == 0 ? r : fmax(q->high, r);
    }
}

/* In dB; without noise, however small the signal, it is INFINITY. */
static double snr_decibels(double signal, double noise)
{
    return noise == 0 ? (double)INFINITY : 10.0 * log10(signal / noise);
}

double quality_relative(const quality *q)
{
    return q->noise == 0 ? 0.0 : sqrt(q->noise / q->signal);
}

double quality_sqnr(const quality *q) { return snr_decibels(q->signal, q->noise); }

double quality_psnr(const quality *q)
{
    const double peak = q->high - q->low;
    return snr_decibels(peak * peak, q->n ? q->noise / (double)q->n : 0.0);
}

/* ---- images ---- */

static double pixel_luma(const uint8_t *pixel)
{
    return 0.299 * pixel[0] + 0.587 * pixel[1] + 0.114 * pixel[2];
}

/* Weights of one axis; they sum to 1. */
static void fill_window(double weight[WINDOW])
{
    double sum = 0;
    for (int i = 0; i < WINDOW; i++) {
        const double x = (i - WINDOW / 2) / SIGMA;
        weight[i] = exp(-0.5 * x * x);
        sum += weight[i];
    }
    for (int i = 0; i < WINDOW; i++)
        weight[i] /= sum;
}

/* Weighted sums of two lumas, their squares and their product. */
typedef struct moments {
    double r, g, rr, gg, rg;
} moments;

static double ssim_of(const moments *m)
{
    const double c1 = K1 * LEVELS * K1 * LEVELS, c2 = K2 * LEVELS * K2 * LEVELS;
    const double var_r = m->rr - m->r * m->r, var_g = m->gg - m->g * m->g;
    const double cov = m->rg - m->r * m->g;
    return (2 * m->r * m->g + c1) * (2 * cov + c2) /
           ((m->r * m->r + m->g * m->g + c1) * (var_r + var_g + c2));
}

/* The window whose first pixels these are; rows lie `row` bytes apart. */
static double window_ssim(const double weight[WINDOW], const uint8_t *reference, const uint8_t *got,
                          size_t row)
{
    moments m = { 0 };
    for (size_t y = 0; y < WINDOW; y++)
        for (size_t x = 0; x < WINDOW; x++) {
            const double k = weight[y] * weight[x];
            const double r = pixel_luma(reference + y * row + 3 * x),
                         g = pixel_luma(got + y * row + 3 * x);
            m.r += k * r;
            m.g += k * g;
            m.rr += k * r * r;
            m.gg += k * g * g;
            m.rg += k * r * g;
        }
    return ssim_of(&m);
}

static double mean_ssim(const uint8_t *reference, const uint8_t *got, int w, int h)
{
    const size_t row = 3 * (size_t)w;
    double weight[WINDOW], sum = 0;

    fill_window(weight);
    for (int y = 0; y + WINDOW <= h; y++)
        for (int x = 0; x + WINDOW <= w; x++) {
            const size_t at = (size_t)y * row + 3 * (size_t)x;
            sum += window_ssim(weight, reference + at, got + at, row);
        }
    return sum / ((double)(w - WINDOW + 1) * (double)(h - WINDOW + 1));
}

image_quality compare_image_quality(const uint8_t *reference, const uint8_t *got, int w, int h)
{
    const size_t n = (size_t)w * (size_t)h * 3;
    image_quality q = { 0 };
    double noise = 0;

    assert(w >= WINDOW && h >= WINDOW);
    for (size_t i = 0; i < n; i++) {
        const int apart = abs(reference[i] - got[i]);
        noise += apart * apart;
        q.apart = apart > q.apart ? apart : q.apart;
    }
    q.psnr = snr_decibels(LEVELS * LEVELS, noise / (double)n);
    q.ssim = mean_ssim(reference, got, w, h);
    return q;
}
