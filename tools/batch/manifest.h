/* tools/batch/manifest.h -- many images, each with what sets it apart, as lines of JSON objects.
 *
 *     {"input": "a.png", "output": "b.png", "prompt": "a castle", "seed": 7, "strength": 0.4}
 *     {"prompt": "a castle at dawn", "width": 1024, "height": 768, "steps": 30}
 *
 * All members may be left out or null, and are then the command line's.  Relative paths are
 * resolved against the manifest's directory; where the manifest is no file that lies in one, a pipe
 * or "-", standard input, they are left as they are.
 */
#ifndef REFINE_MANIFEST_H
#define REFINE_MANIFEST_H

#include "tools/batch/work_list.h"

/* What messages call it. */
const char *manifest_name(const char *path);

/* Appends an item a line that is not blank.  REFINE_EFORMAT names the line, and the member that is
 * unknown or out of its range. */
refine_status manifest_read(work_list *l, const char *path, refine_error *err);

#endif
