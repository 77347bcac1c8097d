/* engine/model/scratch.h -- activation memory: one region, lent out and taken back.
 *
 * First fit at the lowest address over a short list of live blocks.  The sequence of
 * takes and gives is fixed by the model and the image size, so a replay on the
 * plan device finds the very addresses a run will use, and `peak` is exact.  No
 * allocation, no failure: a region that turns out too small is our bug, and the
 * device is failed with REFINE_EBUDGET.
 *
 * Where zones are asked for (engine/base/guard.h) every block lies between two, which plan and run
 * both count.  They are looked at when a block is given, trimmed, or still out when the scratch is
 * closed; what was written there fails the device with REFINE_EDEVICE.  Where device memory is the
 * process's, AddressSanitizer also stops whoever touches a zone or a block that was given back.
 */
#ifndef REFINE_SCRATCH_H
#define REFINE_SCRATCH_H

#include "kernels/device.h"

enum { SCRATCH_BLOCKS = 256, SCRATCH_ALIGN = DEV_ALIGN };

/* As a base: addresses that nobody reads or writes. */
#define SCRATCH_TOKEN ((void *)(uintptr_t)SCRATCH_ALIGN)

typedef struct scratch_block {
    size_t at, bytes; /* with its zones */
    size_t asked;
} scratch_block;

typedef struct scratch {
    dev *d;
    char *base;
    size_t size, peak;
    size_t zone; /* bytes of one */
    size_t high; /* peak since scratch_high was asked last */
    int n;
    scratch_block live[SCRATCH_BLOCKS]; /* sorted by address */
} scratch;

/* While planning base is SCRATCH_TOKEN and size SIZE_MAX.  One that is zero, or closed, may be
 * closed. */
void scratch_open(scratch *s, dev *d, void *base, size_t size, size_t zone);
void scratch_close(scratch *s); /* takes back what is still lent out */

/* Bytes of device memory, aligned to SCRATCH_ALIGN. */
void *scratch_bytes(scratch *s, size_t bytes);
void scratch_free_bytes(scratch *s, void *p); /* NULL is fine */

/* Would they lie within the first `end` bytes of the region? */
bool scratch_fits(const scratch *s, size_t bytes, size_t end);

/* Such bytes above where a block of `below` bytes fits at the start of the region (0: anywhere). */
void *scratch_bytes_above(scratch *s, size_t below, size_t bytes);

size_t scratch_span(const scratch *s, size_t bytes); /* of the region that a block takes up */
size_t scratch_live(const scratch *s);               /* bytes lent out now */
size_t scratch_high(scratch *s); /* the most in use, as `peak`, since it was asked last */

/* A dense tensor. */
tensor scratch_alloc(scratch *s, dtype type, int n, int h, int w, int c);
void scratch_free(scratch *s, tensor t); /* an absent tensor is fine */

/* Gives back what lies behind the first `bytes` of a block. */
void scratch_trim(scratch *s, void *p, size_t bytes);

#endif
