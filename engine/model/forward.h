/* engine/model/forward.h -- everything a forward pass borrows while it runs, and the three
 * ways in which the model's files use weights.
 *
 * A forward function never fails by itself: a failed read or kernel leaves the
 * device failed, everything after is a no-op, and engine/pipeline.c checks once a step.
 */
#ifndef REFINE_RUN_H
#define REFINE_RUN_H

#include "engine/model/model.h"
#include "engine/model/scratch.h"
#include "kernels/ops.h"
#include "offload/weights.h"

typedef struct run run;

struct run {
    dev *d;
    const model *m;
    weights *w;
    scratch mem;
    char *vectors; /* all of the model's, on the device; a token while planning */
    dtype act;     /* of the UNet's activations */
    int together;  /* chunks of a matrix that are multiplied at once, at most; 0: 1 */
    int item0;     /* of those whose prompts are on the device, the first that is computed */
    dtype vae_act; /* of the VAE's, F32 or F16 with vae_exp2 */
    int vae_exp2;
    int band_rows; /* of the VAE; a multiple of BAND_UNIT */
    /* What a convolution normalises is written out first, once for all taps and rows of its
     * matrix, where that lies within so many bytes of the region.  No bit depends on it. */
    size_t norms_within;
    /* The VAE's pictures of so many bytes or more lie in the spill (engine/model/feature_map.h), whose
     * places `spilled` lends out.  No spill: while planning, or when nothing goes there. */
    size_t spill_from;
    scratch spilled;
    struct spill *spill;
    /* Called with the output of every named layer; NULL: off. */
    void (*tap)(run *r, const char *name, tensor t);
    void *tap_context;
    /* Called each time a chunk of weights is done with; NULL: off. */
    void (*tick)(run *r);
    void *tick_context;
};

/* A weight matrix and its bias (NO_WEIGHT: none). */
typedef struct affine_ref {
    wref weight, bias;
} affine_ref;

/* "prefix.weight" and, if it has one, "prefix.bias". */
affine_ref run_bind(const model *m, bool bias, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Gain (or bias) as a tensor (1,1,1,n); absent for NO_WEIGHT. */
tensor run_vector(const run *r, wref w);

/* y = act(x w^T + bias + per_image) + residual, chunks by groups.  e.bias is filled in here. */
void run_linear(run *r, tensor y, tensor x, affine_ref w, epilogue e);

/* The affine of GroupNorm over [a | b], taken from scratch. */
tensor run_groupnorm(run *r, tensor a, tensor b, affine_ref norm, int groups, float eps);

/* y = conv(in), likewise. */
void run_conv(run *r, tensor y, const matrix_input *in, affine_ref w, int stride, int pad,
              epilogue e);

/* Chunks of one matrix held together, for use in any order. */
enum { HOLD_MAX = 64 };
typedef struct hold {
    wref w;
    int first, n;
    const void *p[HOLD_MAX];
} hold;

hold run_hold(run *r, wref w);
void run_release(run *r, const hold *h);

/* One band of a convolution with weights held.  Rows [row0, row0 + rows) of y. */
void run_conv_band(run *r, tensor y, const matrix_input *in, const hold *h, affine_ref w,
                   int stride, int pad, int row0, int rows, epilogue e);

void run_tap(run *r, tensor t, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Rows [row0, row0 + rows) of a one-image tensor. */
tensor run_rows(tensor t, int row0, int rows);

#endif
