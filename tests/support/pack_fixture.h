/* tests/support/pack_fixture.h -- small packs, written straight from offload/pack_format.h.
 *
 * Shares no code with refine-pack or with the reader under test, so that the two can only
 * agree with each other by agreeing with the format.
 */
#ifndef PACK_FIXTURE_H
#define PACK_FIXTURE_H

#include "offload/pack_format.h"
#include "tests/support/temp_file.h"

#include <stddef.h>

enum { FIXTURE_CHUNKS = 256 };

/* FIXTURE_MIXED: frames take turns in being raw, zstd and split. */
typedef enum fixture_codec {
    FIXTURE_RAW,
    FIXTURE_ZSTD,
    FIXTURE_SPLIT,
    FIXTURE_MIXED
} fixture_codec;

/* chunk_rows: rows of each chunk but the last; 0: all.  In the vector segment 0 shares the
 * chunk of the vector before it. */
typedef struct fixture_tensor {
    const char *name;
    int segment, dtype, rows, kh, kw, c_in, chunk_rows;
} fixture_tensor;

typedef struct pack_fixture {
    char path[TEMP_NAME]; /* "" until written */
    uint8_t *file;        /* the image, to be damaged by tests */
    size_t bytes;
    int n_chunks;
    uint8_t *plain[FIXTURE_CHUNKS]; /* what each chunk decodes to */
} pack_fixture;

/* Merges: NULL for none. */
void pack_fixture_make(pack_fixture *f, const fixture_tensor *t, int n, fixture_codec codec,
                       const char *merges);
/* (Re)writes the image to a temporary file. */
void pack_fixture_write(pack_fixture *f);
void pack_fixture_free(pack_fixture *f); /* and removes the file */

/* The parts of an image. */
pack_superblock *fixture_super(const pack_fixture *f);
pack_tensor *fixture_tensors(const pack_fixture *f);
pack_chunk *fixture_chunks(const pack_fixture *f);
pack_frame *fixture_frames(const pack_fixture *f);

/* Sets the first weight of tensor `name`, of 16 or 32 bits, in the image of any pack whose frames
 * are raw, and makes its hashes right. */
void fixture_set_weight(pack_fixture *f, const char *name, float value);

/* Makes every hash but those of frames right again; leaves what does not lie in the file. */
void pack_fixture_rehash(uint8_t *file, size_t bytes);

#endif
