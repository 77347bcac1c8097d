/* tests/tools/test_pack_cut.c -- every row in one chunk, every chunk of whole tiles. */
#include "engine/base/mem.h"
#include "kernels/tensor.h"
#include "tools/packer/pack_cut.h"

#include <criterion/criterion.h>
#include <string.h>

static const size_t SIZES[] = { PACK_CHUNK_MIN, 1 << 20, 4 << 20, (4 << 20) + 1, PACK_CHUNK_MAX };

/* A cut of each chunk size, of both models, in both kinds of weights. */
static void for_all(void (*check)(const pack_cut *c, const weight_list *l, size_t chunk_bytes))
{
    const model_config *const models[] = { &MODEL_TINY, &MODEL_REFINER };
    for (size_t m = 0; m < 4; m++)
        for (size_t i = 0; i < sizeof SIZES / sizeof SIZES[0]; i++) {
            weight_list l;
            pack_cut c;
            cr_assert_eq(weight_list_build(&l, models[m % 2]), REFINE_OK);
            cr_assert_eq(pack_cut_build(&c, &l, (weights_kind)(m / 2), SIZES[i], NULL), REFINE_OK);
            cr_assert_eq(c.n_tensors, l.n);
            check(&c, &l, SIZES[i]);
            pack_cut_free(&c);
            weight_list_free(&l);
        }
    cr_assert_eq(mem_used().now, 0u);
}

/* As the format says it, without its functions. */
static size_t expected_rows_bytes(const weight_entry *e, uint32_t type, uint32_t rows)
{
    const size_t taps = (size_t)e->kh * (size_t)e->kw, channels = (size_t)e->c_in;
    return type == DT_I8G64 ? (rows + 7) / 8 * 8 * taps * ((channels + 63) / 64) * 66
                            : rows * taps * channels * 2;
}

static void check_cut_rows(const pack_cut *c, const weight_list *l, size_t chunk_bytes)
{
    int chunk = 0;
    for (int i = 0; i < l->n; i++) {
        const weight_entry *e = &l->entry[i];
        const pack_tensor *t = &c->tensor[i];
        const uint32_t tile = (uint32_t)tile_rows(e->kh, e->kw);
        uint32_t next = 0;

        cr_assert_str_eq(c->names + t->name_at, e->name);
        if (e->seg == SEG_VECTORS) {
            chunk = (int)t->first_chunk + 1;
            continue;
        }
        cr_assert(t->dtype == DT_F16 || t->dtype == DT_I8G64);
        cr_assert_eq(t->first_chunk, (uint32_t)chunk);
        for (uint32_t k = 0; k < t->n_chunks; k++) {
            const pack_chunk *p = &c->chunk[chunk++];
            cr_assert_eq(p->tensor, (uint32_t)i);
            cr_assert_eq(p->row0, next);
            cr_assert(p->rows % tile == 0 || k + 1 == t->n_chunks);
            cr_assert_eq(p->bytes, expected_rows_bytes(e, t->dtype, p->rows));
            cr_assert(p->bytes <= chunk_bytes || p->rows <= tile);
            cr_assert_leq(expected_rows_bytes(e, DT_F16, p->rows), c->biggest_dense);
            cr_assert(t->dtype != DT_I8G64 ||
                      expected_rows_bytes(e, DT_F16, tile) * 2 <= c->biggest_tile);
            /* As many tiles as fit: one more would not. */
            cr_assert(k + 1 == t->n_chunks ||
                      expected_rows_bytes(e, t->dtype, p->rows + tile) > chunk_bytes);
            next += p->rows;
        }
        cr_assert_eq(next, (uint32_t)e->rows);
    }
    cr_assert_eq(chunk, c->n_chunks);
}

Test(tools_pack_cut, chunks_cover_the_rows_of_a_matrix_once_in_whole_tiles)
{
    for_all(check_cut_rows);
}

static void check_vectors(const pack_cut *c, const weight_list *l, size_t chunk_bytes)
{
    uint64_t end = 0;
    uint32_t chunk = UINT32_MAX;
    for (int i = 0; i < l->n && l->entry[i].seg == SEG_VECTORS; i++) {
        const pack_tensor *t = &c->tensor[i];
        const pack_chunk *k = &c->chunk[t->first_chunk];
        const uint64_t bytes = weight_elements(&l->entry[i]) * 4;
        if (t->first_chunk != chunk) {
            cr_assert_eq(t->at, 0u);
            cr_assert_eq(k->tensor, (uint32_t)i);
            chunk = t->first_chunk;
        } else {
            cr_assert_geq(t->at, end);
            cr_assert_leq(k->bytes, chunk_bytes);
        }
        cr_assert_eq(t->dtype, DT_F32);
        cr_assert_eq(t->at % PACK_VECTOR_ALIGN, 0u);
        end = t->at + bytes;
        cr_assert_leq(end, k->bytes);
        cr_assert_eq(k->rows + k->row0, 0u);
    }
}

Test(tools_pack_cut, vectors_share_chunks_without_touching) { for_all(check_vectors); }

static void check_cut_frames(const pack_cut *c, const weight_list *l, size_t chunk_bytes)
{
    uint32_t frames = 0;
    uint64_t bytes = 0, weights = 0;
    size_t biggest = 0;
    (void)chunk_bytes;
    for (int i = 0; i < c->n_chunks; i++) {
        const pack_chunk *k = &c->chunk[i];
        cr_assert_eq(k->first_frame, frames);
        cr_assert_geq((uint64_t)k->n_frames * PACK_FRAME, k->bytes);
        cr_assert_lt((uint64_t)(k->n_frames - 1) * PACK_FRAME, k->bytes);
        frames += k->n_frames;
        bytes += k->bytes;
        biggest = k->bytes > biggest ? k->bytes : biggest;
    }
    for (int i = 0; i < l->n; i++)
        if (l->entry[i].seg != SEG_VECTORS)
            weights += expected_rows_bytes(&l->entry[i], c->tensor[i].dtype, c->tensor[i].rows);
    cr_assert_eq(frames, c->n_frames);
    cr_assert_eq(bytes, c->bytes);
    cr_assert_eq(biggest, c->biggest);
    cr_assert_geq(bytes, weights);
}

Test(tools_pack_cut, frames_and_sizes_add_up) { for_all(check_cut_frames); }

static void check_cut_tiles(const pack_cut *c, const weight_list *l, size_t chunk_bytes)
{
    uint32_t tiles = 0;
    (void)chunk_bytes;
    for (int i = 0; i < l->n; i++) {
        const uint32_t tile = (uint32_t)tile_rows(l->entry[i].kh, l->entry[i].kw);
        const pack_tensor *t = &c->tensor[i];
        if (t->at == 0)
            cr_assert_eq(c->first_tile[t->first_chunk], tiles);
        tiles += ((uint32_t)l->entry[i].rows + tile - 1) / tile;
    }
    cr_assert_eq(tiles, c->n_tiles);
}

Test(tools_pack_cut, the_number_of_tiles_does_not_depend_on_the_chunks)
{
    for_all(check_cut_tiles);
}

Test(tools_pack_cut, a_row_too_long_for_the_format_is_refused)
{
    model_config big = MODEL_TINY;
    weight_list l;
    pack_cut c;
    refine_error err = { 0 };
    big.text.mlp = 1 << 20; /* beyond what model_config_check admits */
    cr_assert_eq(weight_list_build(&l, &big), REFINE_OK);
    cr_assert_eq(pack_cut_build(&c, &l, WEIGHTS_FP16, 4 << 20, &err), REFINE_EFORMAT);
    cr_assert_not_null(strstr(err.text, "mlp"), "%s", err.text);
    weight_list_free(&l);
    cr_assert_eq(mem_used().now, 0u);
}

Test(tools_pack_cut, survives_the_failure_of_any_allocation)
{
    weight_list l;
    pack_cut c;
    long k = 0;
    cr_assert_eq(weight_list_build(&l, &MODEL_TINY), REFINE_OK);
    const uint64_t before = mem_used().now;
    for (;; k++) {
        mem_fail_after(k, MEM_FAIL_ONCE);
        const refine_status st = pack_cut_build(&c, &l, WEIGHTS_INT8, 1 << 20, NULL);
        mem_fail_after(-1, MEM_FAIL_ONCE);
        if (st == REFINE_OK)
            break;
        cr_assert_eq(st, REFINE_ENOMEM);
        cr_assert_eq(mem_used().now, before);
    }
    cr_assert_geq(k, 10);
    pack_cut_free(&c);
    weight_list_free(&l);
}
