/* tools/packer/pack_write.c -- the packing pipeline.
 *
 * Every thread does the same: take the next chunk, gather and encode it in buffers of its
 * own, wait until all chunks before it have their place in the file, take the place behind
 * them, and write.  So chunks lie in order without a writer thread or a queue, memory is
 * one set of buffers per thread, and reading, coding and writing of different chunks
 * overlap.
 *
 *     next   chunks given out          turn   chunks that have their place
 *
 * Index and superblock have known sizes and are written last.  The first failure stops
 * all threads; the file never gets its name.
 */
#include "tools/packer/pack_write.h"

#include "engine/base/mem.h"
#include "engine/base/num.h"
#include "engine/base/process_limits.h"
#include "engine/base/try.h"
#include "offload/pack.h"
#include "offload/zstd_memory.h"
#include "quant/f16.h"
#include "quant/int8.h"
#include "refine_version.h"
#include "tools/files/new_file.h"
#include "tools/packer/pack_cut.h"
#include "tools/packer/pack_gather.h"

#include <assert.h>
#include <jansson.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

enum {
    LEVEL = 1, /* higher levels gain nothing on weights */
    TOKENIZER_LEVEL = 19,
    MEMORY_MAX = 384 << 20, /* of all threads' buffers */
    THREADS_MAX = 256,
    WRITERS = 2, /* threads more than cores: that many wait for the disk */
    AHEAD = 8    /* chunks announced to the source before they are read */
};

/* A frame is coded when that saves 3 % at least: stored / decoded < 97 / 100. */
enum { WORTH_NUM = 97, WORTH_DEN = 100 };

typedef struct packer {
    const weight_source *source;
    const pack_write_options *o;
    new_file file;
    pack_cut cut;
    pack_frame *frame;
    uint64_t *tile_hash;
    i8_error *lost;         /* of each chunk */
    char *meta, *tokenizer; /* as stored */
    size_t tokenizer_bytes;
    pack_superblock super;

    pthread_mutex_t mutex; /* of everything below */
    pthread_cond_t moved;  /* turn advanced, or stopped */
    int next, turn;
    uint64_t end, done; /* of the file; of the decoded bytes */
    refine_status st;   /* not REFINE_OK: everybody stops */
    refine_error err;
} packer;

/* One thread's buffers. */
typedef struct encode_worker {
    packer *p;
    ZSTD_CCtx *zstd;
    char *dense;   /* a chunk as it is gathered */
    char *scratch; /* for gathering; then a tile in f32, on its way to int8 */
    char *codes;   /* a chunk in int8; NULL where there is none */
    char *coded, *planes;
    pthread_t thread;
} encode_worker;

/* ---- one worker ---- */

static ZSTD_CCtx *zstd_open(int level)
{
    ZSTD_CCtx *z = ZSTD_createCCtx_advanced(zstd_memory);
    if (z && ZSTD_isError(ZSTD_CCtx_setParameter(z, ZSTD_c_compressionLevel, level))) {
        ZSTD_freeCCtx(z);
        return NULL;
    }
    return z;
}

static size_t coded_bytes(const pack_cut *c)
{
    return num_align(c->biggest, PACK_ALIGN) + ZSTD_compressBound(PACK_FRAME);
}

static size_t worker_scratch_bytes(const pack_cut *c)
{
    return num_max(c->biggest_dense, c->biggest_tile);
}

static size_t codes_bytes(const pack_cut *c) { return c->biggest_tile ? c->biggest : 0; }

static size_t worker_bytes(const pack_cut *c)
{
    return c->biggest_dense + worker_scratch_bytes(c) + codes_bytes(c) + coded_bytes(c) +
           PACK_FRAME + ZSTD_estimateCCtxSize(LEVEL);
}

static void worker_close(encode_worker *w)
{
    ZSTD_freeCCtx(w->zstd);
    mem_free(w->dense);
    mem_free(w->scratch);
    mem_free(w->codes);
    mem_unmap(w->coded, coded_bytes(&w->p->cut));
    mem_free(w->planes);
}

static refine_status worker_open(encode_worker *w, packer *p)
{
    const pack_cut *c = &p->cut;
    const size_t codes = codes_bytes(c);

    *w = (encode_worker){ .p = p,
                          .zstd = zstd_open(LEVEL),
                          .dense = mem_alloc(c->biggest_dense),
                          .scratch = mem_alloc(worker_scratch_bytes(c)),
                          .codes = codes ? mem_alloc(codes) : NULL,
                          .coded = mem_map(coded_bytes(c)), /* aligned for direct writes */
                          .planes = mem_alloc(PACK_FRAME) };
    if (w->zstd && w->dense && w->scratch && (w->codes || !codes) && w->coded && w->planes)
        return REFINE_OK;
    worker_close(w);
    return REFINE_ENOMEM;
}

/* ---- encoding ---- */

static void split_planes(char *dst, const char *src, size_t bytes)
{
    const size_t n = bytes / 2;
    for (size_t i = 0; i < n; i++) {
        dst[i] = src[2 * i + 1];
        dst[n + i] = src[2 * i];
    }
}

static refine_status encode_frame(encode_worker *w, pack_frame *f, const char *plain, char *dst,
                                  dtype type, refine_error *err)
{
    const bool split = type == DT_F16;
    const char *from = plain;

    f->codec = PACK_RAW;
    f->stored_bytes = f->bytes;
    if (!w->p->o->raw) {
        if (split) {
            split_planes(w->planes, plain, f->bytes);
            from = w->planes;
        }
        const size_t n = ZSTD_compress2(w->zstd, dst, ZSTD_compressBound(f->bytes), from, f->bytes);
        if (ZSTD_isError(n))
            return refine_fail(err, REFINE_ENOMEM, "zstd: %s", ZSTD_getErrorName(n));
        if (n * WORTH_DEN < (size_t)f->bytes * WORTH_NUM) {
            f->codec = split ? PACK_SPLIT : PACK_ZSTD;
            f->stored_bytes = (uint32_t)n;
        }
    }
    if (f->codec == PACK_RAW)
        memcpy(dst, plain, f->bytes);
    f->hash = XXH3_64bits(dst, f->stored_bytes);
    return REFINE_OK;
}

/* Frames of a chunk to w->coded, zeros up to PACK_ALIGN behind them. */
static refine_status encode_chunk(encode_worker *w, pack_chunk *k, const char *plain, dtype type,
                                  refine_error *err)
{
    pack_frame *f = &w->p->frame[k->first_frame];
    size_t at = 0, stored = 0;

    for (uint32_t i = 0; i < k->n_frames; i++, f++) {
        *f = (pack_frame){ .bytes = (uint32_t)num_min(PACK_FRAME, k->bytes - at) };
        TRY(encode_frame(w, f, plain + at, w->coded + stored, type, err));
        at += f->bytes;
        stored += f->stored_bytes;
    }
    k->stored_bytes = (uint32_t)stored;
    memset(w->coded + stored, 0, num_align(stored, PACK_ALIGN) - stored);
    return REFINE_OK;
}

static size_t row_elements(const pack_tensor *t)
{
    return (size_t)t->kh * (size_t)t->kw * (size_t)t->c_in;
}

/* As 16-bit rows, which are hashed whatever becomes of them. */
static refine_status gather_matrix(encode_worker *w, int chunk, refine_error *err)
{
    packer *p = w->p;
    const pack_chunk *k = &p->cut.chunk[chunk];
    const pack_tensor *t = &p->cut.tensor[k->tensor];
    const size_t row_bytes = row_elements(t) * sizeof(uint16_t);
    const uint32_t tile = (uint32_t)tile_rows((int)t->kh, (int)t->kw);
    uint64_t *hash = &p->tile_hash[p->cut.first_tile[chunk]];

    TRY(pack_gather(p->source, (int)k->tensor, (int)k->row0, (int)k->rows, DT_F16, w->dense,
                    w->scratch, err));
    for (uint32_t row = 0; row < k->rows; row += tile)
        *hash++ = XXH3_64bits(w->dense + row * row_bytes, num_min(tile, k->rows - row) * row_bytes);
    return REFINE_OK;
}

static refine_status gather_vectors(encode_worker *w, int chunk, refine_error *err)
{
    packer *p = w->p;
    const pack_chunk *k = &p->cut.chunk[chunk];
    uint64_t *hash = &p->tile_hash[p->cut.first_tile[chunk]];

    memset(w->dense, 0, k->bytes);
    for (int i = (int)k->tensor; i < p->cut.n_tensors; i++) {
        const pack_tensor *t = &p->cut.tensor[i];
        if (t->segment != SEG_VECTORS || t->first_chunk != (uint32_t)chunk)
            break;
        TRY(pack_gather(p->source, i, 0, (int)t->c_in, DT_F32, w->dense + t->at, w->scratch, err));
        *hash++ = XXH3_64bits(w->dense + t->at, t->c_in * sizeof(float));
    }
    return REFINE_OK;
}

/* From w->dense to w->codes, tile by tile. */
static void quantise_chunk(encode_worker *w, int chunk)
{
    packer *p = w->p;
    const pack_chunk *k = &p->cut.chunk[chunk];
    const pack_tensor *t = &p->cut.tensor[k->tensor];
    const int taps = (int)(t->kh * t->kw), channels = (int)t->c_in;
    const uint16_t *from = (const void *)w->dense;
    float *wide = (void *)w->scratch;
    char *to = w->codes;

    for (int done = 0, rows; done < (int)k->rows; done += rows) {
        const int left = (int)k->rows - done, tile = tile_rows((int)t->kh, (int)t->kw);
        rows = left < tile ? left : tile;
        const size_t n = (size_t)rows * row_elements(t);
        f16_decode(wide, from, n);
        i8_encode_tile(to, wide, rows, taps, channels, I8_MIN, &p->lost[chunk]);
        from += n;
        to += i8_bytes(rows, taps, channels);
    }
}

static refine_status build_chunk(encode_worker *w, int chunk, refine_error *err)
{
    pack_chunk *k = &w->p->cut.chunk[chunk];
    const dtype type = (dtype)w->p->cut.tensor[k->tensor].dtype;

    if (k->segment == SEG_VECTORS)
        TRY(gather_vectors(w, chunk, err));
    else
        TRY(gather_matrix(w, chunk, err));
    if (type == DT_I8G64)
        quantise_chunk(w, chunk);
    return encode_chunk(w, k, type == DT_I8G64 ? w->codes : w->dense, type, err);
}

/* ---- the pipeline ---- */

static void stop_all(packer *p, refine_status st, const refine_error *err)
{
    pthread_mutex_lock(&p->mutex);
    if (p->st == REFINE_OK) {
        p->st = st;
        p->err = *err;
    }
    pthread_cond_broadcast(&p->moved);
    pthread_mutex_unlock(&p->mutex);
}

static bool take_chunk(packer *p, int *chunk)
{
    pthread_mutex_lock(&p->mutex);
    const bool more = p->st == REFINE_OK && p->next < p->cut.n_chunks;
    if (more)
        *chunk = p->next++;
    pthread_mutex_unlock(&p->mutex);
    return more;
}

/* Waits for the chunks before this one; false when everybody stops. */
static bool take_place(packer *p, int chunk)
{
    pack_chunk *k = &p->cut.chunk[chunk];

    pthread_mutex_lock(&p->mutex);
    while (p->turn != chunk && p->st == REFINE_OK)
        pthread_cond_wait(&p->moved, &p->mutex);
    const bool go = p->st == REFINE_OK;
    if (go) {
        k->file_at = p->end;
        p->end += num_align(k->stored_bytes, PACK_ALIGN);
        p->turn++;
        pthread_cond_broadcast(&p->moved);
    }
    pthread_mutex_unlock(&p->mutex);
    return go;
}

static void report_packed_bytes(packer *p, uint64_t bytes)
{
    const pack_write_options *o = p->o;

    pthread_mutex_lock(&p->mutex);
    p->done += bytes;
    if (o->progress)
        o->progress(o->context, p->done, p->cut.bytes);
    if (o->stop && p->st == REFINE_OK && o->stop(o->context)) {
        p->st = refine_fail(&p->err, REFINE_ECANCELLED, "%s: interrupted, not written", o->path);
        pthread_cond_broadcast(&p->moved);
    }
    pthread_mutex_unlock(&p->mutex);
}

static void expect_chunk(const packer *p, int chunk)
{
    if (chunk >= p->cut.n_chunks)
        return;
    const pack_chunk *k = &p->cut.chunk[chunk];
    pack_gather_expect(p->source, (int)k->tensor, (int)k->row0, (int)k->rows);
}

static void *run_pack_worker(void *arg)
{
    encode_worker *w = arg;
    packer *p = w->p;
    refine_error err = { 0 };
    int chunk;

    while (take_chunk(p, &chunk)) {
        expect_chunk(p, chunk + AHEAD);
        refine_status st = build_chunk(w, chunk, &err);
        if (st == REFINE_OK) {
            if (!take_place(p, chunk))
                break;
            const pack_chunk *k = &p->cut.chunk[chunk];
            st = new_file_write(&p->file, w->coded, num_align(k->stored_bytes, PACK_ALIGN),
                                k->file_at, &err);
            report_packed_bytes(p, k->bytes);
        }
        if (st != REFINE_OK)
            stop_all(p, st, &err);
    }
    return NULL;
}

static int choose_threads(const packer *p)
{
    int n = p->o->threads > 0 ? p->o->threads : process_cores("") + WRITERS;
    const size_t most = MEMORY_MAX / worker_bytes(&p->cut);

    if (n > THREADS_MAX)
        n = THREADS_MAX;
    if (n > p->cut.n_chunks)
        n = p->cut.n_chunks;
    if ((size_t)n > most)
        n = (int)most;
    return n < 1 ? 1 : n;
}

/* The caller's thread is the first worker.  A helper that has no memory or does not start
 * is done without. */
static refine_status run_workers(packer *p, int *threads)
{
    const int n = choose_threads(p);
    encode_worker *w = mem_calloc((size_t)n, sizeof *w);
    int started = 0;

    if (!w || worker_open(&w[0], p) != REFINE_OK) {
        mem_free(w);
        return refine_fail(&p->err, REFINE_ENOMEM, "out of memory");
    }
    for (int i = 1; i < n; i++) {
        if (worker_open(&w[i], p) != REFINE_OK)
            break;
        if (pthread_create(&w[i].thread, NULL, run_pack_worker, &w[i]) != 0) {
            worker_close(&w[i]);
            break;
        }
        started = i;
    }
    (void)run_pack_worker(&w[0]);
    for (int i = 1; i <= started; i++)
        (void)pthread_join(w[i].thread, NULL);
    for (int i = 0; i <= started; i++)
        worker_close(&w[i]);
    mem_free(w);
    *threads = started + 1;
    return p->st;
}

/* ---- what surrounds the chunks ---- */

static json_t *source_object(const packer *p)
{
    const weight_source *s = p->source;
    return json_pack("{s:s, s:s, s:I, s:s*}", "name", s->name, "layout", s->kind, "bytes",
                     (json_int_t)s->bytes, "vae", s->vae);
}

static refine_status build_meta(packer *p)
{
    char *model = model_config_dump(&p->source->list.config);
    json_t *root = model ? json_pack("{s:s, s:s, s:o, s:s, s:s, s:I, s:o}", "format", "refine-pack",
                                     "created_by", "refine-pack " REFINE_VERSION, "source",
                                     source_object(p), "weights", weights_name(p->o->weights),
                                     "codec", p->o->raw ? "raw" : "zstd", "chunk",
                                     (json_int_t)p->o->chunk_bytes, "model",
                                     json_loads(model, 0, NULL))
                         : NULL;
    char *text = root ? json_dumps(root, JSON_INDENT(1)) : NULL;

    p->meta = text ? mem_strdup(text) : NULL;
    free(text);
    json_decref(root);
    mem_free(model);
    return p->meta ? REFINE_OK : refine_fail(&p->err, REFINE_ENOMEM, "out of memory");
}

static refine_status build_tokenizer(packer *p)
{
    if (!p->o->merges)
        return REFINE_OK;
    const size_t room = ZSTD_compressBound(p->o->merges_len);
    ZSTD_CCtx *z = zstd_open(TOKENIZER_LEVEL);
    p->tokenizer = mem_alloc(room);
    const size_t n = z && p->tokenizer
                         ? ZSTD_compress2(z, p->tokenizer, room, p->o->merges, p->o->merges_len)
                         : 0;
    ZSTD_freeCCtx(z);
    if (n == 0 || ZSTD_isError(n))
        return refine_fail(&p->err, REFINE_ENOMEM, "out of memory");
    p->tokenizer_bytes = n;
    return REFINE_OK;
}

/* Index, meta data and tokenizer begin at multiples of PACK_ALIGN, as chunks do. */
static void set_section_offsets(packer *p)
{
    const pack_cut *c = &p->cut;
    pack_superblock *s = &p->super;

    *s = (pack_superblock){ .version = PACK_VERSION,
                            .n_tensors = (uint32_t)c->n_tensors,
                            .n_chunks = (uint32_t)c->n_chunks,
                            .n_frames = c->n_frames,
                            .names_bytes = c->names_bytes,
                            .index_at = PACK_ALIGN,
                            .meta_bytes = strlen(p->meta),
                            .tokenizer_bytes = p->tokenizer_bytes };
    memcpy(s->magic, PACK_MAGIC, sizeof s->magic);
    s->index_bytes = (uint64_t)c->n_tensors * sizeof(pack_tensor) +
                     (uint64_t)c->n_chunks * sizeof(pack_chunk) +
                     (uint64_t)c->n_frames * sizeof(pack_frame) + c->names_bytes;
    s->meta_at = num_align(s->index_at + s->index_bytes, PACK_ALIGN);
    s->tokenizer_at = num_align(s->meta_at + s->meta_bytes, PACK_ALIGN);
    p->end = num_align(s->tokenizer_at + s->tokenizer_bytes, PACK_ALIGN);
    if (!p->tokenizer_bytes)
        s->tokenizer_at = 0;
}

/* Added up in the order of the file, whoever packed what. */
static void set_sqnr(packer *p, pack_written *out)
{
    out->least_sqnr = INFINITY;
    for (int i = 0; i < p->cut.n_tensors; i++) {
        pack_tensor *t = &p->cut.tensor[i];
        i8_error lost = { 0 };
        if (t->dtype != DT_I8G64)
            continue;
        for (uint32_t k = 0; k < t->n_chunks; k++) {
            lost.signal += p->lost[t->first_chunk + k].signal;
            lost.noise += p->lost[t->first_chunk + k].noise;
        }
        t->sqnr = (float)fmax(i8_sqnr(lost), 0);
        out->least_sqnr = fmin(out->least_sqnr, i8_sqnr(lost));
        out->n_int8++;
    }
}

static char *append_index_bytes(char *at, const void *data, size_t bytes)
{
    memcpy(at, data, bytes);
    return at + bytes;
}

static refine_status write_index(packer *p)
{
    const pack_cut *c = &p->cut;
    pack_superblock *s = &p->super;
    char *index = mem_alloc(s->index_bytes), *at = index;

    if (!index)
        return refine_fail(&p->err, REFINE_ENOMEM, "out of memory");
    at = append_index_bytes(at, c->tensor, (size_t)c->n_tensors * sizeof(pack_tensor));
    at = append_index_bytes(at, c->chunk, (size_t)c->n_chunks * sizeof(pack_chunk));
    at = append_index_bytes(at, p->frame, c->n_frames * sizeof(pack_frame));
    at = append_index_bytes(at, c->names, c->names_bytes);
    assert(at == index + s->index_bytes);
    s->index_hash = XXH3_64bits(index, s->index_bytes);
    const refine_status st = new_file_write(&p->file, index, s->index_bytes, s->index_at, &p->err);
    mem_free(index);
    return st;
}

/* Chunks of a segment lie together, and so do their tiles. */
static uint64_t hash_segment(const packer *p, segment seg)
{
    const pack_cut *c = &p->cut;
    int first = 0, end;
    while (first < c->n_chunks && c->chunk[first].segment != (uint32_t)seg)
        first++;
    for (end = first; end < c->n_chunks && c->chunk[end].segment == (uint32_t)seg; end++)
        continue;
    const uint32_t from = first < c->n_chunks ? c->first_tile[first] : c->n_tiles;
    const uint32_t to = end < c->n_chunks ? c->first_tile[end] : c->n_tiles;
    return XXH3_64bits(p->tile_hash + from, (to - from) * sizeof *p->tile_hash);
}

static refine_status write_around(packer *p)
{
    pack_superblock *s = &p->super;

    TRY(write_index(p));
    TRY(new_file_write(&p->file, p->meta, s->meta_bytes, s->meta_at, &p->err));
    s->meta_hash = XXH3_64bits(p->meta, s->meta_bytes);
    if (p->tokenizer_bytes) {
        TRY(new_file_write(&p->file, p->tokenizer, p->tokenizer_bytes, s->tokenizer_at, &p->err));
        s->tokenizer_hash = XXH3_64bits(p->tokenizer, p->tokenizer_bytes);
    }
    s->file_bytes = p->end;
    s->source_hash = XXH3_64bits(p->tile_hash, p->cut.n_tiles * sizeof *p->tile_hash);
    s->decoder_hash = hash_segment(p, SEG_VAE_DECODE);
    s->hash = XXH3_64bits(s, offsetof(pack_superblock, hash));
    TRY(new_file_sync(&p->file, &p->err));
    return new_file_write(&p->file, s, sizeof *s, 0, &p->err);
}

/* Raw packs have a known size.  Compressed ones are seldom smaller than three quarters of
 * it; half is where trying makes no sense. */
static refine_status check_room(packer *p, uint64_t *room)
{
    const uint64_t need = p->o->raw ? p->end + p->cut.bytes : p->cut.bytes / 2;
    *room = new_file_room(&p->file);
    if (*room >= need)
        return REFINE_OK;
    return refine_fail(&p->err, REFINE_EIO,
                       "%s: the pack needs up to %.2f GB and the file system has %.2f GB left; "
                       "make room or write elsewhere",
                       p->o->path, (double)p->cut.bytes / 1e9, (double)*room / 1e9);
}

static refine_status pack_all(packer *p, pack_written *out)
{
    TRY(pack_cut_build(&p->cut, &p->source->list, p->o->weights, p->o->chunk_bytes, &p->err));
    p->frame = mem_calloc(p->cut.n_frames, sizeof *p->frame);
    p->tile_hash = mem_calloc(p->cut.n_tiles, sizeof *p->tile_hash);
    p->lost = mem_calloc((size_t)p->cut.n_chunks, sizeof *p->lost);
    if (!p->frame || !p->tile_hash || !p->lost)
        return refine_fail(&p->err, REFINE_ENOMEM, "out of memory");
    TRY(build_meta(p));
    TRY(build_tokenizer(p));
    set_section_offsets(p);
    TRY(check_room(p, &out->room_bytes));
    TRY(run_workers(p, &out->threads));
    set_sqnr(p, out);
    TRY(write_around(p));
    out->file_bytes = p->super.file_bytes;
    out->weight_bytes = p->cut.bytes;
    out->source_hash = p->super.source_hash;
    out->n_tensors = p->cut.n_tensors;
    out->n_chunks = p->cut.n_chunks;
    return REFINE_OK;
}

refine_status pack_write(pack_written *out, const weight_source *s, const pack_write_options *o,
                         refine_error *err)
{
    pack_write_options mine = *o;
    packer p = { .source = s, .o = &mine };

    *out = (pack_written){ 0 };
    if (mine.chunk_bytes == 0)
        mine.chunk_bytes = PACK_CHUNK_DEFAULT;
    TRY(new_file_open(&p.file, o->path, o->replace ? NEW_FILE_REPLACE : NEW_FILE_ONLY, err));
    pthread_mutex_init(&p.mutex, NULL);
    pthread_cond_init(&p.moved, NULL);

    refine_status st = pack_all(&p, out);
    if (st == REFINE_OK)
        st = new_file_commit(&p.file, &p.err);
    new_file_abandon(&p.file);

    pthread_cond_destroy(&p.moved);
    pthread_mutex_destroy(&p.mutex);
    pack_cut_free(&p.cut);
    mem_free(p.frame);
    mem_free(p.tile_hash);
    mem_free(p.lost);
    mem_free(p.meta);
    mem_free(p.tokenizer);
    return st == REFINE_OK ? st : refine_fail(err, st, "%s", p.err.text);
}
