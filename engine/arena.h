/* engine/arena.h -- the zones between the parts of the arena (engine/plan/arena_layout.h). */
#ifndef REFINE_ARENA_H
#define REFINE_ARENA_H

#include "engine/plan/arena_layout.h"

/* Lays a zone behind each part, where it has them. */
void arena_guard(dev *d, const arena_layout *a, char *arena);
/* Fails the device (REFINE_EDEVICE) with the first byte of a zone that was written since. */
void arena_check(dev *d, const arena_layout *a, const char *arena);

#endif
