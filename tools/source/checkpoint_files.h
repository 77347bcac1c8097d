/* tools/source/checkpoint_files.h -- the files that a checkpoint consists of. */
#ifndef REFINE_CHECKPOINT_FILES_H
#define REFINE_CHECKPOINT_FILES_H

#include "tools/cli/places.h"

/* Adds to `p`, as read, the file `path`, or what is in the directory `path` and in the
 * directories in it, also what is not used of it: a variant of the weights, a model card.  Packs
 * are left out: they were written there, and may be again. */
void checkpoint_files(places *p, const char *role, const char *path);

#endif
