/* kernels/cpu/panels.c -- decode a few rows into the cache, transpose them into a panel.
 *
 * A panel's unit is the group: one F32, or the two BF16 that one instruction multiplies.
 * Both are 32 bits, so one transposition of words serves both; whatever else a library
 * may ask for goes element by element.
 */
#include "kernels/cpu/panels.h"

#include "engine/base/num.h"
#include "kernels/cpu/rows.h"
#include "quant/int8.h"

#include <string.h>

enum { STRIP = 8, CHUNK = 256 }; /* rows and elements decoded at a time */

pack_source pack_source_tap(const void *tile, dtype type, int rows, int taps, int channels, int tap)
{
    pack_source s = { .type = type, .rows = rows, .k = channels };
    if (type == DT_I8G64) {
        s.data = tile;
        s.slab = tap * i8_slabs(channels);
    } else {
        s.data = (const char *)tile + (size_t)tap * (size_t)channels * dtype_bytes(type);
        s.stride = (size_t)taps * (size_t)channels;
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

/* Elements [k0, k0 + n) of row r in the multiplied type; zeros where there is no source. */
static void fetch(void *out, dtype multiply, const pack_source *s, int r, int k0, int n)
{
    const size_t size = dtype_bytes(multiply);
    int have = 0;

    if (r < s->rows && k0 < s->k) {
        have = n < s->k - k0 ? n : s->k - k0;
        if (multiply == s->type) {
            memcpy(out, (const char *)s->data + ((size_t)r * s->stride + (size_t)k0) * size,
                   (size_t)have * size);
        } else if (multiply == DT_F32) {
            fetch_floats(out, s, r, k0, have);
        } else {
            float wide[CHUNK];
            fetch_floats(wide, s, r, k0, have);
            row_encode(out, multiply, wide, (size_t)have);
        }
    }
    memset((char *)out + (size_t)have * size, 0, (size_t)(n - have) * size);
}

/* Rows [r, r + STRIP) of the panel, a chunk of k at a time. */
static void pack_strip(const vec *v, product_layout l, dtype multiply, uint32_t *panel, int first,
                       int r, const pack_source *s)
{
    uint32_t strip[STRIP * CHUNK];
    const int per_word = l.group;

    for (int k = 0; k < l.k; k += CHUNK) {
        const int n = CHUNK < l.k - k ? CHUNK : l.k - k;
        for (int i = 0; i < STRIP; i++)
            fetch(strip + i * CHUNK, multiply, s, first + r + i, k, n);
        v->transpose(panel + (size_t)(k / per_word) * (size_t)l.panel + (size_t)r, (size_t)l.panel,
                     strip, CHUNK, STRIP, (size_t)(n / per_word));
    }
}

/* The definition of the layout. */
static size_t place(product_layout l, int r, int k)
{
    return (size_t)(k / l.group) * (size_t)(l.panel * l.group) + (size_t)(r * l.group) +
           (size_t)(k % l.group);
}

static void pack_elements(product_layout l, dtype multiply, char *panel, int first,
                          const pack_source *s)
{
    const size_t size = dtype_bytes(multiply);
    char element[4];

    for (int r = 0; r < l.panel; r++)
        for (int k = 0; k < l.k; k++) {
            fetch(element, multiply, s, first + r, k, 1);
            memcpy(panel + place(l, r, k) * size, element, size);
        }
}

void pack_panel(const vec *v, product_layout l, dtype multiply, void *w, int panel, pack_source s)
{
    const size_t size = dtype_bytes(multiply);
    char *to = (char *)w + (size_t)panel * (size_t)l.panel * (size_t)l.k * size;
    const int first = panel * l.panel;

    if (l.panel % STRIP != 0 || (size_t)l.group * size != sizeof(uint32_t)) {
        pack_elements(l, multiply, to, first, &s);
        return;
    }
    for (int r = 0; r < l.panel; r += STRIP)
        pack_strip(v, l, multiply, (uint32_t *)(void *)to, first, r, &s);
}

/* One group of k for every row: `row` holds the group's source rows, zero-padded. */
static void place_group(product_layout l, dtype multiply, void *w, int k, const float *row)
{
    const size_t size = dtype_bytes(multiply);
    const size_t panel_bytes = (size_t)l.panel * (size_t)l.k * size;

    for (int p = 0; p < pack_panels(l); p++) {
        char *to = (char *)w + (size_t)p * panel_bytes + place(l, 0, k) * size;
        const float *from = row + (size_t)p * (size_t)l.panel;
        if (l.group == 1) {
            row_encode(to, multiply, from, (size_t)l.panel);
            continue;
        }
        for (int r = 0; r < l.panel; r++)
            for (int g = 0; g < l.group; g++)
                row_encode(to + (size_t)(r * l.group + g) * size, multiply,
                           from + (size_t)g * (size_t)l.rows + r, 1);
    }
}

void pack_transposed(product_layout l, dtype multiply, void *w, pack_source s, float *row)
{
    for (int k = 0; k < l.k; k += l.group) {
        memset(row, 0, (size_t)l.group * (size_t)l.rows * sizeof *row);
        for (int g = 0; g < l.group && k + g < s.rows; g++)
            row_decode(row + (size_t)g * (size_t)l.rows,
                       (const char *)s.data + (size_t)(k + g) * s.stride * dtype_bytes(s.type),
                       s.type, (size_t)s.k);
        place_group(l, multiply, w, k, row);
    }
}
