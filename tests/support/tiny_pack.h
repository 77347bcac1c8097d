/* tests/support/tiny_pack.h -- packs of the tiny model, made by the real refine-pack. */
#ifndef TINY_PACK_H
#define TINY_PACK_H

#include <stddef.h>

/* Packs synthetic:tiny with the demo's tokenizer and `options` (refine-pack's own) to a new
 * temporary file, whose name goes to `path`.  Fails the test when that fails.
 *
 * It is a copy, to be damaged and removed as one likes: a pack is made once for each `options` and
 * kept in packs/ of the build, until refine-pack or the tokenizer is newer. */
void tiny_pack(char *path, size_t size, const char *options);

/* The kept one itself, which must stay as it is. */
void kept_pack(char *path, size_t size, const char *options);
void kept_pack_of(char *path, size_t size, const char *source, const char *options);

/* The same as tiny_pack of another source than synthetic:tiny. */
void made_pack(char *path, size_t size, const char *source, const char *options);

#endif
