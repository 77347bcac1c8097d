/* tools/report/report_fields.h -- where each member of a report stands in its JSON.
 *
 * One row a member: result_json.c writes by these tables, refine-memprof reads back by them, and
 * tests/tools/test_report_fields.c fails while a member is in none.
 */
#ifndef REFINE_REPORT_FIELDS_H
#define REFINE_REPORT_FIELDS_H

#include "tools/files/checked_json.h"
#include <refine/refine.h>

#include <stddef.h>

typedef enum report_kind {
    FIELD_BYTES,   /* uint64_t */
    FIELD_COUNT,   /* int */
    FIELD_SECONDS, /* double */
    FIELD_AMOUNT,  /* double: a rate, a ratio, a share */
    FIELD_TEXT,    /* const char *; NULL is "" */
    FIELD_HASH,    /* uint64_t, as 16 hexadecimal digits */
    FIELD_STEPS,   /* refine_report's `step`, a list of seconds */
    FIELD_STALLED, /* no member: the share of `total` that the stalls make; not read */
    FIELD_OBJECT   /* the `members` of it */
} report_kind;

/* What has to be known for a field to be written. */
enum {
    KNOWN_RUN = 1,        /* what only a run tells */
    KNOWN_PREDICTION = 2, /* there were rates to predict from */
    KNOWN_SLOW = 4        /* a step was slow, and why */
};

typedef struct report_field {
    const char *key; /* NULL ends a table */
    report_kind kind;
    size_t offset;  /* in the struct that the table is of */
    unsigned needs; /* KNOWN_ of above */
    const struct report_field *members; /* of an object */
} report_field;

extern const report_field rate_fields[];   /* of refine_rates */
extern const report_field memory_fields[]; /* of refine_memory */
/* Of refine_report: what was run, the objects that follow, and what belongs to "run". */
extern const report_field report_head[], report_parts[], report_source[];

/* KNOWN_ of this report. */
unsigned report_known(const refine_report *r, bool ran);

/* `o` (stolen) with the fields of `base` that are known; NULL when `o` is or memory is short. */
json_t *report_fields_write(json_t *o, const report_field *fields, const void *base,
                            unsigned known);

/* The members of `base` that fields of `o` tell, the others of the table 0 or "".  Of FIELD_STEPS
 * nothing: report_read allocates. */
void report_fields_read(json_checker *c, const json_t *o, const report_field *fields, void *base);

/* A report from the object of result_json.h.  Strings are the JSON's; `step`, also the report's, is
 * the caller's to mem_free, whatever the checker says. */
void report_read(json_checker *c, const json_t *result, refine_report *r, double **step);

#endif
