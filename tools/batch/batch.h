/* tools/batch/batch.h -- images of a list, in groups that share the passes over the weights.
 *
 * Neighbours of one size make a group.  How many go together is what the plan predicts to be
 * cheapest for each image, within the ceilings.  An image that cannot be read or written
 * does not stop the others; those whose output is there already are left alone, so that a repeated
 * command goes on where the last one stopped: whole, and made of the same pixels or latents, by the
 * same models, with the same parameters, to the last bit of each, and on a device that rounds the
 * same way.  tests/property/test_repeats.c holds it to that.
 */
#ifndef REFINE_BATCH_H
#define REFINE_BATCH_H

#include "tools/batch/job_input.h"
#include "tools/batch/work_list.h"
#include <refine/refine.h>

enum { BATCH_MAX = 8 }; /* images in a group */

/* One that was made. */
typedef struct batch_image {
    const work_item *item;
    refine_job job;
    json_t *notes; /* texts: what was decided about it */
} batch_image;

typedef struct batch_options {
    refine_options o; /* images: most that go together; 0: as the plan advises */
    refine_job j;     /* what all have in common; progress included */
    bool seeded;      /* j.seed is everybody's; else each draws one */
    input_settings input;
    /* Told when all is open for images of another shape, of which, and all that follow, there are
     * `left`. */
    void (*opened)(void *context, const refine_report *r, int left);
    /* Told of every group that was made, in the order of the list; n outputs. */
    void (*finished)(void *context, const refine_report *r, const batch_image *made, int n);
    /* Told of every image that was left alone (REFINE_OK) or failed. */
    void (*skipped)(void *context, const work_item *item, refine_status st,
                    const refine_error *err);
    void *context;
} batch_options;

typedef struct batch_result {
    int made, there, failed; /* images */
    bool unwritten; /* one could not be written; none was made since for the same file system */
} batch_result;

/* Fails as soon as the engine does: the budget cannot be met, the pack cannot be read, the
 * user stopped it.  What was finished before is on disk. */
refine_status batch_run(const batch_options *b, const work_list *l, batch_result *out,
                        refine_error *err);

uint64_t batch_draw_seed(void);

#endif
