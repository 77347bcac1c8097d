/* offload/pack_format.h -- the pack file, byte for byte.  See docs/pack-format.md.
 *
 *     superblock (4 KiB) | index | meta (JSON) | tokenizer | chunks, 4 KiB aligned
 *
 * All integers are little-endian; records are written as these structs, whose
 * layout is fixed by static assertions on a little-endian machine (the only kind
 * this project supports).  Hashes are XXH3, 64 bits.
 *
 * A tensor is cut into chunks of whole tiles (kernels/tensor.h), a chunk into
 * frames: the unit of coding and of checksums.  Chunks are what travels: a few
 * MiB, 4 KiB aligned in the file, read with one request or a few.  Tensors of the
 * vector segment share chunks, at offsets aligned to 256 bytes.
 *
 * A chunk in memory is its frames decoded one behind the other: rows of
 * kh*kw*c_in elements, c_in innermost; of an int8 matrix whole tiles (quant/int8.h).
 */
#ifndef REFINE_PACK_FORMAT_H
#define REFINE_PACK_FORMAT_H

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>

#define PACK_MAGIC "RFNPACK\n"

enum {
    PACK_VERSION = 1,
    PACK_ALIGN = 4096,
    PACK_FRAME = 512 * 1024,    /* decoded bytes of every frame but a chunk's last */
    PACK_CHUNK_MIN = 64 * 1024, /* limits of the packer's --chunk */
    PACK_CHUNK_MAX = 64 * 1024 * 1024,
    PACK_VECTOR_ALIGN = 256, /* what devices want of a vector: DEV_ALIGN or more */

    /* Segments (engine/model/weight_list.h names them all) whose chunks are special: */
    PACK_SEGMENTS = 16, /* more than there will ever be */
    PACK_SEGMENT_VECTORS = 0,
    PACK_SEGMENT_TOKENS = 6 /* read by row, never streamed */
};

typedef enum pack_codec {
    PACK_RAW = 0,
    PACK_ZSTD = 1, /* one zstd frame */
    PACK_SPLIT = 2 /* one zstd frame of two planes: all high bytes, then all low bytes, of
                           16-bit elements */
} pack_codec;

/* The number types of tensors: dtype of kernels/tensor.h. */

typedef struct pack_superblock {
    char magic[8];
    uint32_t version, n_tensors, n_chunks, n_frames;
    uint64_t file_bytes;
    uint64_t index_at, index_bytes, index_hash;             /* tensors, chunks, frames, names */
    uint64_t meta_at, meta_bytes, meta_hash;                /* JSON, not zero-terminated */
    uint64_t tokenizer_at, tokenizer_bytes, tokenizer_hash; /* merges, coded by zstd; 0: none */
    uint64_t source_hash; /* of the weights before int8: same weights, same hash */
    uint64_t names_bytes;
    uint64_t decoder_hash; /* likewise, of the VAE decoder's matrices; 0: not known */
    uint8_t zero[4096 - 8 - 16 - 8 * 13 - 8];
    uint64_t hash; /* of all bytes before it */
} pack_superblock;

typedef struct pack_tensor {
    uint32_t name_at; /* into the names, zero-terminated there */
    uint32_t segment, dtype;
    uint32_t rows, kh, kw, c_in;
    uint32_t first_chunk, n_chunks;
    uint32_t at; /* byte offset in the chunk; 0 unless a vector */
    float sqnr;  /* int8: signal over noise in dB, inf where nothing was lost; others: 0 */
    uint32_t zero;
} pack_tensor;

typedef struct pack_chunk {
    uint64_t file_at;      /* multiple of PACK_ALIGN */
    uint32_t stored_bytes; /* sum over its frames; zeros follow up to PACK_ALIGN */
    uint32_t bytes;        /* decoded */
    uint32_t first_frame, n_frames;
    uint32_t tensor;     /* the first tensor in it */
    uint32_t row0, rows; /* of that tensor; 0, 0 for chunks of vectors */
    uint32_t segment;
} pack_chunk;

typedef struct pack_frame {
    uint32_t stored_bytes, bytes;
    uint32_t codec, zero;
    uint64_t hash; /* of the stored bytes */
} pack_frame;

static_assert(sizeof(pack_superblock) == 4096, "on-disk layout");
static_assert(sizeof(pack_tensor) == 48, "on-disk layout");
static_assert(sizeof(pack_chunk) == 40, "on-disk layout");
static_assert(sizeof(pack_frame) == 24, "on-disk layout");

/* Decoded bytes of `rows` rows of a matrix: of whole tiles, or of a part of its last one.
 * False: of a number type unknown, or too many to count.  Packer and reader ask it alike. */
bool pack_rows_bytes(const pack_tensor *t, uint64_t rows, uint64_t *out);

#endif
