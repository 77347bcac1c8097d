/* tools/memprof/memprof_layers.h -- what each layer of the model costs: bytes, compute, time.
 *
 * A layer is the chunks of one tensor.  A block is the layers whose names agree up to the first
 * number ("unet.down_blocks.2"); the text encoder's layers, all alike, are one.
 */
#ifndef REFINE_MEMPROF_LAYERS_H
#define REFINE_MEMPROF_LAYERS_H

#include "tools/memprof/trace_read.h"

typedef struct layer {
    const char *name; /* name_len bytes of it; the trace's */
    int name_len;
    refine_phase phase;
    int chunks, uses;  /* chunks entered, over the whole run */
    uint64_t bytes, stored_bytes;
    uint64_t tier[3];    /* of the bytes, by refine_tier */
    double flops;        /* of one visit */
    double seconds;      /* of compute, over the whole run */
    double stall[3];     /* waited for disk, decode, copy */
    double planned;      /* seconds of one visit, predicted */
} layer;

typedef struct layers {
    layer *v; /* in the order of the pack */
    int n;
} layers;

/* REFINE_ENOMEM.  On failure nothing needs freeing. */
refine_status layers_of(layers *out, const recording *t, refine_error *err);
refine_status layers_blocks(layers *out, const layers *l, refine_error *err);
void layers_free(layers *l);

/* Indices of `l` by falling seconds (compute and stalls); out[l->n]. */
void layers_by_time(const layers *l, int *out);

double layer_intensity(const layer *l); /* FLOP per byte; 0 without bytes */
double layer_time(const layer *l);      /* compute and stalls */

#endif
