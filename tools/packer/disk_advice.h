/* tools/packer/disk_advice.h -- whether compression makes a pack stream faster from its disk.
 *
 * Reading and decoding overlap, so of B bytes a second read, and D decoded by each of n
 * threads, decoded weights come at
 *
 *     raw  B          zstd  min(ratio * B, n * D)          ratio = decoded / stored bytes
 *
 * and zstd gains their quotient: never more than the ratio, and nothing on a disk that is
 * faster than the decoders.
 */
#ifndef REFINE_DISK_ADVICE_H
#define REFINE_DISK_ADVICE_H

#include <stdbool.h>
#include <stddef.h>

/* Threads that decode unless refine-lowmem is told otherwise. */
enum { DISK_ADVICE_DECODERS = 2, DISK_ADVICE_TEXT = 192 };

typedef struct disk_advice {
    double read;   /* bytes a second */
    double decode; /* the same, decoded, of one thread */
    double ratio;  /* of the weights that every step reads */
    double gain;   /* of zstd over raw; below 1: raw is faster */
} disk_advice;

double disk_advice_gain(double read, double decode, double ratio);

/* Reads some of a pack around the page cache, and decodes a little: some 50 ms.  False: it
 * could not be measured. */
bool disk_advice_measure(disk_advice *out, const char *path);

/* One line, without its end. */
const char *disk_advice_text(char out[DISK_ADVICE_TEXT], const disk_advice *a);

#endif
