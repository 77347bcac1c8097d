/* engine/model/forward.h -- everything a forward pass borrows while it runs, and the three
 * ways in which the model's files use weights.
 *
 * A forward function never fails by itself: a failed read or kernel leaves the
 * device failed, everything after is a no-op, and engine/pipeline.c checks once a step.
 */
#ifndef REFINE_FORWARD_H
#define REFINE_FORWARD_H

#include "engine/model/scratch.h"
#include "engine/model/weight_list.h"
#include "kernels/ops.h"
#include "offload/weights.h"

typedef struct forward_ctx forward_ctx;

struct forward_ctx {
    dev *d;
    const struct model *m;
    weights *w;
    scratch mem;
    char *vectors; /* all of the model's, on the device; a token while planning */
    dtype act;     /* of the UNet's activations */
    int together;  /* chunks of a matrix that are multiplied at once, at most; 0: 1 */
    int batch0;    /* of those whose prompts are on the device, the first that is computed */
    dtype vae_act; /* of the VAE's, F32 or F16 with vae_exp2 */
    int vae_exp2;
    int band_rows; /* of the VAE; a multiple of BAND_UNIT */
    /* What a convolution normalises is written out first, once for all taps and rows of its
     * matrix, where that lies within so many bytes of the region.  No bit depends on it. */
    size_t norms_within;
    /* The VAE's feature maps of so many bytes or more lie in the spill
     * (engine/model/feature_map.h), where `spilled` allocates.  No spill: while planning, or when
     * nothing goes there. */
    size_t spill_from;
    scratch spilled;
    struct spill *spill;
    /* Called with the output of every named layer; NULL: off. */
    void (*layer_output)(forward_ctx *r, const char *name, tensor t);
    void *layer_output_context;
    /* Called each time a chunk of weights is done with; NULL: off. */
    void (*chunk_done)(forward_ctx *r);
    void *chunk_done_context;
};

/* Gain (or bias) as a tensor (1,1,1,n); absent as `w` is. */
tensor forward_vector(const forward_ctx *r, wref w);

/* y = act(x w^T + bias + per_image) + residual, chunks by groups.  e.bias is filled in here. */
void forward_linear(forward_ctx *r, tensor y, tensor x, affine_ref w, epilogue e);

/* The affine of GroupNorm over [a | b], taken from scratch. */
tensor forward_groupnorm(forward_ctx *r, tensor a, tensor b, affine_ref norm, int groups,
                         float eps);

/* y = conv(in), likewise. */
void forward_conv(forward_ctx *r, tensor y, const matrix_input *in, affine_ref w, int stride,
                  int pad, epilogue e);

/* Chunks of one matrix held together, for use in any order. */
enum { HOLD_MAX = 64 };
typedef struct hold {
    wref w;
    int first, n;
    const void *p[HOLD_MAX];
} hold;

hold hold_acquire(forward_ctx *r, wref w);
void hold_release(forward_ctx *r, const hold *h);

/* One band of a convolution with weights held.  Rows [row0, row0 + rows) of y. */
void forward_conv_band(forward_ctx *r, tensor y, const matrix_input *in, const hold *h,
                       affine_ref w, int stride, int pad, int row0, int rows, epilogue e);

void forward_report(forward_ctx *r, tensor t, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Rows [row0, row0 + rows) of a one-image tensor. */
tensor tensor_row_band(tensor t, int row0, int rows);

#endif
