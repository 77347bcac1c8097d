/* tools/report/compare.h -- what one job gives with two packs, or in two precisions, side by side.
 *
 *     compare_open     takes the job and options: the reference's run has its pack and f32
 *     compare_plan     whether the reference can be run at all
 *     compare_record   runs it; its stages go to a scratch file
 *     compare_attach   makes a job be compared: run it, with any pack and precision
 *     compare_why      why that run failed, if the comparison made it fail
 *     compare_finish   the image too
 *
 * One engine is open at a time.  In memory there are the reference's image and sums; a stage is
 * read back as the other run tells of the same.  Stages are the latents after every step, and what
 * the layers give in the first.  Those that only one run told of have seen nothing (of.n == 0).
 */
#ifndef REFINE_COMPARE_H
#define REFINE_COMPARE_H

#include "tools/report/quality.h"
#include <refine/refine.h>

#include <stdbool.h>

enum {
    COMPARE_NAME = 96,
    COMPARE_ITEMS = 2,        /* of one image: the halves of guidance */
    COMPARE_LATER = 1 << 20,  /* bytes taken while running, of the options' caller_bytes */
    COMPARE_BUFFER = 1 << 14, /* values */
};

typedef struct compare_layer {
    char name[COMPARE_NAME]; /* "latents", or a layer */
    int step;                /* from 0 */
    int h, w, c;
    uint64_t at[COMPARE_ITEMS]; /* in the scratch file */
    quality of;                 /* all items together */
} compare_layer;

/* Fields are for reading. */
typedef struct compare {
    refine_options o; /* of the reference's run */
    refine_job j;
    refine_report reference; /* its plan */
    image_quality image_error;
    compare_layer *layers; /* in the order they were told; owned */
    int n;
    size_t room;
    uint8_t *rgb;  /* the reference's image; owned */
    float *buffer; /* owned */
    int fd;        /* the scratch file */
    uint64_t end;
    refine_error failed; /* of a callback, if its status is not REFINE_OK */
} compare;

/* Options and job are the other run's, complete but for what compare_attach adds.
 * The scratch file is made in o->spill_dir. */
refine_status compare_open(compare **out, const char *reference, const refine_options *o,
                           const refine_job *j, refine_error *err);
void compare_close(compare *c); /* NULL is fine */

refine_status compare_plan(compare *c, refine_error *err);
refine_status compare_record(compare *c, refine_error *err);
void compare_attach(compare *c, refine_job *j);
refine_status compare_why(const compare *c, refine_status st, refine_error *err);
void compare_finish(compare *c, const uint8_t *rgb);

/* Whether both packs hold the same weights, but for how they are stored. */
bool compare_same_source(const compare *c, const refine_report *other);

/* Latents are stages of their own kind. */
bool compare_is_latents(const compare_layer *s);

#endif
