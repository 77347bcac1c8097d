/* tools/cli/places.h -- where the names of a run's files lead, so that it replaces nothing it
 * reads.
 *
 *     places p = { 0 };
 *     places_add(&p, PLACE_READ, "the input (-i)", "photo.png");
 *     places_add(&p, PLACE_WRITTEN, "the image (-o)", "old/../photo.png");
 *     st = places_check(&p, err);
 *     places_free(&p);
 *
 * Two names lead to one place when what one writes the other would read: through another
 * spelling, a symbolic link, a hard link or a second mount.  A place is
 *
 *     what exists        its device and inode
 *     what does not yet  device and inode of the nearest directory that exists, and the names
 *                        from there; a symbolic link to nothing is followed to where the file
 *                        would come to be
 *
 * Regular files and directories are places.  Pipes, terminals and /dev/null are not: they hold
 * nothing that could be lost.  It takes n log n for n names.
 */
#ifndef REFINE_PLACES_H
#define REFINE_PLACES_H

#include <refine/status.h>

typedef enum place_use { PLACE_READ, PLACE_WRITTEN } place_use;

typedef struct place place;

typedef struct places {
    place *item; /* owned */
    int n, room;
    refine_status st; /* the first failure; what is added after it is ignored */
} places;

/* `role`, kept: what the file is to the run, and the option that names it.  A name that is NULL
 * or empty is none. */
void places_add(places *p, place_use use, const char *role, const char *name);

/* The same for an open file: standard input or output that was redirected. */
void places_add_open(places *p, place_use use, const char *role, int fd);

/* REFINE_EINVAL: something is written where something else is read or written; the text names
 * the first of these, both roles, and what to do.  Reorders p. */
refine_status places_check(places *p, refine_error *err);

void places_free(places *p); /* a zeroed one is fine */

#endif
