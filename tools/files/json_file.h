/* tools/files/json_file.h -- a small JSON file, whole. */
#ifndef REFINE_JSON_FILE_H
#define REFINE_JSON_FILE_H

#include <refine/status.h>

#include <jansson.h>

enum { JSON_FILE_MAX = 16 << 20 };

/* REFINE_EIO: not there or not readable.  REFINE_EFORMAT: too large, no JSON, or no object. */
refine_status json_file_load(json_t **out, const char *path, refine_error *err);

/* The text of a file of at most `most` bytes, the caller's to mem_free; the same failures. */
refine_status json_file_text(char **out, size_t *len, const char *path, size_t most,
                             refine_error *err);

#endif
