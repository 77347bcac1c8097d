/* offload/codec.h -- from the stored bytes of a chunk to its weights. */
#ifndef REFINE_CODEC_H
#define REFINE_CODEC_H

#include "offload/pack_format.h"
#include <refine/status.h>

#include <stddef.h>

/* Memory of one decoding thread: a zstd context and the planes of frames of PACK_SPLIT, of which
 * none may have more than `split` bytes (0: there are none). */
typedef struct codec codec;

codec *codec_open(size_t split);   /* NULL: out of memory */
void codec_close(codec *c);        /* NULL is fine */
size_t codec_memory(size_t split); /* bytes one codec takes, zstd's own included */

/* Checks the hashes of `n` frames that lie one behind the other at `stored` and decodes
 * them one behind the other to `dst`, which may be `stored` if all are PACK_RAW.
 * REFINE_EFORMAT: a hash differs or a frame does not decode; *bad is its number. */
refine_status codec_decode(codec *c, void *dst, const void *stored, const pack_frame *frames, int n,
                           int *bad);

/* The hash of everything in a pack: XXH3, 64 bits. */
uint64_t codec_hash(const void *data, size_t bytes);

/* Unpacks a text of at most `most` bytes that was stored as one zstd frame.  *out is
 * zero-terminated and the caller's to mem_free.  REFINE_EFORMAT: damaged, or longer. */
refine_status codec_text(char **out, size_t *len, const void *stored, size_t stored_bytes,
                         size_t most);

#endif
