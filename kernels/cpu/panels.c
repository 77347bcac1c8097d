/* kernels/cpu/panels.c -- decode a few rows into the cache, transpose them into a panel.
 *
 * A panel's unit is the word: one F32, or the two BF16 that one instruction multiplies, so that
 * one transposition of words serves both.
 */
#include "kernels/cpu/panels.h"

#include "engine/base/num.h"
#include "kernels/cpu/rows.h"
#include "quant/int8.h"

#include <stdint.h>
#include <string.h>

enum { STRIP = 8, CHUNK = 256 }; /* rows and elements decoded at a time */

pack_source pack_source_of(pack_tile t, int tap, int c0, int n)
{
    pack_source s = { .data = t.data, .type = t.type, .rows = t.rows, .k = n };
    if (t.type == DT_I8G64) {
        s.slab = tap * i8_slabs(t.channels) + c0 / I8_GROUP;
    } else {
        s.stride = (size_t)t.taps * (size_t)t.channels;
        s.data = (const char *)t.data +
                 ((size_t)tap * (size_t)t.channels + (size_t)c0) * dtype_bytes(t.type);
    }
    return s;
}

/* Elements [k0, k0 + n) of row r as floats, group by group. */
static void fetch_groups(float *out, const pack_source *s, int r, int k0, int n)
{
    float group[I8_GROUP];
    for (int k = k0; k < k0 + n;) {
        const int slab = s->slab + k / I8_GROUP, at = k % I8_GROUP;
        const int some = I8_GROUP - at < k0 + n - k ? I8_GROUP - at : k0 + n - k;
        const bool whole = some == I8_GROUP;
        i8_decode_group(whole ? out : group, i8_group(s->data, s->rows, r, slab),
                        i8_scales(s->data, s->rows, slab)[r]);
        if (!whole)
            memcpy(out, group + at, (size_t)some * sizeof *out);
        out += some;
        k += some;
    }
}

static void fetch_floats(float *out, const pack_source *s, int r, int k0, int n)
{
    if (s->type == DT_I8G64)
        fetch_groups(out, s, r, k0, n);
    else
        row_decode(out,
                   (const char *)s->data +
                       ((size_t)r * s->stride + (size_t)k0) * dtype_bytes(s->type),
                   s->type, (size_t)n);
}

static int per_word(const gemm *g) { return GEMM_WORD / (int)dtype_bytes(g->element); }

static bool needs_rounding(const gemm *g, dtype source)
{
    return g->type == DT_BF16 && source != DT_BF16;
}

/* Are its elements operands as they are? */
static bool is_operands(const gemm *g, const pack_source *s)
{
    return s->type == g->element && !needs_rounding(g, s->type);
}

static const char *element_at(const gemm *g, const pack_source *s, int r, int k)
{
    return (const char *)s->data + ((size_t)r * s->stride + (size_t)k) * dtype_bytes(g->element);
}

/* Elements [k0, k0 + n) of row r as operands; zeros where there is no source. */
static void fetch_operands(const gemm *g, void *out, const pack_source *s, int r, int k0, int n)
{
    const size_t size = dtype_bytes(g->element);
    int have = 0;

    if (r < s->rows && k0 < s->k) {
        have = n < s->k - k0 ? n : s->k - k0;
        if (is_operands(g, s)) {
            memcpy(out, element_at(g, s, r, k0), (size_t)have * size);
        } else if (g->element == DT_F32) {
            fetch_floats(out, s, r, k0, have);
            if (needs_rounding(g, s->type))
                gemm_encode(g, out, out, (size_t)have);
        } else {
            float wide[CHUNK];
            fetch_floats(wide, s, r, k0, have);
            gemm_encode(g, out, wide, (size_t)have);
        }
    }
    memset((char *)out + (size_t)have * size, 0, (size_t)(n - have) * size);
}

/* Of k elements of STRIP rows from `row` on, those that can be read where they lie: as whole
 * words. */
static int count_direct_elements(const gemm *g, const pack_source *s, int row, int k)
{
    if (!is_operands(g, s) || row + STRIP > s->rows || s->stride % (size_t)per_word(g) != 0 ||
        (uintptr_t)element_at(g, s, row, 0) % GEMM_WORD != 0)
        return 0;
    return (s->k < k ? s->k : k) / per_word(g) * per_word(g);
}

void pack_panel(const gemm *g, const vec *v, void *panel, int row, int k, pack_source s)
{
    uint32_t strip[STRIP * CHUNK];

    for (int r = 0; r < GEMM_PANEL; r += STRIP) {
        const int ready = count_direct_elements(g, &s, row + r, k);
        if (ready)
            v->transpose((uint32_t *)panel + r, GEMM_PANEL,
                         (const uint32_t *)(const void *)element_at(g, &s, row + r, 0),
                         s.stride / (size_t)per_word(g), STRIP, (size_t)(ready / per_word(g)));
        for (int at = ready; at < k; at += CHUNK) {
            const int n = CHUNK < k - at ? CHUNK : k - at;
            uint32_t *to = (uint32_t *)panel + (size_t)(at / per_word(g)) * GEMM_PANEL + r;
            for (int i = 0; i < STRIP; i++)
                fetch_operands(g, strip + i * CHUNK, &s, row + r + i, at, n);
            v->transpose(to, GEMM_PANEL, strip, CHUNK, STRIP, (size_t)(n / per_word(g)));
        }
    }
}

/* The words of rows [row, row + GEMM_PANEL) of W at k: elements of one row of the source, or of
 * two. */
static void fetch_words(const gemm *g, uint32_t *word, const pack_source *s, int row, int k)
{
    uint16_t low[GEMM_PANEL], high[GEMM_PANEL];

    if (g->element == DT_F32) {
        fetch_operands(g, word, s, k, row, GEMM_PANEL);
        return;
    }
    fetch_operands(g, low, s, k, row, GEMM_PANEL);
    fetch_operands(g, high, s, k + 1, row, GEMM_PANEL);
    for (int i = 0; i < GEMM_PANEL; i++)
        word[i] = low[i] | (uint32_t)high[i] << 16;
}

void pack_transposed(const gemm *g, void *w, int rows, int k, pack_source s)
{
    uint32_t *word = w;

    for (int row = 0; row < rows; row += GEMM_PANEL) {
        int at = 0;
        if (per_word(g) == 1 && is_operands(g, &s) && row + GEMM_PANEL <= s.k)
            for (; at < k && at < s.rows; at++, word += GEMM_PANEL)
                memcpy(word, element_at(g, &s, at, row), GEMM_PANEL * sizeof *word);
        for (; at < k; at += per_word(g), word += GEMM_PANEL)
            fetch_words(g, word, &s, row, at);
    }
}
