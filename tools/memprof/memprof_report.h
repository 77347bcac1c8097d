/* tools/memprof/memprof_report.h -- all that a report says, gathered before any of it is printed.
 * */
#ifndef REFINE_MEMPROF_REPORT_H
#define REFINE_MEMPROF_REPORT_H

#include "tools/memprof/memprof_cards.h"
#include "tools/memprof/memprof_curve.h"
#include "tools/memprof/memprof_layers.h"
#include "tools/memprof/memprof_use.h"
#include "tools/memprof/trace_read.h"

typedef struct memprof {
    const recording *run; /* NULL: nothing was run, this is a plan */
    json_t *result;   /* as of refine-lowmem --json */
    refine_report r;  /* of the run, or planned */
    const char *pack;
    layers layer, block;
    use use;
    curve curve; /* no points: unavailable, and the note says why */
    card_row row[CARDS];
    int n_rows;
    char note[256];
} memprof;

/* Which predictions are wanted. */
typedef struct memprof_wish {
    const card *card; /* NULL: all of them */
    card_override with;
} memprof_wish;

/* A recorded run.  What cannot be predicted, as when its pack is not here any more, becomes a
 * note.  The trace must outlive the report. */
refine_status memprof_of_run(memprof *m, const recording *t, const memprof_wish *w,
                             refine_error *err);

/* A plan; no run.  The failures of refine_plan. */
refine_status memprof_of_plan(memprof *m, const refine_options *o, const refine_job *j,
                              const memprof_wish *w, refine_error *err);

void memprof_free(memprof *m);

/* The most that each owner holds: with all activations in use while denoising. */
void memprof_device_bytes(uint64_t bytes[DEVICE_OWNERS], const refine_memory *m);

#endif
