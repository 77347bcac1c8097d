/* engine/engine_state.h -- what an engine holds, for the files that make it up. */
#ifndef REFINE_ENGINE_STATE_H
#define REFINE_ENGINE_STATE_H

#include "engine/device_choice.h"
#include "engine/observer.h"
#include "engine/text/tokenizer.h"
#include "offload/spill.h"

struct refine_engine {
    model m;
    device_choice device;
    dev *d; /* device.d */
    phases *p;
    tokenizer *tok;
    plan plan;
    forecast forecast; /* of the plan */
    char *arena;
    stream *s;
    spill *spill;
    trace *t;
    layer_outputs *layer_outputs; /* NULL: layer outputs are off */
    forward_ctx r;
    observer o;
    bool used; /* a run has consumed the stream's schedule */

    uint64_t rss_before, heap_before; /* when the plan was made */
    double *step_seconds;             /* p->steps of them, and as many to sort */
    refine_report report;
    char device_model[96];
};

/* engine/report.c: `report` as the plan has it, before a run; as a run left it. */
void engine_report_plan(refine_engine *e);
void engine_report_run(refine_engine *e);

/* A line of /proc/self/status in bytes: "VmRSS" or "VmHWM", its peak.  0: it is not known. */
uint64_t engine_process_memory(const char *key);

#endif
