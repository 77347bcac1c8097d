/* kernels/cpu/vec.h -- arithmetic on rows of floats, as wide as the CPU allows.
 *
 * One body (vec_body.h) is compiled once for any CPU and once for AVX2; vec_pick chooses.
 * A row is `n` consecutive floats of any n and alignment.  Every function is a fixed
 * sequence of operations per element, or sums in an order that depends on n alone.
 *
 * exp is good to 2e-7 relative; gelu is x * Phi(x) by erfc, good to 5e-7 relative where it
 * is not negligible.
 */
#ifndef REFINE_VEC_H
#define REFINE_VEC_H

#include <stddef.h>
#include <stdint.h>

typedef struct vec {
    void (*scale)(float *v, float by, size_t n);
    void (*add)(float *v, const float *a, size_t n);
    void (*affine)(float *v, const float *slope, const float *offset, size_t n);
    void (*silu)(float *v, size_t n);
    void (*gelu)(float *v, size_t n);
    void (*quick_gelu)(float *v, size_t n);
    /* out[i] = pair[2i] * gelu(pair[2i + 1]); out may be pair. */
    void (*geglu)(float *out, const float *pair, size_t n);

    /* sum[i] += v[i], squares[i] += v[i]^2 */
    void (*moments)(double *sum, double *squares, const float *v, size_t n);
    double (*sum)(const float *v, size_t n);
    double (*squares_about)(const float *v, double mean, size_t n);
    /* v = (v - mean) * by * gain + bias */
    void (*normalise)(float *v, float mean, float by, const float *gain, const float *bias,
                      size_t n);

    float (*max)(const float *v, size_t n); /* n > 0 */
    /* v = exp(v - max), max the largest of v or more; returns the sum. */
    float (*softmax)(float *v, float max, size_t n);

    /* to[c * to_stride + r] = from[r * stride + c] for 32-bit words, r < rows, c < columns. */
    void (*transpose)(uint32_t *to, size_t to_stride, const uint32_t *from, size_t stride,
                      size_t rows, size_t columns);
} vec;

const vec *vec_pick(void);

extern const vec VEC_BASE;
#if defined(__x86_64__)
extern const vec VEC_AVX2;
#endif

#endif
