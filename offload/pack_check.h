/* offload/pack_check.h -- the proof that a pack's index can be believed. */
#ifndef REFINE_PACK_CHECK_H
#define REFINE_PACK_CHECK_H

#include "offload/pack_format.h"
#include <refine/status.h>

/* An index as it lies in the file: the records that the superblock counts, and the names, the last
 * of which ends.  The superblock's hash and file_bytes were compared with the file. */
typedef struct pack_index {
    const pack_superblock *super;
    const pack_tensor *tensor;
    const pack_chunk *chunk;
    const pack_frame *frame;
    const char *names;
} pack_index;

/* REFINE_EFORMAT: something in it does not hold; the text names the pack by its path, and the
 * weight. */
refine_status check_pack_index(const pack_index *in, const char *path, refine_error *err);

#endif
