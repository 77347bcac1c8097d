/* engine/engine_state.h -- what an engine holds, for the files that make it up. */
#ifndef REFINE_ENGINE_STATE_H
#define REFINE_ENGINE_STATE_H

#include "engine/device_choice.h"
#include "engine/observer.h"
#include "engine/text/tokenizer.h"
#include "engine/unused.h"
#include "offload/spill.h"

/* A model's share of a run: one, or a base's and then a refiner's. */
typedef struct engine_part {
    const char *path; /* the options' */
    model m;
    phases *p;
    plan plan;
    forecast forecast;    /* of the plan */
    char *vectors;        /* in the arena */
    refine_job *jobs;     /* of a run: p->images of them, as this part sees them */
    double *step_seconds; /* p->steps of them, and as many to sort */
    refine_report report; /* of it alone */
} engine_part;

struct refine_engine {
    engine_part part[PACKS_MAX];
    int n_parts;
    bool hands_noise; /* the base's latents are handed over partly denoised */
    device_choice device;
    dev *d; /* device.d */
    tokenizer *tok;
    uint64_t merges_hash; /* of the options' tokenizer; 0: the packs' own */
    char *arena;
    size_t arena_bytes;            /* the largest part's */
    bool *is_resident, *is_cached; /* per chunk of the stream */
    stream *s;
    spill *spill;
    trace *t;
    layer_outputs *layer_outputs; /* NULL: layer outputs are off */
    forward_ctx r;
    observer o;
    bool used; /* a run has consumed the stream's schedule */

    uint64_t rss_before, heap_before; /* when the plan was made */
    uint64_t rss_peak_before;         /* until then: rates may have been measured */
    double open_seconds;
    refine_report report; /* of all parts */
    char device_model[96];
    unsigned unused[IMAGES_MAX]; /* of the job that was planned, or of each that has run */
};

static inline engine_part *engine_last_part(refine_engine *e) { return &e->part[e->n_parts - 1]; }

/* engine/report.c: reports as the plan has them, before a run; of a part that has just run; and of
 * a run of such jobs, one for each image, whose last part has. */
void engine_report_plan(refine_engine *e, const refine_job *j);
void engine_report_part(refine_engine *e, engine_part *p);
void engine_report_run(refine_engine *e, const refine_job *jobs);

/* A line of /proc/self/status in bytes: "VmRSS" or "VmHWM", its peak.  0: it is not known. */
uint64_t engine_process_memory(const char *key);

#endif
