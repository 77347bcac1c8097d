/* engine/plan/recorder.h -- the weights of a replay: nothing arrives, everything is noted. */
#ifndef REFINE_RECORDER_H
#define REFINE_RECORDER_H

#include "kernels/device.h"
#include "offload/pack.h"
#include "offload/weights.h"

typedef struct recorder {
    weights w; /* first: acquire and release return here */
    const pack *p;
    const dev *plan;
    size_t inside, inside_peak; /* bytes acquired and not yet released; the most at once */
    int next;                   /* the chunk that must be acquired next, -1: any */
    bool in_order;              /* so far each segment was touched in the order of the pack */
    int last;                   /* the chunk acquired last; -1: none */
    dev_work at_acquire;        /* what had been done then */
    dev_work *work; /* per chunk, from its acquisition to the next; the caller's; or NULL */
} recorder;

void recorder_open(recorder *r, const pack *p, const dev *plan, dev_work *work);

/* What has been done since the last acquisition belongs to the chunk acquired then. */
void recorder_flush(recorder *r);

#endif
