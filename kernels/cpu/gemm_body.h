/* kernels/cpu/gemm_body.h -- the body of gemm.h for vectors of LANES floats.
 *
 * Included once for each variant, by gemm_*.c, which define (all but LANES anew each time)
 *
 *     LANES            floats of a vector
 *     VECTORS          of rows that are multiplied at once: VECTORS * LANES is 16 or 32
 *     PIXELS           multiplied at once, at most; PIXELS * VECTORS sums stay in registers
 *     DEPTH            words of k that are multiplied at once, even
 *     STEP(d, a, w)    d + the product of each word: of one F32, or of a pair of BF16
 *     FLIP             1: words are taken in the order 1, 0, 3, 2...; else 0
 *     BEGIN, END       around a call: its floating-point environment
 *     NAME, TYPE, ELEMENT, VARIANT
 *
 * A tile is PIXELS pixels times VECTORS vectors of rows.  Its sums stay in registers for DEPTH
 * words of k and go to D then; the next DEPTH words go on from there, so DEPTH changes no bit.
 * DEPTH words of a tile's pixels stay in the first cache; those of all pixels and of a panel, which
 * is read along, in the second:
 *
 *     for DEPTH words of k;  for VECTORS * LANES rows;  for PIXELS pixels:  tile
 */
#include "kernels/cpu/gemm_variants.h"

#include "engine/base/guard.h"

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

enum { PER_PANEL = GEMM_PANEL / LANES };

typedef void gemm_tile(float *d, size_t d_stride, const char *a, size_t a_bytes, const char *w,
                       size_t panel_bytes, int vectors, int words, bool add);

INLINE vf load_vector(const void *p)
{
    vf v;
    memcpy(&v, p, sizeof v);
    return v;
}

/* Every lane the word at p, whatever its bits are. */
INLINE vf broadcast_word(const char *p)
{
    int32_t word;
    memcpy(&word, p, sizeof word);
    return (vf)(word - (vi){ 0 });
}
#endif

/* `words` words of n pixels and `vectors` vectors of rows; w: where the first panel's words begin.
 * Inlined with constant n and vectors, and unrolled, so that d[][] is registers. */
GUARD_UNWATCHED
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
            d[p][v] = add ? load_vector(to + (size_t)p * to_stride + v * LANES) : (vf){ 0 };

    int k = 0;
    do {
        vf rows[VECTORS];
        UNROLL
        for (int v = 0; v < vectors; v++)
            rows[v] = load_vector(w + (size_t)(v / PER_PANEL) * panel_bytes +
                                  ((k ^ FLIP) * PER_PANEL + v % PER_PANEL) * (int)sizeof(vf));
        UNROLL
        for (int p = 0; p < n; p++) {
            const vf pixel = broadcast_word(row[p / 3] + (size_t)(p % 3) * a_bytes +
                                            (k ^ FLIP) * GEMM_WORD);
            UNROLL
            for (int v = 0; v < vectors; v++)
                d[p][v] = STEP(d[p][v], pixel, rows[v]);
        }
    } while (++k < words);
    UNROLL
    for (int p = 0; p < n; p++)
        UNROLL
        for (int v = 0; v < vectors; v++)
            memcpy(to + (size_t)p * to_stride + v * LANES, &d[p][v], sizeof(vf));
}

/* tiles[n]: the same for n pixels.  Each is a function of its own, since compilers take minutes
 * over one that holds them all. */
#define TILE(n)                                                                                    \
    GUARD_UNWATCHED                                                                                \
    static void BODY(tile_##n)(float *d, size_t d_stride, const char *a, size_t a_bytes,          \
                               const char *w, size_t panel_bytes, int vectors, int words,         \
                               bool add)                                                           \
    {                                                                                              \
        if (VECTORS == PER_PANEL || vectors == VECTORS)                                            \
            BODY(tile)(d, d_stride, a, a_bytes, n, w, panel_bytes, VECTORS, words, add);          \
        else                                                                                       \
            BODY(tile)(d, d_stride, a, a_bytes, n, w, panel_bytes, PER_PANEL, words, add);        \
    }
#define ENTRY(n) [n] = BODY(tile_##n),
#if PIXELS == 14
#define EACH(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14)
#elif PIXELS == 6
#define EACH(X) X(1) X(2) X(3) X(4) X(5) X(6)
#elif PIXELS == 2
#define EACH(X) X(1) X(2)
#endif
EACH(TILE)
static gemm_tile *const BODY(tiles)[PIXELS + 1] = { EACH(ENTRY) };
#undef TILE
#undef ENTRY
#undef EACH

/* What a tile of n pixels is about to read and write. */
static void BODY(touch)(const float *d, size_t d_stride, const char *a, size_t a_bytes, int n,
                        const char *w, size_t panel_bytes, int vectors, int words)
{
    const size_t read = (size_t)(words + (words & FLIP)) * GEMM_WORD;
    for (int p = 0; p < n; p++) {
        guard_touch(a + (size_t)p * a_bytes, read);
        guard_touch(d + (size_t)p * d_stride, (size_t)vectors * sizeof(vf));
    }
    for (int v = 0; v < vectors; v += PER_PANEL)
        guard_touch(w + (size_t)(v / PER_PANEL) * panel_bytes, GEMM_PANEL * read);
}

/* All pixels, as few groups and as even as can be. */
static void BODY(all_pixels)(float *d, size_t d_stride, const char *a, size_t a_bytes, int pixels,
                             const char *w, size_t panel_bytes, int vectors, int words, bool add)
{
    int groups = (pixels + PIXELS - 1) / PIXELS;
    for (int p = 0; p < pixels; groups--) {
        const int n = (pixels - p + groups - 1) / groups;
        float *to = d + (size_t)p * d_stride;
        const char *from = a + (size_t)p * a_bytes;
        if (guard_watches())
            BODY(touch)(to, d_stride, from, a_bytes, n, w, panel_bytes, vectors, words);
        BODY(tiles)[n](to, d_stride, from, a_bytes, w, panel_bytes, vectors, words, add);
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
#undef DEPTH
#undef STEP
#undef FLIP
#undef BEGIN
#undef END
#undef NAME
#undef TYPE
#undef ELEMENT
#undef VARIANT
