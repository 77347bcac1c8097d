/* tools/files/checked_json.h -- members out of JSON that nobody vouches for.
 *
 *     json_checker c = { .path = path, .kind = "file of refine-lowmem --trace", .err = err };
 *     width = checked_int(&c, o, "width");
 *     TRY(c.st);
 *
 * The first failure sticks and is the one told of; what is read after it is 0, "" or NULL, or in
 * range.  A member that is missing is 0, "" or NULL, and so is every member of a NULL object.
 */
#ifndef REFINE_CHECKED_JSON_H
#define REFINE_CHECKED_JSON_H

#include <refine/status.h>

#include <jansson.h>
#include <stdint.h>

/* The most that a time and any other amount can be, so that sums of them stay finite. */
#define CHECKED_SECONDS_MAX 1e8
#define CHECKED_AMOUNT_MAX  1e24

typedef struct json_checker {
    const char *path;
    const char *kind; /* of file that was expected */
    refine_error *err;
    refine_status st;
} json_checker;

/* REFINE_EFORMAT: "PATH: WHAT; is this a KIND?"; REFINE_ENOMEM. */
void refuse_json(json_checker *c, const char *what);
void checker_out_of_memory(json_checker *c);

/* A number from 0 to `most`; a whole one. */
double checked_real(json_checker *c, const json_t *o, const char *key, double most);
uint64_t checked_count(json_checker *c, const json_t *o, const char *key, uint64_t most);
uint64_t checked_bytes(json_checker *c, const json_t *o, const char *key);
int checked_int(json_checker *c, const json_t *o, const char *key);

/* The JSON's own. */
const char *checked_text(json_checker *c, const json_t *o, const char *key);
json_t *checked_object(json_checker *c, const json_t *o, const char *key);

/* The numbers from 0 to `most` of a list, the caller's to mem_free; NULL where there are none. */
double *checked_reals(json_checker *c, const json_t *o, const char *key, double most, size_t *n);

/* The index of the word in a list of n; any other word is refused. */
int checked_word(json_checker *c, const json_t *o, const char *key, const char *const list[],
                 int n);

#endif
