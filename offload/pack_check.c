/* offload/pack_check.c -- the walk that proves an index.
 *
 * Tensors are walked in order, which must use every chunk and every frame once, in order: that
 * walk is the proof of all that offload/pack.h promises.  Every number is taken for a lie until
 * it is compared with the file's length or with what was walked over before.
 */
#include "offload/pack_check.h"

#include "engine/base/num.h"
#include "kernels/device.h"
#include "kernels/tensor.h"

#include <inttypes.h>
#include <stdbool.h>

_Static_assert(PACK_VECTOR_ALIGN % DEV_ALIGN == 0, "vectors are used where their chunk lies");

/* No tensor of a model comes near these; they bound what a hostile one can ask for. */
enum {
    WINDOW_MAX = 1 << 10, /* kh, kw */
    LENGTH_MAX = 1 << 28  /* rows, c_in */
};

/* What comes next, if the file keeps its promises. */
typedef struct index_check {
    const pack_index *in;
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
        !num_within(c->first_frame, c->n_frames, w->in->super->n_frames))
        return reject_weight(w, "has its frames in the wrong place");
    for (uint32_t i = 0; i < c->n_frames; i++) {
        const pack_frame *f = &w->in->frame[c->first_frame + i];
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
    if (w->chunk >= w->in->super->n_chunks)
        return reject_weight(w, "has no chunk");
    const pack_chunk *c = &w->in->chunk[w->chunk];
    if (c->tensor != (uint32_t)(t - w->in->tensor) || c->segment != t->segment)
        return reject_weight(w, "has a chunk that belongs to another");
    if (c->bytes == 0 || c->bytes > PACK_CHUNK_MAX || c->stored_bytes > PACK_CHUNK_MAX)
        return reject_weight(w, "has a chunk of a wrong size");
    const uint64_t padded = num_align(c->stored_bytes, PACK_ALIGN);
    if (c->file_at % PACK_ALIGN || c->file_at < w->file_at ||
        !num_within(c->file_at, padded, w->in->super->file_bytes))
        return reject_weight(w, "has a chunk that does not lie in the file, or in another");
    w->file_at = c->file_at + padded;
    w->chunk++;
    return check_frames(w, c);
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
        const pack_chunk *c = &w->in->chunk[w->chunk - 1];
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
        const pack_chunk *c = &w->in->chunk[w->chunk - 1];
        if (c->row0 || c->rows)
            return reject_weight(w, "is a vector whose chunk has rows");
    } else if (w->chunk == 0 || t->first_chunk != w->chunk - 1 || t->at < w->vector_end) {
        return reject_weight(w, "is a vector in the wrong place");
    }
    w->vector_end = t->at + bytes;
    return num_within(t->at, bytes, w->in->chunk[w->chunk - 1].bytes) ||
           reject_weight(w, "is a vector that does not lie in its chunk");
}

static bool check_tensor(index_check *w, const pack_tensor *t)
{
    if (t->name_at >= w->in->super->names_bytes)
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

refine_status check_pack_index(const pack_index *in, const char *path, refine_error *err)
{
    index_check w = { .in = in, .file_at = sizeof(pack_superblock) };
    for (uint32_t i = 0; i < in->super->n_tensors; i++) {
        const pack_tensor *t = &in->tensor[i];
        if (check_tensor(&w, t))
            continue;
        return refine_fail(
            err, REFINE_EFORMAT, "%s: weight %" PRIu32 " ('%.96s') %s; pack it again", path, i,
            t->name_at < in->super->names_bytes ? in->names + t->name_at : "", w.why);
    }
    if (w.chunk != in->super->n_chunks || w.frame != in->super->n_frames)
        return refine_fail(
            err, REFINE_EFORMAT,
            "%s: its index has chunks that belong to no weight; copy or pack it again", path);
    return REFINE_OK;
}
