/* tests/offload/test_pack.c -- what a pack holds comes out; what is wrong with one is said. */
#define _POSIX_C_SOURCE 200809L
#include "offload/pack.h"

#include "engine/base/mem.h"
#include "engine/base/num.h"
#include "kernels/tensor.h"
#include "tests/support/pack_fixture.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char MERGES[] = "#version: 0.2\nh e\nl l\nhe ll\n";

/* Tokens: a row of 1500 numbers lies across the end of a frame now and then. */
static const fixture_tensor TENSORS[] = {
    { "norm", 0, DT_F32, 1, 1, 1, 300, 0 },        { "bias", 0, DT_F32, 1, 1, 1, 77, 0 },
    { "scale", 0, DT_F32, 1, 1, 1, 40, 1 },        { "text", 1, DT_F16, 300, 1, 1, 64, 128 },
    { "unet.conv", 4, DT_F16, 150, 3, 3, 8, 64 },  { "unet.out", 4, DT_F16, 5, 1, 1, 7, 0 },
    { "tokens", 6, DT_F16, 400, 1, 1, 1500, 256 },
};

enum { N_TENSORS = sizeof TENSORS / sizeof TENSORS[0], TOKENS = N_TENSORS - 1 };

static void make_merges_fixture(pack_fixture *f, fixture_codec codec)
{
    pack_fixture_make(f, TENSORS, N_TENSORS, codec, MERGES);
}

/* Writes the image and opens it. */
static refine_status open_fixture_pack(pack_fixture *f, pack **p, refine_error *err)
{
    *err = (refine_error){ 0 };
    pack_fixture_write(f);
    return pack_open(p, f->path, err);
}

static pack *open_good(pack_fixture *f)
{
    refine_error err;
    pack *p;
    cr_assert_eq(open_fixture_pack(f, &p, &err), REFINE_OK, "%s", err.text);
    return p;
}

/* ---- a good one ---- */

Test(offload_pack, every_chunk_comes_back_in_every_coding)
{
    for (int coding = FIXTURE_RAW; coding <= FIXTURE_MIXED; coding++) {
        pack_fixture f;
        make_merges_fixture(&f, (fixture_codec)coding);
        pack *p = open_good(&f);
        refine_error err;
        cr_assert_eq(n_pack_chunks(p), f.n_chunks);
        for (int i = 0; i < f.n_chunks; i++) {
            void *got = malloc(pack_chunk_at(p, i)->bytes);
            cr_assert_eq(pack_read_chunk(p, i, got, &err), REFINE_OK, "%s", err.text);
            cr_assert_arr_eq(got, f.plain[i], pack_chunk_at(p, i)->bytes);
            free(got);
        }
        pack_close(p);
        pack_fixture_free(&f);
    }
}

Test(offload_pack, every_row_of_the_token_table_comes_back)
{
    for (int coding = FIXTURE_RAW; coding <= FIXTURE_MIXED; coding++) {
        pack_fixture f;
        make_merges_fixture(&f, (fixture_codec)coding);
        pack *p = open_good(&f);
        const pack_tensor *t = pack_tensor_at(p, TOKENS);
        uint16_t row[1500];
        refine_error err;
        for (int k = 0; k < 400; k++) {
            const int i = k * 37 % 400, c = i / 256, in_chunk = i % 256;
            cr_assert_eq(pack_read_row(p, TOKENS, i, row, &err), REFINE_OK, "%s", err.text);
            cr_assert_arr_eq(row, f.plain[t->first_chunk + (uint32_t)c] + in_chunk * 3000, 3000);
        }
        pack_close(p);
        pack_fixture_free(&f);
    }
}

Test(offload_pack, a_row_is_read_by_way_of_the_largest_frame_of_tokens)
{
    for (int codec = FIXTURE_RAW; codec <= FIXTURE_MIXED; codec++) {
        pack_fixture f;
        make_merges_fixture(&f, (fixture_codec)codec);
        pack *p = open_good(&f);
        size_t plain = 0, stored = 0;
        int first, end;
        pack_segment(p, PACK_SEGMENT_TOKENS, &first, &end);
        cr_assert_lt(first, end);
        for (int i = first; i < end; i++)
            for (uint32_t k = 0; k < pack_chunk_at(p, i)->n_frames; k++) {
                const uint32_t frame = pack_chunk_at(p, i)->first_frame + k;
                plain = num_max(plain, pack_frame_at(p, (int)frame)->bytes);
                stored = num_max(stored, pack_frame_at(p, (int)frame)->stored_bytes);
            }
        cr_expect_eq(pack_row_buffer_bytes(p), plain + stored);
        pack_close(p);
        pack_fixture_free(&f);
    }
}

Test(offload_pack, it_answers_about_segments_sizes_names_and_texts)
{
    pack_fixture f;
    int first, end;
    size_t len;
    make_merges_fixture(&f, FIXTURE_RAW);
    pack *p = open_good(&f);
    static const int SEGMENTS[][3] = { { 0, 0, 2 }, { 1, 2, 5 },  { 2, 5, 5 },   { 4, 5, 9 },
                                       { 5, 9, 9 }, { 6, 9, 11 }, { 15, 11, 11 } };
    for (size_t i = 0; i < sizeof SEGMENTS / sizeof SEGMENTS[0]; i++) {
        pack_segment(p, SEGMENTS[i][0], &first, &end);
        cr_assert_eq(first, SEGMENTS[i][1]);
        cr_assert_eq(end, SEGMENTS[i][2]);
    }
    cr_assert_eq(n_pack_tensors(p), N_TENSORS);
    for (int i = 0; i < N_TENSORS; i++)
        cr_assert_str_eq(pack_tensor_name(p, i), TENSORS[i].name);
    cr_assert_eq(pack_tensor_at(p, 1)->at, 1280);
    cr_assert_eq(pack_biggest(p), 128 * 128);
    cr_assert_eq(pack_biggest_stored(p), 128 * 128);
    cr_assert(strstr(pack_meta(p, &len), "fixture"));
    cr_assert_eq(len, strlen(pack_meta(p, &len)));
    cr_assert_str_eq(pack_merges(p, &len), MERGES);
    cr_assert_eq(len, sizeof MERGES - 1);
    cr_assert_eq(pack_super(p)->source_hash, 42);
    cr_assert_str_eq(pack_path(p), f.path);
    pack_close(p);
    pack_fixture_free(&f);
}

/* unet.conv is cut into three chunks, unet.out into one. */
Test(offload_pack, chunks_of_one_matrix_are_grouped_from_its_first_on)
{
    static const int ENDS[][4] = {
        { 1, 2, 3, 4 }, { 1, 2, 3, 4 }, { 2, 2, 3, 4 }, { 3, 3, 3, 4 }, { 3, 3, 3, 4 }
    };
    pack_fixture f;
    pack *p;
    refine_error err;
    int first, end;
    make_merges_fixture(&f, FIXTURE_RAW);
    cr_assert_eq(open_fixture_pack(&f, &p, &err), REFINE_OK, "%s", err.text);
    pack_segment(p, 4, &first, &end);
    cr_assert_eq(end - first, 4);
    for (int most = 0; most < 5; most++)
        for (int i = 0; i < 4; i++)
            cr_expect_eq(pack_group_end(p, first + i, most) - first, ENDS[most][i],
                         "%d together from %d on", most, i);
    pack_close(p);
    pack_fixture_free(&f);
}

Test(offload_pack, one_without_tokenizer_or_tokens_is_fine)
{
    pack_fixture f;
    size_t len;
    pack_fixture_make(&f, TENSORS, TOKENS, FIXTURE_ZSTD, NULL);
    pack *p = open_good(&f);
    cr_assert_null(pack_merges(p, &len));
    cr_assert_eq(len, 0);
    pack_close(p);
    pack_fixture_free(&f);
}

Test(offload_pack, reading_rows_allocates_nothing)
{
    pack_fixture f;
    uint16_t row[1500];
    make_merges_fixture(&f, FIXTURE_SPLIT);
    pack *p = open_good(&f);
    const uint64_t calls = mem_used().calls;
    for (int i = 0; i < 400; i += 50)
        cr_assert_eq(pack_read_row(p, TOKENS, i, row, NULL), REFINE_OK);
    cr_assert_eq(mem_used().calls, calls);
    pack_close(p);
    cr_assert_eq(mem_used().now, 0);
    pack_fixture_free(&f);
}

/* ---- what is not a pack ---- */

Test(offload_pack, what_is_not_a_pack_is_told_apart)
{
    static const struct {
        const char *path, *says;
        refine_status st;
    } CASES[] = {
        { "no/such/file.pack", "cannot be opened", REFINE_EIO },
        { "/", "not a file", REFINE_EIO },
        { "/dev/null", "not a file", REFINE_EIO },
        { "LICENSE", "not a pack", REFINE_EFORMAT },
        { "docs/sample/coffee.jpg", "not a pack", REFINE_EFORMAT },
    };
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        refine_error err;
        pack *p;
        cr_assert_eq(pack_open(&p, CASES[i].path, &err), CASES[i].st);
        cr_assert(strstr(err.text, CASES[i].says), "%s", err.text);
        cr_assert(strstr(err.text, CASES[i].path), "%s", err.text);
        cr_assert_null(p);
    }
}

Test(offload_pack, one_cut_short_anywhere_is_told)
{
    pack_fixture f;
    refine_error err;
    pack *p;
    make_merges_fixture(&f, FIXTURE_MIXED);
    pack_fixture_write(&f);
    for (size_t cut = 0; cut < f.bytes; cut += 1 + f.bytes / 97) {
        cr_assert_eq(truncate(f.path, (off_t)cut), 0);
        cr_assert_eq(pack_open(&p, f.path, &err), REFINE_EFORMAT);
        cr_assert(strstr(err.text, cut < sizeof(pack_superblock) ? "bytes long" : "cut short"),
                  "%s", err.text);
        pack_fixture_write(&f);
    }
    cr_assert_eq(truncate(f.path, (off_t)f.bytes + 1), 0);
    cr_assert_eq(pack_open(&p, f.path, &err), REFINE_EFORMAT);
    cr_assert(strstr(err.text, "added"), "%s", err.text);
    pack_fixture_free(&f);
}

Test(offload_pack, a_flipped_bit_anywhere_but_in_padding_is_found)
{
    pack_fixture f;
    refine_error err;
    pack *p;
    make_merges_fixture(&f, FIXTURE_ZSTD);
    const pack_superblock s = *fixture_super(&f);
    const uint64_t from[] = { 0, s.index_at, s.meta_at, s.tokenizer_at };
    const uint64_t bytes[] = { sizeof s, s.index_bytes, s.meta_bytes, s.tokenizer_bytes };
    for (int k = 0; k < 4; k++)
        for (uint64_t i = 0; i < bytes[k]; i += 1 + bytes[k] / 400) {
            f.file[from[k] + i] ^= (uint8_t)(1 << i % 8);
            cr_assert_eq(open_fixture_pack(&f, &p, &err), REFINE_EFORMAT, "part %d, byte %d", k,
                         (int)i);
            f.file[from[k] + i] ^= (uint8_t)(1 << i % 8);
        }
    pack_close(open_good(&f));
    pack_fixture_free(&f);
}

Test(offload_pack, a_damaged_chunk_is_named_when_it_is_read)
{
    pack_fixture f;
    static uint8_t out[1 << 20];
    uint16_t row[1500];
    refine_error err;
    make_merges_fixture(&f, FIXTURE_MIXED);
    for (int i = 0; i < f.n_chunks; i++)
        f.file[fixture_chunks(&f)[i].file_at + 3] ^= 4;
    pack *p = open_good(&f);
    for (int i = 0; i < f.n_chunks; i++) {
        cr_assert_eq(pack_read_chunk(p, i, out, &err), REFINE_EFORMAT);
        cr_assert(strstr(err.text, pack_tensor_name(p, (int)pack_chunk_at(p, i)->tensor)));
    }
    cr_assert_eq(pack_read_row(p, TOKENS, 0, row, &err), REFINE_EFORMAT);
    cr_assert_eq(pack_read_row(p, TOKENS, 0, row, &err), REFINE_EFORMAT, "kept a bad frame");
    pack_close(p);
    pack_fixture_free(&f);
}

/* ---- hashes right, contents wrong ---- */

#define LIES(X)                                                                                    \
    X(s->version = 2, "version")                                                                   \
    X(s->file_bytes += 4096, "cut short")                                                          \
    X(s->index_at = s->file_bytes - 8, "does not lie in the file")                                 \
    X(s->index_at = UINT64_MAX, "does not lie in the file")                                        \
    X(s->index_bytes = UINT64_MAX, "another length")                                               \
    X(s->n_tensors = UINT32_MAX, "another length")                                                 \
    X(s->n_chunks++, "another length")                                                             \
    X(s->n_frames = UINT32_MAX, "another length")                                                  \
    X(s->names_bytes = UINT64_MAX - 7, "another length")                                           \
    X(s->meta_at = s->file_bytes, "meta data does not lie")                                        \
    X(s->meta_bytes = (uint64_t)1 << 62, "meta data does not lie")                                 \
    X(s->tokenizer_at = s->file_bytes + 1, "tokenizer does not lie")                               \
    X(s->tokenizer_at = s->index_at, "tokenizer does not decode")                                  \
    X(f.file[s->index_at + s->index_bytes - 1] = 'x', "names do not end")                          \
    X(t[2].name_at = (uint32_t)s->names_bytes, "has no name")                                      \
    X(t[3].segment = 16, "wrong segment")                                                          \
    X(t[4].segment = 0, "wrong segment")                                                           \
    X(t[3].segment = 2, "belongs to another")                                                      \
    X(t[3].dtype = DT_I8G64, "wrong rows")                                                         \
    X(t[6].dtype = DT_I8G64, "read by row")                                                        \
    X(t[3].sqnr = 45, "its noise")                                                                 \
    X(t[3].zero = 1, "its noise")                                                                  \
    X(t[3].dtype = 99, "unknown number type")                                                      \
    X(t[1].dtype = DT_F16, "unknown number type")                                                  \
    X(t[3].rows = 0, "impossible shape")                                                           \
    X(t[3].rows++, "too few or too many rows")                                                     \
    X(t[3].rows = UINT32_MAX, "impossible shape")                                                  \
    X(t[3].c_in = UINT32_MAX, "impossible shape")                                                  \
    X(t[3].c_in++, "wrong rows")                                                                   \
    X(t[3].kh = 0, "impossible shape")                                                             \
    X(t[4].kw = 1 << 20, "impossible shape")                                                       \
    X(t[3].first_chunk++, "wrong place")                                                           \
    X(t[3].n_chunks = 0, "wrong place")                                                            \
    X(t[3].n_chunks--, "too few or too many rows")                                                 \
    X(t[6].n_chunks = 90, "inside a tile")                                                         \
    X(t[3].at = 256, "wrong place")                                                                \
    X(t[1].at += 4, "wrong place")                                                                 \
    X(t[1].at = 256, "wrong place")                                                                \
    X(t[1].at = 1 << 20, "does not lie in its chunk")                                              \
    X(t[1].c_in = 90000, "does not lie in its chunk")                                              \
    X(t[1].first_chunk = 7, "wrong place")                                                         \
    X(t[1].n_chunks = 2, "wrong place")                                                            \
    X(c[0].rows = 1, "has rows")                                                                   \
    X(c[2].tensor = 0, "belongs to another")                                                       \
    X(c[2].segment = 4, "belongs to another")                                                      \
    X(c[2].file_at += 8, "does not lie in the file")                                               \
    X(c[2].file_at = 0, "does not lie in the file")                                                \
    X(c[3].file_at = c[2].file_at, "does not lie in the file")                                     \
    X(c[10].file_at = UINT64_MAX / 4096 * 4096, "does not lie in the file")                        \
    X(c[2].bytes = 0, "wrong size")                                                                \
    X(c[2].bytes = UINT32_MAX, "wrong size")                                                       \
    X(c[2].stored_bytes = UINT32_MAX, "wrong size")                                                \
    X(c[2].bytes -= 2, "add up")                                                                   \
    X(c[2].stored_bytes -= 2, "add up")                                                            \
    X(c[2].row0 = 1, "wrong rows")                                                                 \
    X(c[2].rows = 0, "wrong rows")                                                                 \
    X(c[2].n_frames = 0, "frames in the wrong place")                                              \
    X(c[2].n_frames = UINT32_MAX, "frames in the wrong place")                                     \
    X(c[2].first_frame = 0, "frames in the wrong place")                                           \
    X(fr[2].bytes = 0, "wrong size")                                                               \
    X(fr[2].bytes = PACK_FRAME + 1, "wrong size")                                                  \
    X(fr[2].bytes++, "add up")                                                                     \
    X(fr[2].stored_bytes = 0, "wrong stored size")                                                 \
    X(fr[2].stored_bytes = fr[2].bytes + 1, "wrong stored size")                                   \
    X(fr[2].zero = 1, "wrong stored size")                                                         \
    X(fr[2].codec = 3, "unknown coding")                                                           \
    X(fr[2].codec = PACK_RAW, "two sizes")                                                         \
    X(fr[9].bytes -= 2, "wrong size")                                                              \
    X((c[2].rows = 100, c[2].bytes = 12800, fr[2].bytes = 12800), "inside a tile")

Test(offload_pack, each_lie_with_right_hashes_is_caught_and_said)
{
    pack_fixture f;
    refine_error err;
    pack *p;
    pack_superblock *s;
    pack_tensor *t;
    pack_chunk *c;
    pack_frame *fr;

#define TRY_LIE(lie, says)                                                                         \
    make_merges_fixture(&f, FIXTURE_ZSTD);                                                         \
    s = fixture_super(&f);                                                                         \
    t = fixture_tensors(&f);                                                                       \
    c = fixture_chunks(&f);                                                                        \
    fr = fixture_frames(&f);                                                                       \
    (void)s, (void)t, (void)c, (void)fr;                                                           \
    (void)(lie);                                                                                   \
    pack_fixture_rehash(f.file, f.bytes);                                                          \
    cr_assert_eq(open_fixture_pack(&f, &p, &err), REFINE_EFORMAT, "%s", #lie);                     \
    cr_assert(strstr(err.text, says), "%s: %s", #lie, err.text);                                   \
    pack_fixture_free(&f);

    LIES(TRY_LIE)
}

/* Readers read whole blocks. */
Test(offload_pack, a_last_chunk_without_its_padding_does_not_lie_in_the_file)
{
    pack_fixture f;
    refine_error err;
    pack *p;
    pack_fixture_make(&f, TENSORS, TOKENS, FIXTURE_ZSTD, MERGES);
    fixture_chunks(&f)[f.n_chunks - 1].file_at = f.bytes - PACK_ALIGN;
    pack_fixture_rehash(f.file, f.bytes);
    pack_close(open_good(&f));
    f.bytes -= 8;
    fixture_super(&f)->file_bytes = f.bytes;
    pack_fixture_rehash(f.file, f.bytes);
    cr_assert_eq(open_fixture_pack(&f, &p, &err), REFINE_EFORMAT);
    cr_assert(strstr(err.text, "does not lie in the file"), "%s", err.text);
    pack_fixture_free(&f);
}

/* ---- int8 ---- */

/* Rows and channels that end in the middle of an eight and of a group. */
static const fixture_tensor INT8[] = {
    { "norm", 0, DT_F32, 1, 1, 1, 300, 0 },
    { "unet.linear", 4, DT_I8G64, 300, 1, 1, 200, 128 },
    { "unet.conv", 4, DT_I8G64, 133, 3, 3, 72, 64 },
    { "unet.out", 4, DT_F16, 5, 1, 1, 7, 0 },
};

Test(offload_pack, int8_chunks_are_whole_tiles_of_padded_rows)
{
    static const uint32_t BYTES[] = { 128 * 4 * 66, 128 * 4 * 66, 48 * 4 * 66,
                                      64 * 18 * 66, 64 * 18 * 66, 8 * 18 * 66 };
    pack_fixture f;
    pack_fixture_make(&f, INT8, 4, FIXTURE_ZSTD, NULL);
    pack *p = open_good(&f);
    for (int i = 0; i < 6; i++)
        cr_expect_eq(pack_chunk_at(p, i + 1)->bytes, BYTES[i]);
    cr_expect_eq(pack_tensor_at(p, 1)->sqnr, 45);
    pack_close(p);
    pack_fixture_free(&f);
}

#define INT8_LIES(X)                                                                               \
    X(t[1].sqnr = -1, "its noise")                                                                 \
    X(t[1].sqnr = NAN, "its noise")                                                                \
    X(t[1].zero = 1, "its noise")                                                                  \
    X(t[0].dtype = DT_I8G64, "unknown number type")                                                \
    X(t[1].dtype = DT_F16, "its noise")                                                            \
    X((t[1].dtype = DT_F16, t[1].sqnr = 0), "wrong rows")                                          \
    X(t[1].c_in = 256 + 1, "wrong rows")                                                           \
    X(t[1].c_in = 192, "wrong rows")                                                               \
    X(t[1].c_in = 1 << 28, "wrong rows")                                                           \
    X((t[2].kh = t[2].kw = 1 << 10, t[2].c_in = t[2].rows = 1 << 28), "too large")                 \
    X(t[2].rows = 128, "too few or too many rows")                                                 \
    X(t[2].rows = 134, "too few or too many rows")                                                 \
    X(c[3].rows = UINT32_MAX, "wrong rows")                                                        \
    X(c[3].rows = 49, "wrong rows")                                                                \
    X((c[1].rows = 127, c[2].row0 = 127), "inside a tile")                                         \
    X(t[1].segment = 1, "belongs to another")

Test(offload_pack, each_lie_about_int8_is_caught_and_said)
{
    pack_fixture f;
    refine_error err;
    pack *p;
    pack_tensor *t;
    pack_chunk *c;

#define TRY_INT8_LIE(lie, says)                                                                    \
    pack_fixture_make(&f, INT8, 4, FIXTURE_ZSTD, NULL);                                            \
    t = fixture_tensors(&f);                                                                       \
    c = fixture_chunks(&f);                                                                        \
    (void)t, (void)c;                                                                              \
    (void)(lie);                                                                                   \
    pack_fixture_rehash(f.file, f.bytes);                                                          \
    cr_assert_eq(open_fixture_pack(&f, &p, &err), REFINE_EFORMAT, "%s", #lie);                     \
    cr_assert(strstr(err.text, says), "%s: %s", #lie, err.text);                                   \
    pack_fixture_free(&f);

    INT8_LIES(TRY_INT8_LIE)

    /* right in all else */
    static const fixture_tensor TABLE[] = { { "tokens", 6, DT_I8G64, 400, 1, 1, 64, 256 } };
    pack_fixture_make(&f, TABLE, 1, FIXTURE_RAW, NULL);
    cr_assert_eq(open_fixture_pack(&f, &p, &err), REFINE_EFORMAT);
    cr_assert(strstr(err.text, "read by row"), "%s", err.text);
    pack_fixture_free(&f);
}

Test(offload_pack, random_lies_never_crash_it)
{
    static uint8_t out[1 << 20];
    uint32_t x = 7;
    int opened = 0;
    pack_fixture f;
    pack_fixture_make(&f, TENSORS, TOKENS, FIXTURE_MIXED, MERGES);
    uint8_t *good = malloc(f.bytes);
    memcpy(good, f.file, f.bytes);
    for (int i = 0; i < 3000; i++) {
        const pack_superblock *s = fixture_super(&f);
        for (int k = 0; k < 2; k++) {
            x = x * 1664525u + 1013904223u;
            const size_t at = i % 2 ? 8 + (x >> 8) % 120
                                    : (size_t)s->index_at + (x >> 8) % (size_t)s->index_bytes;
            f.file[at] = (uint8_t)(x >> 24);
        }
        pack_fixture_rehash(f.file, f.bytes);
        refine_error err;
        pack *p;
        if (open_fixture_pack(&f, &p, &err) == REFINE_OK) {
            opened++;
            for (int c = 0; c < n_pack_chunks(p); c++)
                (void)pack_read_chunk(p, c, out, &err);
        }
        pack_close(p);
        memcpy(f.file, good, f.bytes);
    }
    cr_assert_gt(opened, 10);
    free(good);
    pack_fixture_free(&f);
}

Test(offload_pack, each_failing_allocation_leaves_nothing_behind)
{
    pack_fixture f;
    refine_error err;
    pack *p = NULL;
    make_merges_fixture(&f, FIXTURE_MIXED);
    pack_fixture_write(&f);
    int k = 0;
    for (;; k++) {
        mem_fail_after(k, MEM_FAIL_ONCE);
        const refine_status st = pack_open(&p, f.path, &err);
        if (st == REFINE_OK)
            break;
        cr_assert_eq(st, REFINE_ENOMEM, "%s", err.text);
        cr_assert_null(p);
        cr_assert_eq(mem_used().now, 0);
    }
    mem_fail_after(-1, MEM_FAIL_ONCE);
    cr_assert_geq(k, 10);
    static uint8_t out[1 << 20];
    for (k = 0; k < 3; k++) {
        mem_fail_after(k, MEM_FAIL_ONCE);
        cr_assert_eq(pack_read_chunk(p, 4, out, &err), REFINE_ENOMEM);
    }
    mem_fail_after(-1, MEM_FAIL_ONCE);
    pack_close(p);
    cr_assert_eq(mem_used().now, 0);
    pack_fixture_free(&f);
}
