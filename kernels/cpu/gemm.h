/* kernels/cpu/gemm.h -- products of floats: pixels times panels of rows.
 *
 *     D[p][r] (+)= sum over k of A[p][k] W[r][k]        p < pixels, r < 16 * panels
 *
 * A and W are of one type, F32 or BF16; D is F32.  Each D[p][r] is one chain of sums, k ascending,
 * whatever `pixels`, `panels` and the calls that a matrix is cut into:
 *
 *     F32    d = fma(a[k], w[k], d)
 *     BF16   d = fma(a[k], w[k], fma(a[k + 1], w[k + 1], d))      k even
 *
 * and in BF16 subnormal numbers, read or written, count as zero.  That is what AVX512_BF16's
 * vdpbf16ps does; elsewhere the F32 kernel does it with the same bits, on operands that are stored
 * as floats and rounded to BF16, taking the second of each pair first.  Without FMA (base) each
 * product is rounded before it is added.
 *
 * One body (gemm_body.h) is compiled for every instruction set.  A panel is 16 rows of W, a word
 * one F32 or a pair of BF16, and k is a multiple of GEMM_ALIGN:
 *
 *     panel = word [k / elements of a word][16 rows]
 */
#ifndef REFINE_GEMM_H
#define REFINE_GEMM_H

#include "kernels/tensor.h"

enum {
    GEMM_PANEL = 16, /* rows */
    GEMM_ALIGN = 16, /* channels of a pixel and rows of a matrix are padded to a multiple */
    GEMM_WORD = 4    /* bytes */
};

typedef struct gemm {
    const char *name;
    dtype type;    /* what is multiplied */
    dtype element; /* what operands are stored in: `type`, or F32 that is rounded to it */
    /* `panels` consecutive panels times `pixels` pixels that lie a_bytes apart; D's pixels lie
     * d_stride floats apart. */
    void (*multiply)(float *d, size_t d_stride, const char *a, size_t a_bytes, int pixels,
                     const char *w, int panels, int k, bool add);
} gemm;

/* The fastest that this processor can run. */
const gemm *gemm_pick(dtype type);

/* Variant number i, or NULL behind the last; *runs says whether this processor can. */
const gemm *gemm_nth(int i, bool *runs);

/* n floats as operands; `to` may be v where the element is F32. */
void gemm_encode(const gemm *g, void *to, const float *v, size_t n);

/* Are floats or bf16 of type t operands as they are? */
static inline bool gemm_takes(const gemm *g, dtype t) { return t == g->type && t == g->element; }

static inline int gemm_padded(int n) { return (n + GEMM_ALIGN - 1) & -GEMM_ALIGN; }

static inline size_t gemm_panel_bytes(dtype element, int k)
{
    return (size_t)GEMM_PANEL * (size_t)k * dtype_bytes(element);
}

#endif
