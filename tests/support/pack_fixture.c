/* tests/support/pack_fixture.c -- small packs, written straight from offload/pack_format.h. */
#define _POSIX_C_SOURCE 200809L
#include "tests/support/pack_fixture.h"

#include "kernels/tensor.h"
#include "quant/f16.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>
#include <zstd.h>

static const char META[] = "{\"model\":{\"kind\":\"fixture\"}}";

static size_t fixture_round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }

/* ---- an image that grows ---- */

static size_t append_fixture_bytes(pack_fixture *f, const void *data, size_t n)
{
    const size_t at = f->bytes;
    f->file = realloc(f->file, at + n + 1);
    cr_assert_not_null(f->file);
    if (data)
        memcpy(f->file + at, data, n);
    else
        memset(f->file + at, 0, n);
    f->bytes += n;
    return at;
}

static void align_fixture_file(pack_fixture *f)
{
    (void)append_fixture_bytes(f, NULL, fixture_round_up(f->bytes, PACK_ALIGN) - f->bytes);
}

/* ---- what is in it ---- */

/* Few different high bytes, any low ones: weights, as far as a compressor can tell.  Others in each
 * chunk, and in each tensor of another name. */
static void fill_fixture_weights(uint8_t *p, size_t n, uint32_t seed)
{
    uint32_t x = seed * 2654435761u + 1;
    for (size_t i = 0; i < n; i++) {
        x = x * 1664525u + 1013904223u;
        p[i] = (uint8_t)(i % 2 ? 0x38 + (x >> 30) : x >> 24);
    }
}

typedef struct builder {
    pack_fixture *f;
    fixture_codec codec;
    pack_tensor *tensor;
    pack_chunk chunk[FIXTURE_CHUNKS];
    pack_frame *frame;
    size_t n_frames;
} builder;

static pack_codec codec_of(const builder *b)
{
    static const pack_codec turn[] = { PACK_RAW, PACK_ZSTD, PACK_SPLIT };
    switch (b->codec) {
    case FIXTURE_ZSTD: return PACK_ZSTD;
    case FIXTURE_SPLIT: return PACK_SPLIT;
    case FIXTURE_MIXED: return turn[b->n_frames % 3];
    default: return PACK_RAW;
    }
}

static void split_fixture_planes(uint8_t *out, const uint8_t *in, size_t n)
{
    for (size_t i = 0; i < n / 2; i++) {
        out[i] = in[2 * i + 1];
        out[n / 2 + i] = in[2 * i];
    }
}

/* Appends the stored form of n bytes; raw if coding gains nothing. */
static void add_frame(builder *b, const uint8_t *data, size_t n)
{
    static uint8_t planes[PACK_FRAME], coded[2 * PACK_FRAME];
    pack_frame fr = { .bytes = (uint32_t)n, .codec = codec_of(b) };
    const uint8_t *from = data;
    size_t stored = n;

    if (fr.codec == PACK_SPLIT) {
        split_fixture_planes(planes, data, n);
        from = planes;
    }
    if (fr.codec != PACK_RAW)
        stored = ZSTD_compress(coded, sizeof coded, from, n, 1);
    if (fr.codec != PACK_RAW && stored < n) {
        from = coded;
    } else {
        fr.codec = PACK_RAW;
        from = data;
        stored = n;
    }
    fr.stored_bytes = (uint32_t)stored;
    fr.hash = XXH3_64bits(from, stored);
    b->frame = realloc(b->frame, (b->n_frames + 1) * sizeof *b->frame);
    b->frame[b->n_frames++] = fr;
    (void)append_fixture_bytes(b->f, from, stored);
}

static void add_frames(builder *b, pack_chunk *c, const uint8_t *data)
{
    align_fixture_file(b->f);
    c->file_at = b->f->bytes;
    c->first_frame = (uint32_t)b->n_frames;
    for (size_t at = 0; at < c->bytes; at += PACK_FRAME) {
        const size_t left = c->bytes - at;
        add_frame(b, data + at, left < PACK_FRAME ? left : PACK_FRAME);
    }
    c->n_frames = (uint32_t)b->n_frames - c->first_frame;
    c->stored_bytes = (uint32_t)(b->f->bytes - c->file_at);
    align_fixture_file(b->f);
}

static pack_chunk *add_chunk(builder *b, int owner, int segment)
{
    cr_assert_lt(b->f->n_chunks, FIXTURE_CHUNKS);
    pack_chunk *c = &b->chunk[b->f->n_chunks++];
    *c = (pack_chunk){ .tensor = (uint32_t)owner, .segment = (uint32_t)segment };
    return c;
}

/* int8: 64 codes and a scale of two bytes for each group, rows in eights. */
static size_t fixture_rows_bytes(const fixture_tensor *t, int rows)
{
    const size_t taps = (size_t)t->kh * (size_t)t->kw;
    if (t->dtype == DT_I8G64)
        return fixture_round_up((size_t)rows, 8) * taps *
               (fixture_round_up((size_t)t->c_in, 64) / 64) * 66;
    return (size_t)rows * taps * (size_t)t->c_in * dtype_bytes((dtype)t->dtype);
}

static void cut_matrix(builder *b, const fixture_tensor *t, int i)
{
    const int step = t->chunk_rows ? t->chunk_rows : t->rows;
    b->tensor[i].first_chunk = (uint32_t)b->f->n_chunks;
    for (int row = 0; row < t->rows; row += step) {
        pack_chunk *c = add_chunk(b, i, t->segment);
        c->row0 = (uint32_t)row;
        c->rows = (uint32_t)(row + step <= t->rows ? step : t->rows - row);
        c->bytes = (uint32_t)fixture_rows_bytes(t, (int)c->rows);
    }
    b->tensor[i].n_chunks = (uint32_t)b->f->n_chunks - b->tensor[i].first_chunk;
}

static void cut_vector(builder *b, const fixture_tensor *t, int i)
{
    if (b->f->n_chunks == 0 || t->chunk_rows)
        add_chunk(b, i, t->segment);
    pack_chunk *c = &b->chunk[b->f->n_chunks - 1];
    b->tensor[i].first_chunk = (uint32_t)b->f->n_chunks - 1;
    b->tensor[i].n_chunks = 1;
    b->tensor[i].at = (uint32_t)fixture_round_up(c->bytes, PACK_VECTOR_ALIGN);
    c->bytes = b->tensor[i].at + (uint32_t)fixture_rows_bytes(t, t->rows);
}

/* ---- the whole ---- */

static void add_chunks(builder *b, const fixture_tensor *t, int n)
{
    for (int i = 0; i < n; i++)
        (t[i].segment == PACK_SEGMENT_VECTORS ? cut_vector : cut_matrix)(b, &t[i], i);
    for (int i = 0; i < b->f->n_chunks; i++) {
        b->f->plain[i] = malloc(b->chunk[i].bytes);
        const char *name = t[b->chunk[i].tensor].name;
        const uint32_t seed = (uint32_t)i + (uint32_t)XXH3_64bits(name, strlen(name));
        fill_fixture_weights(b->f->plain[i], b->chunk[i].bytes, seed);
        add_frames(b, &b->chunk[i], b->f->plain[i]);
    }
}

static void add_index(builder *b, pack_superblock *s, const fixture_tensor *t, int n)
{
    size_t names = 0;
    for (int i = 0; i < n; i++) {
        b->tensor[i].name_at = (uint32_t)names;
        names += strlen(t[i].name) + 1;
    }
    s->index_at = append_fixture_bytes(b->f, b->tensor, (size_t)n * sizeof *b->tensor);
    (void)append_fixture_bytes(b->f, b->chunk, (size_t)b->f->n_chunks * sizeof *b->chunk);
    (void)append_fixture_bytes(b->f, b->frame, b->n_frames * sizeof *b->frame);
    for (int i = 0; i < n; i++)
        (void)append_fixture_bytes(b->f, t[i].name, strlen(t[i].name) + 1);
    s->names_bytes = names;
    s->index_bytes = b->f->bytes - s->index_at;
}

static void add_texts(pack_fixture *f, pack_superblock *s, const char *merges)
{
    static uint8_t coded[1 << 16];
    s->meta_at = append_fixture_bytes(f, META, sizeof META - 1);
    s->meta_bytes = sizeof META - 1;
    if (!merges)
        return;
    s->tokenizer_bytes = ZSTD_compress(coded, sizeof coded, merges, strlen(merges), 1);
    s->tokenizer_at = append_fixture_bytes(f, coded, s->tokenizer_bytes);
}

void pack_fixture_make(pack_fixture *f, const fixture_tensor *t, int n, fixture_codec codec,
                       const char *merges)
{
    builder b = { .f = f, .codec = codec };
    pack_superblock s = { .magic = PACK_MAGIC, .version = PACK_VERSION };

    *f = (pack_fixture){ 0 };
    b.tensor = calloc((size_t)n, sizeof *b.tensor);
    for (int i = 0; i < n; i++)
        b.tensor[i] = (pack_tensor){ .segment = (uint32_t)t[i].segment,
                                     .dtype = (uint32_t)t[i].dtype,
                                     .rows = (uint32_t)t[i].rows,
                                     .kh = (uint32_t)t[i].kh,
                                     .kw = (uint32_t)t[i].kw,
                                     .c_in = (uint32_t)t[i].c_in,
                                     .sqnr = t[i].dtype == DT_I8G64 ? 45 : 0 };
    (void)append_fixture_bytes(f, NULL, sizeof s);
    add_chunks(&b, t, n);
    add_texts(f, &s, merges);
    (void)append_fixture_bytes(f, NULL, fixture_round_up(f->bytes, 8) - f->bytes);
    add_index(&b, &s, t, n);
    align_fixture_file(f);
    s.n_tensors = (uint32_t)n;
    s.n_chunks = (uint32_t)f->n_chunks;
    s.n_frames = (uint32_t)b.n_frames;
    s.file_bytes = f->bytes;
    s.source_hash = 42;
    memcpy(f->file, &s, sizeof s);
    pack_fixture_rehash(f->file, f->bytes);
    free(b.tensor);
    free(b.frame);
}

void pack_fixture_write(pack_fixture *f)
{
    if (!f->path[0])
        temp_file(f->path, ".pack");
    temp_write(f->path, f->file, f->bytes);
}

void pack_fixture_free(pack_fixture *f)
{
    if (f->path[0])
        (void)unlink(f->path);
    for (int i = 0; i < f->n_chunks; i++)
        free(f->plain[i]);
    free(f->file);
    *f = (pack_fixture){ 0 };
}

pack_superblock *fixture_super(const pack_fixture *f) { return (pack_superblock *)(void *)f->file; }

pack_tensor *fixture_tensors(const pack_fixture *f)
{
    return (pack_tensor *)(void *)(f->file + fixture_super(f)->index_at);
}

pack_chunk *fixture_chunks(const pack_fixture *f)
{
    return (pack_chunk *)(void *)(fixture_tensors(f) + fixture_super(f)->n_tensors);
}

pack_frame *fixture_frames(const pack_fixture *f)
{
    return (pack_frame *)(void *)(fixture_chunks(f) + fixture_super(f)->n_chunks);
}

static const pack_tensor *find_tensor(const pack_fixture *f, const char *name)
{
    const pack_superblock *s = fixture_super(f);
    const char *names = (const char *)(fixture_frames(f) + s->n_frames);
    for (uint32_t i = 0; i < s->n_tensors; i++)
        if (strcmp(names + fixture_tensors(f)[i].name_at, name) == 0)
            return &fixture_tensors(f)[i];
    cr_assert_fail("%s is no tensor of the pack", name);
    return NULL;
}

void fixture_set_weight(pack_fixture *f, const char *name, float value)
{
    const pack_tensor *t = find_tensor(f, name);
    const pack_chunk *c = &fixture_chunks(f)[t->first_chunk];
    pack_frame *fr = &fixture_frames(f)[c->first_frame];
    uint64_t at = c->file_at;
    uint32_t left = t->at;
    uint16_t half;

    cr_assert(t->dtype == DT_F32 || t->dtype == DT_F16);
    for (; left >= fr->bytes; fr++) {
        left -= fr->bytes;
        at += fr->stored_bytes;
    }
    cr_assert_eq(fr->codec, PACK_RAW);
    f16_encode(&half, &value, 1);
    if (t->dtype == DT_F32)
        memcpy(f->file + at + left, &value, sizeof value);
    else
        memcpy(f->file + at + left, &half, sizeof half);
    fr->hash = XXH3_64bits(f->file + at, fr->stored_bytes);
    pack_fixture_rehash(f->file, f->bytes);
}

static void hash_section(const uint8_t *file, size_t bytes, uint64_t at, uint64_t n, uint64_t *hash)
{
    if (at <= bytes && n <= bytes - at)
        *hash = XXH3_64bits(file + at, (size_t)n);
}

void pack_fixture_rehash(uint8_t *file, size_t bytes)
{
    pack_superblock s;
    if (bytes < sizeof s)
        return;
    memcpy(&s, file, sizeof s);
    hash_section(file, bytes, s.index_at, s.index_bytes, &s.index_hash);
    hash_section(file, bytes, s.meta_at, s.meta_bytes, &s.meta_hash);
    hash_section(file, bytes, s.tokenizer_at, s.tokenizer_bytes, &s.tokenizer_hash);
    s.hash = XXH3_64bits(&s, offsetof(pack_superblock, hash));
    memcpy(file, &s, sizeof s);
}
