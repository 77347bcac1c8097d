/* tools/source/hub_cache.h -- a model in the cache of the Hugging Face hub.
 *
 *     models--OWNER--NAME/refs/main            the text COMMIT
 *     models--OWNER--NAME/snapshots/COMMIT/    the files, as links to ../../blobs/
 */
#ifndef REFINE_HUB_CACHE_H
#define REFINE_HUB_CACHE_H

#include <refine/status.h>

enum { HUB_PATH = 4096 };

/* Of a directory that is laid out so the snapshot that refs/main names, or the only one; of any
 * other path the path.  REFINE_EFORMAT: there is no snapshot, or several: the text says which. */
refine_status hub_find_snapshot(char out[HUB_PATH], const char *path, refine_error *err);

#endif
