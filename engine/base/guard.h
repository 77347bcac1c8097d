/* engine/base/guard.h -- red zones, for memory that is cut into blocks by hand.
 *
 * Guarded builds (REFINE_GUARDS, the presets for tests) leave a zone around each such block and
 * look at it when the block is done with.  A zone finds what it is for in two ways: its bytes are
 * a pattern, which also shows what code without a sanitizer wrote (a library's, a GPU's); and
 * AddressSanitizer, where the build has it, is told that nobody may touch it, which also shows
 * reads.
 *
 * In other builds the blocks of workspace and of the ring have no zones.  Those between the parts
 * of the arena, around activations and behind staging are there for whoever asks
 * (refine_options), and are looked at, as cheaply as that is: at the end of a block's life or of a
 * phase.
 */
#ifndef REFINE_GUARD_H
#define REFINE_GUARD_H

#include <stdbool.h>
#include <stddef.h>

enum { GUARD_MAX = 256 }; /* bytes of a zone, where there is one */

/* GUARD_ZONE: of one that only guarded builds have. */
#ifdef REFINE_GUARDS
enum { GUARDED = 1, GUARD_ZONE = GUARD_MAX };
#else
enum { GUARDED = 0, GUARD_ZONE = 0 };
#endif

/* Of one that may be asked for. */
static inline size_t guard_zone(bool asked) { return GUARDED || asked ? GUARD_MAX : 0; }

/* The pattern: any two bytes at an even address are a NaN in every floating type. */
void guard_fill(void *zone, size_t bytes);
size_t guard_spoilt(const void *zone, size_t bytes); /* the first other byte; `bytes`: none */

/* May instrumented code touch it? */
void guard_shut(const void *p, size_t bytes);
void guard_open(const void *p, size_t bytes);

/* Innermost loops that sanitizers make many times slower, and compilers take minutes over, are
 * compiled without: all that they read and write is touched before, a region at a time, which
 * ends in AddressSanitizer's report where a loop's own access would have. */
#define GUARD_UNWATCHED __attribute__((no_sanitize("address", "undefined")))
void guard_touch(const void *p, size_t bytes);
bool guard_watches(void);

#endif
