/* engine/arena.h -- the zones between the parts of the arena (engine/plan/plan.h). */
#ifndef REFINE_ARENA_H
#define REFINE_ARENA_H

#include "engine/plan/plan.h"

/* Lays a zone behind each part, where the plan has them. */
void arena_guard(dev *d, const plan *p, char *arena);
/* Fails the device (REFINE_EDEVICE) with the first byte of a zone that was written since. */
void arena_check(dev *d, const plan *p, const char *arena);

#endif
