/* tools/packer/pack_write.h -- from a source of weights to a pack file.
 *
 * The file depends on the source, the kind of weights, the codec, the chunk size and the
 * version of zstd: not on the number of threads, the time or the machine.  It appears under
 * its name only when it is complete.
 */
#ifndef REFINE_PACK_WRITE_H
#define REFINE_PACK_WRITE_H

#include "tools/source/weight_source.h"
#include "tools/packer/weights_policy.h"

#include <stdbool.h>

enum { PACK_CHUNK_DEFAULT = 4 * 1024 * 1024 };

typedef struct pack_write_options {
    const char *path;
    bool replace;       /* a file of that name */
    weights_kind weights;
    bool raw;           /* no compression */
    size_t chunk_bytes; /* 0: PACK_CHUNK_DEFAULT */
    int threads;        /* 0: one per core */
    const char *merges; /* tokenizer text; NULL: the pack gets none */
    size_t merges_len;
    /* Both may be NULL; called by one thread at a time. */
    void (*progress)(void *context, uint64_t done_bytes, uint64_t all_bytes);
    bool (*stop)(void *context); /* true: give up with REFINE_ECANCELLED */
    void *context;
} pack_write_options;

typedef struct pack_written {
    uint64_t file_bytes, weight_bytes, source_hash;
    uint64_t room_bytes; /* that were free on the file system before */
    int n_tensors, n_chunks, threads;
    int n_int8;         /* matrices */
    double least_sqnr;  /* of one of them, dB; INFINITY where nothing was lost */
} pack_written;

refine_status pack_write(pack_written *out, const weight_source *s, const pack_write_options *o,
                         refine_error *err);

#endif
