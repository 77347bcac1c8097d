/* offload/pack.c -- opening a pack: nothing in the file is believed before it is checked.
 *
 *     superblock -> sections inside the file -> their hashes -> tensors, chunks and frames
 *
 * The records are kept as they lie in the file, in one block.  A good hash proves nothing about
 * who wrote the file, so everything a hash covers is checked as well: offload/pack_check.c.
 */
#define _POSIX_C_SOURCE 200809L
#include "offload/pack.h"

#include "engine/base/io.h"
#include "engine/base/mem.h"
#include "engine/base/num.h"
#include "engine/base/try.h"
#include "kernels/tensor.h"
#include "offload/codec.h"
#include "offload/pack_check.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* No pack of a model comes near these; they bound what a hostile one can ask for. */
enum {
    INDEX_MAX = 256 << 20,
    META_MAX = 16 << 20,
    TOKENIZER_MAX = 16 << 20,
    MERGES_MAX = 64 << 20
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

static refine_status check_index(const pack *p, refine_error *err)
{
    const pack_index in = { &p->super, p->tensor, p->chunk, p->frame, p->names };
    return check_pack_index(&in, p->path, err);
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

size_t pack_row_buffer_bytes(const pack *p)
{
    size_t plain, stored;
    int first, end;
    pack_segment(p, PACK_SEGMENT_TOKENS, &first, &end);
    largest_frame(p, first, end, &plain, &stored);
    return plain + stored;
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
