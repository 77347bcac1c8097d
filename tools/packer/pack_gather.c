/* tools/packer/pack_gather.c -- copy, stack, interleave; convolutions to channels-last.
 *
 * A vector of n elements is treated as n rows of one element, so that the three
 * operations are the same for matrices and biases.
 */
#include "tools/packer/pack_gather.h"

#include "engine/base/num.h"
#include "engine/base/try.h"

#include <assert.h>
#include <string.h>

typedef struct rows_of {
    const weight_source *s;
    int entry;
    size_t k; /* elements of a row */
    dtype to;
} rows_of;

static char *gathered_row(const rows_of *r, void *base, size_t row)
{
    return (char *)base + row * r->k * dtype_bytes(r->to);
}

static refine_status read_rows(const rows_of *r, int part, int row0, int rows, void *dst,
                               refine_error *err)
{
    return r->s->read(r->s, r->entry, part, (uint64_t)row0 * r->k, (size_t)rows * r->k, r->to, dst,
                      err);
}

/* Parts are equally tall. */
static refine_status gather_stacked(const rows_of *r, int row0, int rows, int part_rows, void *dst,
                                    refine_error *err)
{
    int done = 0;
    while (done < rows) {
        const int part = (row0 + done) / part_rows, at = (row0 + done) % part_rows;
        const int n = rows - done < part_rows - at ? rows - done : part_rows - at;
        TRY(read_rows(r, part, at, n, gathered_row(r, dst, (size_t)done), err));
        done += n;
    }
    return REFINE_OK;
}

/* Row 2i is row i of the first half, row 2i + 1 row i of the second. */
static refine_status gather_interleaved(const rows_of *r, int row0, int rows, int half, void *dst,
                                        void *scratch, refine_error *err)
{
    const int values = (row0 + rows + 1) / 2 - (row0 + 1) / 2;
    const int gates = rows - values;
    const size_t bytes = r->k * dtype_bytes(r->to);
    char *value = scratch, *gate = gathered_row(r, scratch, (size_t)values);

    TRY(read_rows(r, 0, (row0 + 1) / 2, values, value, err));
    TRY(read_rows(r, 0, half + row0 / 2, gates, gate, err));
    for (int i = 0; i < rows; i++) {
        char **from = (row0 + i) % 2 ? &gate : &value;
        memcpy(gathered_row(r, dst, (size_t)i), *from, bytes);
        *from += bytes;
    }
    return REFINE_OK;
}

/* [c][taps] -> [taps][c] of every row.  Inlined with a constant for the common 3x3. */
static inline void copy_channels_last(uint16_t *dst, const uint16_t *src, size_t rows, size_t taps,
                                      size_t channels)
{
    for (size_t r = 0; r < rows; r++) {
        for (size_t c = 0; c < channels; c++)
            for (size_t t = 0; t < taps; t++)
                dst[t * channels + c] = src[c * taps + t];
        dst += taps * channels;
        src += taps * channels;
    }
}

static refine_status gather_convolution(const rows_of *r, int row0, int rows, size_t taps,
                                        uint16_t *dst, uint16_t *scratch, refine_error *err)
{
    assert(r->to == DT_F16);
    TRY(read_rows(r, 0, row0, rows, scratch, err));
    if (taps == 9)
        copy_channels_last(dst, scratch, (size_t)rows, 9, r->k / 9);
    else
        copy_channels_last(dst, scratch, (size_t)rows, taps, r->k / taps);
    return REFINE_OK;
}

refine_status pack_gather(const weight_source *s, int entry, int row0, int rows, dtype to,
                          void *dst, void *scratch, refine_error *err)
{
    const weight_entry *e = &s->list.entry[entry];
    const bool vector = e->seg == SEG_VECTORS;
    const size_t taps = (size_t)e->kh * (size_t)e->kw;
    const rows_of r = { s, entry, vector ? 1 : taps * (size_t)e->c_in, to };
    const int all = vector ? e->c_in : e->rows;

    switch (e->op) {
    case WEIGHT_STACK: return gather_stacked(&r, row0, rows, all / e->n_sources, dst, err);
    case WEIGHT_INTERLEAVE: return gather_interleaved(&r, row0, rows, all / 2, dst, scratch, err);
    case WEIGHT_COPY: break;
    }
    if (taps > 1)
        return gather_convolution(&r, row0, rows, taps, dst, scratch, err);
    return read_rows(&r, 0, row0, rows, dst, err);
}

void pack_gather_expect(const weight_source *s, int entry, int row0, int rows)
{
    const weight_entry *e = &s->list.entry[entry];
    const size_t k = (size_t)(weight_elements(e) / (uint64_t)e->rows);

    if (e->seg == SEG_VECTORS)
        return;
    if (e->op == WEIGHT_INTERLEAVE) {
        s->expect(s, entry, 0, (uint64_t)(row0 / 2) * k, (size_t)rows / 2 * k);
        s->expect(s, entry, 0, (uint64_t)(e->rows / 2 + row0 / 2) * k, (size_t)rows / 2 * k);
        return;
    }
    const int part_rows = e->rows / e->n_sources, last = row0 + rows - 1;
    for (int part = row0 / part_rows; part <= last / part_rows; part++) {
        const int at = part == row0 / part_rows ? row0 % part_rows : 0;
        const int end = part == last / part_rows ? last % part_rows + 1 : part_rows;
        s->expect(s, entry, part, (uint64_t)at * k, (size_t)(end - at) * k);
    }
}
