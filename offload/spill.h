/* offload/spill.h -- activations that the device has no room for: host memory, then a file.
 *
 * One space of bytes, [0, host) in memory and [host, host + file) in an unlinked file, which
 * the system removes whatever becomes of the process.  Moves are in order with the compute
 * queue, and a failure is left in the device.  One thread.
 */
#ifndef REFINE_SPILL_H
#define REFINE_SPILL_H

#include "kernels/device.h"

typedef struct spill spill;

typedef struct spill_config {
    dev *d;
    size_t host_bytes, file_bytes;
    const char *dir; /* of the file; NULL: /var/tmp */
} spill_config;

/* Takes the memory and the file's blocks.  REFINE_ENOMEM: there is not
 * so much memory, or the directory has no room. */
refine_status spill_open(spill **out, const spill_config *c, refine_error *err);
void spill_close(spill *s); /* NULL is fine */

void spill_store(spill *s, size_t at, const void *device, size_t bytes);
void spill_load(spill *s, void *device, size_t at, size_t bytes);

/* Host memory it takes besides `host_bytes`. */
size_t spill_overhead(size_t file_bytes);

#endif
