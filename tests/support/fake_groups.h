/* tests/support/fake_groups.h -- a directory with the /proc and the control groups of a made-up
 * machine. */
#ifndef FAKE_GROUPS_H
#define FAKE_GROUPS_H

#include "tests/support/temp_place.h"

/* Writes a file below the directory, and the directories to it. */
void fake_groups_write(const temp_place *p, const char *name, const char *text);

/* Removes all that is below, and the directory. */
void fake_groups_remove(const temp_place *p);

#endif
