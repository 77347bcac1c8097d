/* tools/packer/pack_inspect.h -- what is in a pack, and whether all of it is still as it was
 * written. */
#ifndef REFINE_PACK_INSPECT_H
#define REFINE_PACK_INSPECT_H

#include <refine/status.h>

#include <stdbool.h>
#include <stdio.h>

/* Prints source, sizes, segments and every matrix; as JSON every tensor. */
refine_status pack_inspect(FILE *out, const char *path, bool json, refine_error *err);

/* Reads every chunk, compares every checksum and decodes every frame, with progress on
 * stderr.  REFINE_EFORMAT names the first chunk that is damaged; REFINE_ECANCELLED after an
 * interruption. */
refine_status pack_verify(FILE *out, const char *path, bool json, bool quiet, refine_error *err);

#endif
