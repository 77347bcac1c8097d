/* offload/pack.c -- opening a pack: nothing in the file is believed before it is checked.
 *
 *     superblock -> sections inside the file -> their hashes -> tensors, chunks and frames
 *
 * The records are kept as they lie in the file, in one block.  Tensors are walked in
 * order, which must use every chunk and every frame once, in order: that walk is the
 * proof of all that offload/pack.h promises.  A good hash proves nothing about who wrote
 * the file, so everything a hash covers is checked as well.
 */
#define _POSIX_C_SOURCE 200809L
#include "offload/pack.h"

#include "engine/base/io.h"
#include "engine/base/mem.h"
#include "engine/base/num.h"
#include "engine/base/try.h"
#include "kernels/device.h"
#include "offload/codec.h"
#include "quant/int8.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

_Static_assert(PACK_VECTOR_ALIGN % DEV_ALIGN == 0, "vectors are used where their chunk lies");

/* No pack of a model comes near these; they bound what a hostile one can ask for. */
enum {
    INDEX_MAX = 256 << 20,
    META_MAX = 16 << 20,
    TOKENIZER_MAX = 16 << 20,
    MERGES_MAX = 64 << 20,
    WINDOW_MAX = 1 << 10, /* kh, kw */
    LENGTH_MAX = 1 << 28  /* rows, c_in */
};

/* pack_read_row's own memory: the frame it decoded last, and room to read one. */
typedef struct row_reader {
    codec *c;
    int64_t frame;           /* which one `plain` holds; -1: none */
    uint8_t *plain, *stored; /* in `space`, as large as the largest frame of the table */
    uint8_t space[];
} row_reader;

struct pack {
    char *path;
    int fd;
    pack_superblock super;
    char *index; /* tensors, chunks, frames, names: owned */
    const pack_tensor *tensor;
    const pack_chunk *chunk;
    const pack_frame *frame;
    const char *names;
    char *meta, *merges;
    size_t meta_len, merges_len;
    int segment_first[PACK_SEGMENTS + 1]; /* chunks of s: [s], [s + 1] */
    row_reader *rows;                     /* NULL when there is no token table */
};

/* ---- reading ---- */

static refine_status read_at(const pack *p, void *dst, size_t bytes, uint64_t at, refine_error *err)
{
    const size_t done = io_read_at(p->fd, dst, bytes, at);
    if (done == bytes)
        return REFINE_OK;
    if (errno != 0)
        return refine_fail(err, REFINE_EIO, "%s: cannot be read at byte %" PRIu64 ": %s", p->path,
                           at + done, strerror(errno));
    return refine_fail(err, REFINE_EFORMAT,
                       "%s: ends at byte %" PRIu64 ", in the middle of something; "
                       "it was cut short: copy or pack it again",
                       p->path, at + done);
}

static refine_status fail_pack_memory(const pack *p, size_t bytes, refine_error *err)
{
    return refine_fail(err, REFINE_ENOMEM, "%s: out of memory (%zu bytes)", p->path, bytes);
}

static refine_status fail_damaged(const pack *p, const char *what, refine_error *err)
{
    return refine_fail(err, REFINE_EFORMAT, "%s: %s; copy or pack it again", p->path, what);
}

/* Reads one section, zero-terminated, and compares its hash. */
static refine_status read_section(const pack *p, char **out, uint64_t at, uint64_t bytes,
                                  uint64_t hash, uint64_t most, const char *what, refine_error *err)
{
    if (!num_within(at, bytes, p->super.file_bytes) || bytes > most)
        return refine_fail(err, REFINE_EFORMAT,
                           "%s: its %s does not lie in the file; pack it again", p->path, what);
    *out = mem_alloc((size_t)bytes + 1);
    if (!*out)
        return fail_pack_memory(p, (size_t)bytes + 1, err);
    TRY(read_at(p, *out, (size_t)bytes, at, err));
    (*out)[bytes] = '\0';
    if (codec_hash(*out, (size_t)bytes) != hash)
        return refine_fail(err, REFINE_EFORMAT,
                           "%s: its %s is damaged (wrong checksum); copy or pack it again", p->path,
                           what);
    return REFINE_OK;
}

/* ---- the superblock ---- */

static refine_status open_pack_file(pack *p, uint64_t *bytes, refine_error *err)
{
    struct stat s;
    p->fd = open(p->path, O_RDONLY | O_CLOEXEC);
    if (p->fd < 0 || fstat(p->fd, &s) != 0)
        return refine_fail(err, REFINE_EIO, "%s: cannot be opened: %s", p->path, strerror(errno));
    if (!S_ISREG(s.st_mode))
        return refine_fail(err, REFINE_EIO, "%s: not a file", p->path);
    *bytes = (uint64_t)s.st_size;
    return REFINE_OK;
}

static refine_status read_super(pack *p, refine_error *err)
{
    const pack_superblock *s = &p->super;
    uint64_t bytes = 0;

    TRY(open_pack_file(p, &bytes, err));
    if (bytes < sizeof *s)
        return refine_fail(err, REFINE_EFORMAT, "%s: not a pack (only %" PRIu64 " bytes long)",
                           p->path, bytes);
    TRY(read_at(p, &p->super, sizeof *s, 0, err));
    if (memcmp(s->magic, PACK_MAGIC, sizeof s->magic) != 0)
        return refine_fail(err, REFINE_EFORMAT, "%s: not a pack; make one with refine-pack",
                           p->path);
    if (s->version != PACK_VERSION)
        return refine_fail(err, REFINE_EFORMAT,
                           "%s: a pack of version %" PRIu32 ", this program reads version %d; "
                           "pack it again",
                           p->path, s->version, PACK_VERSION);
    if (codec_hash(s, offsetof(pack_superblock, hash)) != s->hash)
        return fail_damaged(p, "its first 4096 bytes are damaged (wrong checksum)", err);
    if (s->file_bytes != bytes)
        return refine_fail(err, REFINE_EFORMAT,
                           "%s: %" PRIu64 " bytes long where %" PRIu64 " are expected; %s", p->path,
                           bytes, s->file_bytes,
                           bytes < s->file_bytes ? "it was cut short: copy or pack it again"
                                                 : "something was added to it: pack it again");
    return REFINE_OK;
}

/* ---- the index ---- */

static refine_status read_index(pack *p, refine_error *err)
{
    const pack_superblock *s = &p->super;
    const uint64_t tensors = (uint64_t)s->n_tensors * sizeof(pack_tensor);
    const uint64_t chunks = (uint64_t)s->n_chunks * sizeof(pack_chunk);
    const uint64_t frames = (uint64_t)s->n_frames * sizeof(pack_frame);

    if (s->names_bytes > INDEX_MAX || s->n_tensors > INT_MAX || s->n_chunks > INT_MAX ||
        s->index_bytes != tensors + chunks + frames + s->names_bytes)
        return fail_damaged(p, "its index has another length than its parts", err);
    TRY(read_section(p, &p->index, s->index_at, s->index_bytes, s->index_hash, INDEX_MAX, "index",
                     err));
    p->tensor = (const void *)p->index;
    p->chunk = (const void *)(p->index + tensors);
    p->frame = (const void *)(p->index + tensors + chunks);
    p->names = p->index + tensors + chunks + frames;
    if (s->names_bytes && p->names[s->names_bytes - 1] != '\0')
        return fail_damaged(p, "its names do not end", err);
    return REFINE_OK;
}

/* ---- the walk ---- */

/* What comes next, if the file keeps its promises. */
typedef struct index_check {
    const pack *p;
    uint32_t chunk, frame;
    uint32_t segment;    /* of the last tensor */
    uint64_t file_at;    /* end of the last chunk in the file */
    uint64_t vector_end; /* end of the last vector in its chunk */
    const char *why;
} index_check;

static bool reject_weight(index_check *w, const char *why)
{
    w->why = why;
    return false;
}

static bool check_frame(index_check *w, const pack_frame *f, bool last)
{
    if (f->bytes == 0 || f->bytes > PACK_FRAME || (!last && f->bytes != PACK_FRAME))
        return reject_weight(w, "has a frame of a wrong size");
    if (f->stored_bytes == 0 || f->stored_bytes > f->bytes || f->zero != 0)
        return reject_weight(w, "has a frame of a wrong stored size");
    switch (f->codec) {
    case PACK_RAW:
        return f->stored_bytes == f->bytes || reject_weight(w, "has a raw frame of two sizes");
    case PACK_ZSTD: return true;
    case PACK_SPLIT: return f->bytes % 2 == 0 || reject_weight(w, "has a split frame of odd size");
    default: return reject_weight(w, "has a frame in an unknown coding");
    }
}

static bool check_frames(index_check *w, const pack_chunk *c)
{
    uint64_t stored = 0, bytes = 0;
    if (c->n_frames == 0 || c->first_frame != w->frame ||
        !num_within(c->first_frame, c->n_frames, w->p->super.n_frames))
        return reject_weight(w, "has its frames in the wrong place");
    for (uint32_t i = 0; i < c->n_frames; i++) {
        const pack_frame *f = &w->p->frame[c->first_frame + i];
        if (!check_frame(w, f, i + 1 == c->n_frames))
            return false;
        stored += f->stored_bytes;
        bytes += f->bytes;
    }
    w->frame += c->n_frames;
    return (stored == c->stored_bytes && bytes == c->bytes) ||
           reject_weight(w, "has frames that do not add up");
}

/* The next chunk: whose first (or only) tensor is t. */
static bool check_chunk(index_check *w, const pack_tensor *t)
{
    if (w->chunk >= w->p->super.n_chunks)
        return reject_weight(w, "has no chunk");
    const pack_chunk *c = &w->p->chunk[w->chunk];
    if (c->tensor != (uint32_t)(t - w->p->tensor) || c->segment != t->segment)
        return reject_weight(w, "has a chunk that belongs to another");
    if (c->bytes == 0 || c->bytes > PACK_CHUNK_MAX || c->stored_bytes > PACK_CHUNK_MAX)
        return reject_weight(w, "has a chunk of a wrong size");
    const uint64_t padded = num_align(c->stored_bytes, PACK_ALIGN);
    if (c->file_at % PACK_ALIGN || c->file_at < w->file_at ||
        !num_within(c->file_at, padded, w->p->super.file_bytes))
        return reject_weight(w, "has a chunk that does not lie in the file, or in another");
    w->file_at = c->file_at + padded;
    w->chunk++;
    return check_frames(w, c);
}

static bool dense_bytes(const pack_tensor *t, uint64_t rows, uint64_t *out)
{
    uint64_t n;
    return num_mul((uint64_t)t->kh * t->kw, t->c_in, &n) &&
           num_mul(n, dtype_bytes((dtype)t->dtype), &n) && num_mul(n, rows, out);
}

/* As i8_bytes (quant/int8.h), which trusts its numbers. */
static bool int8_bytes(const pack_tensor *t, uint64_t rows, uint64_t *out)
{
    const uint64_t slabs_of_a_tap = ((uint64_t)t->c_in + I8_GROUP - 1) / I8_GROUP;
    const uint64_t eights = rows / I8_ROW_ALIGN + (rows % I8_ROW_ALIGN != 0);
    uint64_t slabs, slab;
    return num_mul((uint64_t)t->kh * t->kw, slabs_of_a_tap, &slabs) &&
           num_mul(eights, i8_slab_bytes(I8_ROW_ALIGN), &slab) && num_mul(slabs, slab, out);
}

bool pack_rows_bytes(const pack_tensor *t, uint64_t rows, uint64_t *out)
{
    switch (t->dtype) {
    case DT_F32:
    case DT_F16:
    case DT_BF16: return dense_bytes(t, rows, out);
    case DT_I8G64: return int8_bytes(t, rows, out);
    default: return false;
    }
}

static bool check_matrix(index_check *w, const pack_tensor *t)
{
    const uint32_t tile = (uint32_t)tile_rows((int)t->kh, (int)t->kw);
    uint64_t bytes, rows = 0;

    if (!pack_rows_bytes(t, t->rows, &bytes))
        return reject_weight(w, "is of an unknown number type, or too large");
    if (t->dtype == DT_I8G64 && t->segment == PACK_SEGMENT_TOKENS)
        return reject_weight(w, "is read by row and cannot be int8");
    if (t->first_chunk != w->chunk || t->n_chunks == 0 || t->at != 0)
        return reject_weight(w, "has its chunks in the wrong place");
    for (uint32_t i = 0; i < t->n_chunks; i++) {
        if (!check_chunk(w, t))
            return false;
        const pack_chunk *c = &w->p->chunk[w->chunk - 1];
        if (c->row0 != rows || c->rows == 0 || !pack_rows_bytes(t, c->rows, &bytes) ||
            bytes != c->bytes)
            return reject_weight(w, "has a chunk with the wrong rows");
        if (i + 1 < t->n_chunks && c->rows % tile)
            return reject_weight(w, "is cut inside a tile");
        rows += c->rows;
    }
    return rows == t->rows || reject_weight(w, "has too few or too many rows");
}

/* In the chunk of the vector before it, or the first of the next one. */
static bool check_vector(index_check *w, const pack_tensor *t)
{
    uint64_t bytes;
    if (t->dtype != DT_F32 || !pack_rows_bytes(t, t->rows, &bytes))
        return reject_weight(w, "is a vector of an unknown number type");
    if (t->n_chunks != 1 || t->at % PACK_VECTOR_ALIGN)
        return reject_weight(w, "is a vector in the wrong place");
    if (t->first_chunk == w->chunk) {
        if (t->at != 0 || !check_chunk(w, t))
            return w->why ? false : reject_weight(w, "is a vector in the wrong place");
        const pack_chunk *c = &w->p->chunk[w->chunk - 1];
        if (c->row0 || c->rows)
            return reject_weight(w, "is a vector whose chunk has rows");
    } else if (w->chunk == 0 || t->first_chunk != w->chunk - 1 || t->at < w->vector_end) {
        return reject_weight(w, "is a vector in the wrong place");
    }
    w->vector_end = t->at + bytes;
    return num_within(t->at, bytes, w->p->chunk[w->chunk - 1].bytes) ||
           reject_weight(w, "is a vector that does not lie in its chunk");
}

static bool check_tensor(index_check *w, const pack_tensor *t)
{
    if (t->name_at >= w->p->super.names_bytes)
        return reject_weight(w, "has no name");
    if (t->segment >= PACK_SEGMENTS || t->segment < w->segment)
        return reject_weight(w, "is in the wrong segment");
    w->segment = t->segment;
    if (t->rows == 0 || t->rows > LENGTH_MAX || t->c_in == 0 || t->c_in > LENGTH_MAX ||
        t->kh == 0 || t->kh > WINDOW_MAX || t->kw == 0 || t->kw > WINDOW_MAX)
        return reject_weight(w, "has an impossible shape");
    if ((t->dtype == DT_I8G64 ? !(t->sqnr >= 0) : t->sqnr != 0) || t->zero != 0)
        return reject_weight(w, "says something impossible of its noise");
    return t->segment == PACK_SEGMENT_VECTORS ? check_vector(w, t) : check_matrix(w, t);
}

static refine_status check_index(const pack *p, refine_error *err)
{
    index_check w = { .p = p, .file_at = sizeof(pack_superblock) };
    for (uint32_t i = 0; i < p->super.n_tensors; i++) {
        const pack_tensor *t = &p->tensor[i];
        if (check_tensor(&w, t))
            continue;
        return refine_fail(err, REFINE_EFORMAT,
                           "%s: weight %" PRIu32 " ('%.96s') %s; pack it again", p->path, i,
                           t->name_at < p->super.names_bytes ? p->names + t->name_at : "", w.why);
    }
    if (w.chunk != p->super.n_chunks || w.frame != p->super.n_frames)
        return fail_damaged(p, "its index has chunks that belong to no weight", err);
    return REFINE_OK;
}

/* Segments without chunks lie where the next one begins. */
static void find_segments(pack *p)
{
    uint32_t i = 0;
    for (uint32_t s = 0; s < PACK_SEGMENTS; s++) {
        p->segment_first[s] = (int)i;
        while (i < p->super.n_chunks && p->chunk[i].segment == s)
            i++;
    }
    p->segment_first[PACK_SEGMENTS] = (int)i;
}

/* ---- opening ---- */

static refine_status read_texts(pack *p, refine_error *err)
{
    const pack_superblock *s = &p->super;
    char *stored = NULL;

    p->meta_len = (size_t)s->meta_bytes;
    TRY(read_section(p, &p->meta, s->meta_at, s->meta_bytes, s->meta_hash, META_MAX, "meta data",
                     err));
    if (s->tokenizer_bytes == 0)
        return REFINE_OK;
    refine_status st = read_section(p, &stored, s->tokenizer_at, s->tokenizer_bytes,
                                    s->tokenizer_hash, TOKENIZER_MAX, "tokenizer", err);
    if (st == REFINE_OK) {
        st = codec_text(&p->merges, &p->merges_len, stored, (size_t)s->tokenizer_bytes, MERGES_MAX);
        if (st == REFINE_ENOMEM)
            fail_pack_memory(p, (size_t)s->tokenizer_bytes, err);
        else if (st != REFINE_OK)
            fail_damaged(p, "its tokenizer does not decode", err);
    }
    mem_free(stored);
    return st;
}

/* The largest frame of PACK_SPLIT of a chunk. */
static size_t split_of(const pack *p, const pack_chunk *c)
{
    size_t most = 0;
    for (uint32_t k = 0; k < c->n_frames; k++) {
        const pack_frame *f = &p->frame[c->first_frame + k];
        if (f->codec == PACK_SPLIT)
            most = num_max(most, f->bytes);
    }
    return most;
}

/* Of chunks [first, end). */
static void largest_frame(const pack *p, int first, int end, size_t *plain, size_t *stored)
{
    *plain = *stored = 0;
    for (int i = first; i < end; i++)
        for (uint32_t k = 0; k < p->chunk[i].n_frames; k++) {
            const pack_frame *f = &p->frame[p->chunk[i].first_frame + k];
            *plain = num_max(*plain, f->bytes);
            *stored = num_max(*stored, f->stored_bytes);
        }
}

static refine_status open_rows(pack *p, refine_error *err)
{
    size_t plain, stored;
    int first, end;
    pack_segment(p, PACK_SEGMENT_TOKENS, &first, &end);
    if (first == end)
        return REFINE_OK;
    largest_frame(p, first, end, &plain, &stored);
    p->rows = mem_alloc(sizeof *p->rows + plain + stored);
    if (!p->rows)
        return fail_pack_memory(p, sizeof *p->rows + plain + stored, err);
    p->rows->frame = -1;
    p->rows->plain = p->rows->space;
    p->rows->stored = p->rows->space + plain;
    p->rows->c = codec_open(plain);
    return p->rows->c ? REFINE_OK : fail_pack_memory(p, codec_memory(plain), err);
}

refine_status pack_open(pack **out, const char *path, refine_error *err)
{
    refine_status st;

    *out = NULL;
    pack *p = mem_calloc(1, sizeof *p);
    char *copy = mem_strdup(path);
    if (!p || !copy) {
        mem_free(p);
        mem_free(copy);
        return refine_fail(err, REFINE_ENOMEM, "%s: out of memory", path);
    }
    p->path = copy;
    p->fd = -1;
    TRY_OR(fail, read_super(p, err));
    TRY_OR(fail, read_index(p, err));
    TRY_OR(fail, check_index(p, err));
    find_segments(p);
    TRY_OR(fail, read_texts(p, err));
    TRY_OR(fail, open_rows(p, err));
    *out = p;
    return REFINE_OK;

fail:
    pack_close(p);
    return st;
}

void pack_close(pack *p)
{
    if (!p)
        return;
    if (p->rows)
        codec_close(p->rows->c);
    mem_free(p->rows);
    mem_free(p->merges);
    mem_free(p->meta);
    mem_free(p->index);
    if (p->fd >= 0)
        (void)close(p->fd);
    mem_free(p->path);
    mem_free(p);
}

/* ---- asking ---- */

const char *pack_path(const pack *p) { return p->path; }
const pack_superblock *pack_super(const pack *p) { return &p->super; }

int n_pack_tensors(const pack *p) { return (int)p->super.n_tensors; }
int n_pack_chunks(const pack *p) { return (int)p->super.n_chunks; }

const pack_tensor *pack_tensor_at(const pack *p, int i)
{
    assert(i >= 0 && i < n_pack_tensors(p));
    return &p->tensor[i];
}

const char *pack_tensor_name(const pack *p, int i)
{
    return p->names + pack_tensor_at(p, i)->name_at;
}

const pack_chunk *pack_chunk_at(const pack *p, int i)
{
    assert(i >= 0 && i < n_pack_chunks(p));
    return &p->chunk[i];
}

const pack_frame *pack_frame_at(const pack *p, int i)
{
    assert(i >= 0 && (uint32_t)i < p->super.n_frames);
    return &p->frame[i];
}

int pack_group_end(const pack *p, int chunk, int most)
{
    const pack_tensor *t = pack_tensor_at(p, (int)pack_chunk_at(p, chunk)->tensor);
    const int first = (int)t->first_chunk, end = first + (int)t->n_chunks;
    const int group = most > 1 ? most : 1, next = chunk + group - (chunk - first) % group;
    return next < end ? next : end;
}

void pack_segment(const pack *p, int segment, int *first, int *end)
{
    assert(segment >= 0 && segment < PACK_SEGMENTS);
    *first = p->segment_first[segment];
    *end = p->segment_first[segment + 1];
}

size_t pack_biggest(const pack *p)
{
    size_t most = 0;
    for (int i = 0; i < n_pack_chunks(p); i++)
        if (p->chunk[i].segment != PACK_SEGMENT_TOKENS)
            most = num_max(most, p->chunk[i].bytes);
    return most;
}

size_t pack_biggest_stored(const pack *p)
{
    size_t most = 0;
    for (int i = 0; i < n_pack_chunks(p); i++)
        if (p->chunk[i].segment != PACK_SEGMENT_TOKENS)
            most = num_max(most, p->chunk[i].stored_bytes);
    return num_align(most, PACK_ALIGN);
}

size_t pack_biggest_split(const pack *p)
{
    size_t most = 0;
    for (int i = 0; i < n_pack_chunks(p); i++)
        if (p->chunk[i].segment != PACK_SEGMENT_TOKENS)
            most = num_max(most, split_of(p, &p->chunk[i]));
    return most;
}

const char *pack_meta(const pack *p, size_t *len)
{
    *len = p->meta_len;
    return p->meta;
}

const char *pack_merges(const pack *p, size_t *len)
{
    *len = p->merges_len;
    return p->merges;
}

/* ---- chunks and rows ---- */

static refine_status damaged_frame(const pack *p, const pack_chunk *c, int frame, refine_error *err)
{
    return refine_fail(err, REFINE_EFORMAT,
                       "%s: chunk %td ('%.96s'), frame %d, is damaged (wrong checksum, or it does "
                       "not decode); copy or pack it again",
                       p->path, c - p->chunk, pack_tensor_name(p, (int)c->tensor), frame);
}

static refine_status decode_chunk(const pack *p, const pack_chunk *c, void *dst, const void *stored,
                                  refine_error *err)
{
    int bad = 0;
    codec *k = codec_open(split_of(p, c));
    if (!k)
        return fail_pack_memory(p, codec_memory(split_of(p, c)), err);
    refine_status st = codec_decode(k, dst, stored, &p->frame[c->first_frame], (int)c->n_frames,
                                    &bad);
    if (st != REFINE_OK)
        damaged_frame(p, c, bad, err);
    codec_close(k);
    return st;
}

refine_status pack_read_chunk(const pack *p, int chunk, void *dst, refine_error *err)
{
    const pack_chunk *c = pack_chunk_at(p, chunk);
    void *stored = mem_alloc(c->stored_bytes);
    if (!stored)
        return fail_pack_memory(p, c->stored_bytes, err);
    refine_status st = read_at(p, stored, c->stored_bytes, c->file_at, err);
    if (st == REFINE_OK)
        st = decode_chunk(p, c, dst, stored, err);
    mem_free(stored);
    return st;
}

/* Decodes frame `f` of chunk c into p->rows->plain, unless it is there. */
static refine_status read_frame(const pack *p, const pack_chunk *c, uint32_t f, refine_error *err)
{
    row_reader *r = p->rows;
    const pack_frame *frame = &p->frame[c->first_frame];
    uint64_t at = c->file_at;
    int bad;

    if (r->frame == (int64_t)c->first_frame + f)
        return REFINE_OK;
    for (uint32_t i = 0; i < f; i++)
        at += frame[i].stored_bytes;
    r->frame = -1;
    TRY(read_at(p, r->stored, frame[f].stored_bytes, at, err));
    if (codec_decode(r->c, r->plain, r->stored, &frame[f], 1, &bad) != REFINE_OK)
        return damaged_frame(p, c, (int)f, err);
    r->frame = (int64_t)c->first_frame + f;
    return REFINE_OK;
}

static const pack_chunk *chunk_of_row(const pack *p, const pack_tensor *t, uint32_t row)
{
    const pack_chunk *c = &p->chunk[t->first_chunk];
    while (row >= c->row0 + c->rows)
        c++;
    return c;
}

refine_status pack_read_row(const pack *p, int which, int row, uint16_t *dst, refine_error *err)
{
    const pack_tensor *t = pack_tensor_at(p, which);
    assert(t->segment == PACK_SEGMENT_TOKENS && t->dtype != DT_F32 && t->kh == 1 && t->kw == 1);
    assert(row >= 0 && (uint32_t)row < t->rows);
    const pack_chunk *c = chunk_of_row(p, t, (uint32_t)row);
    const size_t bytes = (size_t)t->c_in * sizeof *dst;
    size_t at = ((uint32_t)row - c->row0) * bytes, done = 0;

    while (done < bytes) {
        const size_t in_frame = at % PACK_FRAME, n = num_min(bytes - done, PACK_FRAME - in_frame);
        TRY(read_frame(p, c, (uint32_t)(at / PACK_FRAME), err));
        memcpy((char *)dst + done, p->rows->plain + in_frame, n);
        done += n;
        at += n;
    }
    return REFINE_OK;
}
