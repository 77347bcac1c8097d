/* tests/property/any_job.h -- jobs of the tiny model, drawn at random.
 *
 *     any_job a;
 *     draw_job(d, &a, 1, ANY_JOB_PIXELS);  what is asked for: pack, size, flow, precision
 *     draw_ways(d, &a, &o);                and how it is to be done, of which no bit may depend
 */
#ifndef TEST_ANY_JOB_H
#define TEST_ANY_JOB_H

#include "tests/property/property.h"
#include "tests/support/sanitized.h"
#include <refine/refine.h>

/* Images of a run, and pixels of all of them, at most. */
enum { ANY_JOB_IMAGES = 3, ANY_JOB_PIXELS = SANITIZED ? 8192 : 300000 };

typedef struct any_job {
    refine_options o;
    refine_job j[ANY_JOB_IMAGES];
    int n;      /* images of one run */
    int pack;   /* which of the packs */
    int base;   /* likewise, where o.base_path is one */
    bool again; /* the engine runs it twice; the second result counts */
    char text[512];
} any_job;

/* What a run gave. */
typedef struct any_result {
    uint8_t *rgb; /* of all images; or NULL */
    float *latents;
    size_t rgb_bytes, latents_bytes;
    refine_report report;
} any_result;

/* Finds the packs, which are made when they are not there; before the first case. */
void any_job_packs(void);

/* The same weights, cut into other chunks and stored in another way. */
void any_job_use_other_packs(any_job *a);

/* So many images with no more pixels in all; one thread, as much memory as anybody wants, rates
 * given.  Inputs are the job's own. */
void draw_job(draws *d, any_job *a, int images, int pixels);
void any_job_close(any_job *a);

/* Threads, reader, ring, tiers, bands, company in a pass, spilling, being watched, an engine that
 * has run before: all but the ceilings. */
void draw_ways(draws *d, any_job *a, refine_options *o);

/* As planned; the report is empty where `err` says why not. */
refine_status any_job_plan(const any_job *a, const refine_options *o, refine_report *r,
                           refine_error *err);
/* Opens, runs and closes.  The result is the caller's, whatever the status. */
refine_status any_job_run(const any_job *a, const refine_options *o, any_result *r,
                          refine_error *err);
bool any_job_same(const any_result *a, const any_result *b);
void any_job_free(any_result *r);

#endif
