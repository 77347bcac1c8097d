/* kernels/cpu/gemm_body.h -- the body of gemm.h for vectors of LANES floats.
 *
 * Included once for each variant, by gemm_*.c, which define (all but LANES anew each time)
 *
 *     LANES            floats of a vector
 *     VECTORS          of rows that are multiplied at once: VECTORS * LANES is 16 or 32
 *     PIXELS           multiplied at once, at most; PIXELS * VECTORS sums stay in registers
 *     STEP(d, a, w)    d + the product of each word: of one F32, or of a pair of BF16
 *     FLIP             1: words are taken in the order 1, 0, 3, 2...; else 0
 *     BEGIN, END       around a call: its floating-point environment
 *     NAME, TYPE, ELEMENT, VARIANT
 *
 * A tile is PIXELS pixels times VECTORS vectors of rows.  Its sums stay in registers for DEPTH
 * words of k and go to D then; the next DEPTH words go on from there, so DEPTH changes no bit.
 * DEPTH words of a panel stay in the first cache while all pixels pass, those of all pixels in the
 * second while all panels pass:
 *
 *     for DEPTH words of k;  for VECTORS * LANES rows;  for PIXELS pixels:  tile
 */
#include "kernels/cpu/gemm_variants.h"

#include <stdint.h>
#include <string.h>

#define PASTE_(a, b) a##_##b
#define PASTE(a, b)  PASTE_(a, b)
#define BODY(name)   PASTE(VARIANT, name) /* several bodies share a file */

#ifndef INLINE
#define INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

typedef float vf __attribute__((vector_size(4 * LANES)));
typedef int32_t vi __attribute__((vector_size(4 * LANES)));

enum { DEPTH = 256, PER_PANEL = GEMM_PANEL / LANES }; /* DEPTH: even, for FLIP */

INLINE vf load(const void *p)
{
    vf v;
    memcpy(&v, p, sizeof v);
    return v;
}

/* Every lane the word at p, whatever its bits are. */
INLINE vf splat(const char *p)
{
    int32_t word;
    memcpy(&word, p, sizeof word);
    return (vf)(word - (vi){ 0 });
}
#endif

/* `words` words of n pixels and `vectors` vectors of rows; w: where the first panel's words begin.
 * Inlined with constant n and vectors, and unrolled, so that d[][] is registers. */
INLINE void BODY(tile)(float *to, size_t to_stride, const char *a, size_t a_bytes, int n,
                       const char *w, size_t panel_bytes, int vectors, int words, bool add)
{
    vf d[PIXELS][VECTORS];
    const char *row[(PIXELS + 2) / 3]; /* of every third pixel: fewer addresses to keep */

    for (int p = 0; p < n; p += 3)
        row[p / 3] = a + (size_t)p * a_bytes;
    UNROLL
    for (int p = 0; p < n; p++)
        UNROLL
        for (int v = 0; v < vectors; v++)
            d[p][v] = add ? load(to + (size_t)p * to_stride + v * LANES) : (vf){ 0 };

    for (int k = 0; k < words; k++) {
        vf rows[VECTORS];
        UNROLL
        for (int v = 0; v < vectors; v++)
            rows[v] = load(w + (size_t)(v / PER_PANEL) * panel_bytes +
                           ((k ^ FLIP) * PER_PANEL + v % PER_PANEL) * (int)sizeof(vf));
        UNROLL
        for (int p = 0; p < n; p++) {
            const vf pixel = splat(row[p / 3] + (size_t)(p % 3) * a_bytes +
                                   (k ^ FLIP) * GEMM_WORD);
            UNROLL
            for (int v = 0; v < vectors; v++)
                d[p][v] = STEP(d[p][v], pixel, rows[v]);
        }
    }
    UNROLL
    for (int p = 0; p < n; p++)
        UNROLL
        for (int v = 0; v < vectors; v++)
            memcpy(to + (size_t)p * to_stride + v * LANES, &d[p][v], sizeof(vf));
}

/* The same for n pixels that are known at run time. */
INLINE void BODY(some_pixels)(float *d, size_t d_stride, const char *a, size_t a_bytes, int n,
                              const char *w, size_t panel_bytes, int vectors, int words, bool add)
{
    switch (n) {
#define CASE(i)                                                                                    \
    case i:                                                                                        \
        BODY(tile)(d, d_stride, a, a_bytes, i, w, panel_bytes, vectors, words, add);              \
        break;
#if PIXELS > 6
        CASE(14) CASE(13) CASE(12) CASE(11) CASE(10) CASE(9) CASE(8) CASE(7)
#endif
#if PIXELS > 4
        CASE(6) CASE(5)
#endif
#if PIXELS > 2
        CASE(4) CASE(3)
#endif
        CASE(2) CASE(1)
#undef CASE
    }
}

/* All pixels, as few groups and as even as can be. */
INLINE void BODY(all_pixels)(float *d, size_t d_stride, const char *a, size_t a_bytes, int pixels,
                             const char *w, size_t panel_bytes, int vectors, int words, bool add)
{
    int groups = (pixels + PIXELS - 1) / PIXELS;
    for (int p = 0; p < pixels; groups--) {
        const int n = (pixels - p + groups - 1) / groups;
        BODY(some_pixels)(d + (size_t)p * d_stride, d_stride, a + (size_t)p * a_bytes, a_bytes, n,
                          w, panel_bytes, vectors, words, add);
        p += n;
    }
}

static void BODY(multiply)(float *d, size_t d_stride, const char *a, size_t a_bytes, int pixels,
                           const char *w, int panels, int k, bool add)
{
    const size_t panel_bytes = gemm_panel_bytes(ELEMENT, k);
    const int at_once = VECTORS / PER_PANEL, words = k * (int)dtype_bytes(ELEMENT) / GEMM_WORD;

    BEGIN;
    for (int from = 0; from < words; from += DEPTH) {
        const int some = words - from < DEPTH ? words - from : DEPTH;
        const char *pixel = a + (size_t)from * GEMM_WORD;
        int i = 0;
        for (; i + at_once <= panels; i += at_once)
            BODY(all_pixels)(d + i * GEMM_PANEL, d_stride, pixel, a_bytes, pixels,
                             w + (size_t)i * panel_bytes + (size_t)from * GEMM_PANEL * GEMM_WORD,
                             panel_bytes, VECTORS, some, add || from > 0);
        for (; i < panels; i++)
            BODY(all_pixels)(d + i * GEMM_PANEL, d_stride, pixel, a_bytes, pixels,
                             w + (size_t)i * panel_bytes + (size_t)from * GEMM_PANEL * GEMM_WORD,
                             panel_bytes, PER_PANEL, some, add || from > 0);
    }
    END;
}

const gemm VARIANT = {
    .name = NAME, .type = TYPE, .element = ELEMENT, .multiply = BODY(multiply)
};

#undef VECTORS
#undef PIXELS
#undef STEP
#undef FLIP
#undef BEGIN
#undef END
#undef NAME
#undef TYPE
#undef ELEMENT
#undef VARIANT
