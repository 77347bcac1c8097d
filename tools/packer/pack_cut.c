/* tools/packer/pack_cut.c -- chunks of whole tiles.
 *
 * A matrix becomes chunks of as many tiles as fit, at least one.  Vectors follow each
 * other at aligned offsets until a chunk is full; a longer one has a chunk of its own.
 * A tile of a vector is the whole vector.
 */
#include "tools/packer/pack_cut.h"

#include "engine/base/mem.h"
#include "engine/base/num.h"
#include "engine/base/try.h"
#include "kernels/tensor.h"
#include "offload/pack.h"

#include <assert.h>
#include <string.h>

/* NULL: out of memory. */
static pack_chunk *append_cut_chunk(pack_cut *c)
{
    /* Powers of two: full when n is one. */
    if ((c->n_chunks & (c->n_chunks - 1)) == 0) {
        const size_t cap = c->n_chunks ? 2 * (size_t)c->n_chunks : 1;
        pack_chunk *chunk = mem_realloc(c->chunk, cap * sizeof *chunk);
        if (chunk)
            c->chunk = chunk;
        uint32_t *tile = chunk ? mem_realloc(c->first_tile, cap * sizeof *tile) : NULL;
        if (!tile)
            return NULL;
        c->first_tile = tile;
    }
    c->first_tile[c->n_chunks] = c->n_tiles;
    pack_chunk *k = &c->chunk[c->n_chunks++];
    *k = (pack_chunk){ 0 };
    return k;
}

/* dense: its bytes in the number type it is gathered in. */
static void finish_chunk(pack_cut *c, pack_chunk *k, uint64_t dense)
{
    k->first_frame = c->n_frames;
    k->n_frames = (k->bytes + PACK_FRAME - 1) / PACK_FRAME;
    c->n_frames += k->n_frames;
    c->bytes += k->bytes;
    c->biggest = num_max(c->biggest, k->bytes);
    c->biggest_dense = num_max(c->biggest_dense, (size_t)dense);
}

static refine_status add_matrix(pack_cut *c, const weight_entry *e, int entry, size_t chunk_bytes,
                                refine_error *err)
{
    const uint64_t row_elements = weight_elements(e) / (uint64_t)e->rows;
    const int tile = tile_rows(e->kh, e->kw);
    pack_tensor *t = &c->tensor[entry];
    uint64_t tile_bytes, bytes;

    if (!pack_rows_bytes(t, (uint64_t)tile, &tile_bytes) || tile_bytes > PACK_CHUNK_MAX)
        return refine_fail(err, REFINE_EFORMAT, "%s: its rows are too long for a pack", e->name);
    if (t->dtype == DT_I8G64)
        c->biggest_tile = num_max(c->biggest_tile,
                                  (size_t)row_elements * (size_t)tile * sizeof(float));
    const uint64_t tiles = num_max(chunk_bytes / tile_bytes, 1);
    t->first_chunk = (uint32_t)c->n_chunks;
    for (int row = 0; row < e->rows;) {
        const uint64_t left = (uint64_t)(e->rows - row), most = tiles * (uint64_t)tile;
        const int rows = (int)(left < most ? left : most);
        pack_chunk *k = append_cut_chunk(c);
        if (!k)
            return refine_fail(err, REFINE_ENOMEM, "out of memory");
        k->tensor = (uint32_t)entry;
        k->segment = (uint32_t)e->seg;
        k->row0 = (uint32_t)row;
        k->rows = (uint32_t)rows;
        /* no more than `tiles` tiles have: it fits */
        (void)pack_rows_bytes(t, (uint64_t)rows, &bytes);
        k->bytes = (uint32_t)bytes;
        c->n_tiles += (uint32_t)((rows + tile - 1) / tile);
        finish_chunk(c, k, row_elements * (uint64_t)rows * sizeof(uint16_t));
        row += rows;
    }
    t->n_chunks = (uint32_t)c->n_chunks - t->first_chunk;
    return REFINE_OK;
}

/* Vectors [first, end) of the layout. */
static refine_status add_vectors(pack_cut *c, const weight_list *l, int first, int end,
                                 size_t chunk_bytes, refine_error *err)
{
    pack_chunk *k = NULL;
    for (int i = first; i < end; i++) {
        const uint64_t bytes = weight_elements(&l->entry[i]) * sizeof(float);
        uint64_t at = k ? num_align(k->bytes, PACK_VECTOR_ALIGN) : 0;

        assert(l->entry[i].rows == 1 && l->entry[i].kh == 1 && l->entry[i].kw == 1);
        if (bytes > PACK_CHUNK_MAX)
            return refine_fail(err, REFINE_EFORMAT, "%s: too long for a pack", l->entry[i].name);
        if (!k || at + bytes > chunk_bytes) {
            if (k)
                finish_chunk(c, k, k->bytes);
            k = append_cut_chunk(c);
            if (!k)
                return refine_fail(err, REFINE_ENOMEM, "out of memory");
            k->tensor = (uint32_t)i;
            k->segment = SEG_VECTORS;
            at = 0;
        }
        k->bytes = (uint32_t)(at + bytes);
        c->n_tiles++;
        c->tensor[i].at = (uint32_t)at;
        c->tensor[i].first_chunk = (uint32_t)c->n_chunks - 1;
        c->tensor[i].n_chunks = 1;
    }
    if (k)
        finish_chunk(c, k, k->bytes);
    return REFINE_OK;
}

static refine_status add_tensors(pack_cut *c, const weight_list *l, weights_kind kind,
                                 refine_error *err)
{
    size_t at = 0;
    for (int i = 0; i < l->n; i++)
        c->names_bytes += strlen(l->entry[i].name) + 1;
    c->tensor = mem_calloc((size_t)l->n, sizeof *c->tensor);
    c->names = mem_alloc(c->names_bytes);
    if (!c->tensor || !c->names)
        return refine_fail(err, REFINE_ENOMEM, "out of memory");
    for (int i = 0; i < l->n; i++) {
        const weight_entry *e = &l->entry[i];
        const size_t bytes = strlen(e->name) + 1;
        c->tensor[i] = (pack_tensor){ .name_at = (uint32_t)at,
                                      .segment = (uint32_t)e->seg,
                                      .dtype = (uint32_t)weights_type(kind, e),
                                      .rows = (uint32_t)e->rows,
                                      .kh = (uint32_t)e->kh,
                                      .kw = (uint32_t)e->kw,
                                      .c_in = (uint32_t)e->c_in };
        memcpy(c->names + at, e->name, bytes);
        at += bytes;
    }
    c->n_tensors = l->n;
    return REFINE_OK;
}

refine_status pack_cut_build(pack_cut *out, const weight_list *l, weights_kind kind,
                             size_t chunk_bytes, refine_error *err)
{
    refine_status st;
    int first, end;

    assert(chunk_bytes >= PACK_CHUNK_MIN && chunk_bytes <= PACK_CHUNK_MAX);
    *out = (pack_cut){ 0 };
    TRY_OR(fail, add_tensors(out, l, kind, err));
    weight_list_segment(l, SEG_VECTORS, &first, &end);
    assert(first == 0);
    TRY_OR(fail, add_vectors(out, l, first, end, chunk_bytes, err));
    for (int i = end; i < l->n; i++)
        TRY_OR(fail, add_matrix(out, &l->entry[i], i, chunk_bytes, err));
    return REFINE_OK;

fail:
    pack_cut_free(out);
    return st;
}

void pack_cut_free(pack_cut *c)
{
    mem_free(c->tensor);
    mem_free(c->chunk);
    mem_free(c->first_tile);
    mem_free(c->names);
    *c = (pack_cut){ 0 };
}
