/* tools/report/result_json.h -- a report as the JSON object that scripts rely on, and as text. */
#ifndef REFINE_RESULT_JSON_H
#define REFINE_RESULT_JSON_H

#include <refine/refine.h>

#include <jansson.h>
#include <stdio.h>

/* Everything needed to repeat a run, beside what the report holds. */
typedef struct run_record {
    const char *output; /* NULL for a plan, "" when no file was wanted */
    const char *pack, *base; /* packs; base NULL: there is none */
    const char *input, *prompt;
    const char *negative; /* NULL: none, which is not an empty one */
    const refine_job *job;
    const json_t *notes; /* texts: what was decided for the user; NULL: nothing */
} run_record;

/* The object itself, the caller's; NULL when out of memory. */
json_t *result_object(const refine_report *r, const run_record *run);

/* Prints an object as print_json_object does, with the digits of a result. */
refine_status result_write(FILE *out, json_t *o, refine_error *err);

/* Prints the result's.  A plan leaves out what only a run knows. */
refine_status result_print_json(FILE *out, const refine_report *r, const run_record *run,
                                refine_error *err);

/* The plan, with the notes, or what came of it, as a few lines for people. */
void result_print_plan(FILE *out, const refine_report *r, const json_t *notes);
void result_print_run(FILE *out, const refine_report *r);

/* What to do about a run that takes so long, to follow what says so; "" where an hour will do. */
const char *result_advice(double seconds);

/* A line that names what made a step much longer than predicted, if one was. */
void result_print_slow(FILE *out, const refine_report *r);

#endif
