/* engine/pipeline.h -- images from prompts and pixels or latents: one model's part of a run, from
 * end to end. */
#ifndef REFINE_PIPELINE_H
#define REFINE_PIPELINE_H

#include "engine/observer.h"
#include "engine/text/tokenizer.h"

/* What a run works with, all of it the engine's. */
typedef struct pipeline_context {
    phases *p;
    forward_ctx *r;
    stream *s;
    tokenizer *tok;
    observer *o;
    const plan *plan;
    char *arena;
    const phases *before; /* the part whose noise this one's goes on from; NULL: none */
} pipeline_context;

/* One job an image, of the shape that the pipeline was opened for.  A failure is the device's, and
 * what the outputs hold then is of no use. */
refine_status pipeline_run(pipeline_context *c, const refine_job *jobs, refine_error *err);

/* Whether the latents given are numbers (REFINE_EINVAL). */
refine_status pipeline_check_latents(const phases *p, const refine_job *j, refine_error *err);

#endif
