/* tests/support/vectors.h -- the reference vectors that are shared beside the repository.
 *
 * Looked for in $REFINE_SHARED, else in ../shared.  Tests that need one and find none say
 * so and are skipped: vectors_load, then cr_skip_test.
 */
#ifndef REFINE_TESTS_VECTORS_H
#define REFINE_TESTS_VECTORS_H

#include <jansson.h>
#include <stdbool.h>

enum { VECTORS_PATH = 4096 };

/* Where `name` ("spec/schedules.json") would be; false, after printing SKIP, if it is not. */
bool vectors_path(const char *name, char out[VECTORS_PATH]);

/* NULL, after printing SKIP, if there is none; json_decref it. */
json_t *vectors_load(const char *name);

/* Member `key` of `object` as numbers: at most `max` of them into out; the count. */
size_t vectors_doubles(const json_t *object, const char *key, double *out, size_t max);

#endif
