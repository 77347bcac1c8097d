/* tests/support/tiny_pack.h -- packs of the tiny model, made by the real refine-pack. */
#ifndef TINY_PACK_H
#define TINY_PACK_H

#include <stddef.h>

/* Packs synthetic:tiny with the demo's tokenizer and `options` (refine-pack's own) to a new
 * temporary file, whose name goes to `path`.  Fails the test when that fails. */
void tiny_pack(char *path, size_t size, const char *options);

#endif
