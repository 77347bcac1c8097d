/* tools/json_file.h -- a small JSON file, whole. */
#ifndef REFINE_JSON_FILE_H
#define REFINE_JSON_FILE_H

#include "engine/base/status.h"

#include <jansson.h>

enum { JSON_FILE_MOST = 16 << 20 };

/* REFINE_EIO: not there or not readable.  REFINE_EFORMAT: too large, no JSON, or no object. */
refine_status json_file_load(json_t **out, const char *path, refine_error *err);

#endif
