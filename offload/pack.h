/* offload/pack.h -- the read side of a pack file: its index, its meta data, its rows.
 *
 * pack_open reads and checks everything but the chunks: every offset, size and
 * count is bounded by the file before use, every hash compared.  What a valid
 * index promises (offload/pack_format.h) holds afterwards without further checks:
 *
 *   - chunks of a segment are contiguous, segments in order;
 *   - a matrix's chunks cover its rows once, in order, each but the last a
 *     multiple of tile_rows;
 *   - frames of a chunk add up to its bytes and its stored bytes.
 */
#ifndef REFINE_PACK_H
#define REFINE_PACK_H

#include "offload/pack_format.h"
#include <refine/status.h>

#include <stddef.h>

typedef struct pack pack;

/* REFINE_EIO: cannot be opened.  REFINE_EFORMAT: not a pack, of another version,
 * truncated, or damaged: the text says which. */
refine_status pack_open(pack **out, const char *path, refine_error *err);
void pack_close(pack *p); /* NULL is fine */

const char *pack_path(const pack *p);
const pack_superblock *pack_super(const pack *p);

int n_pack_tensors(const pack *p);
const pack_tensor *pack_tensor_at(const pack *p, int i);
const char *pack_tensor_name(const pack *p, int i);
int n_pack_chunks(const pack *p);
const pack_chunk *pack_chunk_at(const pack *p, int i);
const pack_frame *pack_frame_at(const pack *p, int i);

/* Chunks [*first, *end) of a segment. */
void pack_segment(const pack *p, int segment, int *first, int *end);

/* A matrix is cut into groups of `most` chunks (0: 1), from its first on, which are multiplied
 * together: the end of that of `chunk`. */
int pack_group_end(const pack *p, int chunk, int most);

/* Largest chunk of the whole pack but the token table: decoded, and stored (a
 * multiple of PACK_ALIGN). */
size_t pack_biggest(const pack *p);
size_t pack_biggest_stored(const pack *p);

/* Largest frame of PACK_SPLIT of the same chunks, decoded; 0: there is none. */
size_t pack_biggest_split(const pack *p);

/* The JSON text, and the tokenizer's merges (NULL, 0 when the pack has none).
 * Owned by the pack, zero-terminated. */
const char *pack_meta(const pack *p, size_t *len);
const char *pack_merges(const pack *p, size_t *len);

/* Reads, checks and decodes one whole chunk into `dst` (chunk->bytes), slowly and
 * in the caller's thread.  For vectors, tools and tests. */
refine_status pack_read_chunk(const pack *p, int chunk, void *dst, refine_error *err);

/* Reads row `row` of a matrix stored in SEG_TOKENS as 16-bit numbers, by way of the
 * one frame (or two) it lies in.  dst: c_in elements.  Allocates nothing; the frame is kept
 * in the pack for the next row, so one thread at a time. */
refine_status pack_read_row(const pack *p, int tensor, int row, uint16_t *dst, refine_error *err);

/* Memory that it has taken for that, which nobody touches before the first row. */
size_t pack_row_buffer_bytes(const pack *p);

#endif
