/* engine/model/feature_map.h -- an image that is worked on band by band, wherever it lies.
 *
 * A picture on the device is a tensor.  One that the device has no room for lies in the
 * spill (offload/spill.h): its rows are loaded into a window of device memory, worked on
 * there, and stored.  Code written for pictures does the same with both, and the bits are
 * the same: an operator sees a tensor of the whole image of which it touches a band only.
 *
 * As rows are stored, their sums for GroupNorm are kept, so no norm reads the picture again.
 *
 *     void *window = picture_window(r, &x, rows);              NULL on the device
 *     tensor v = picture_load(r, &x, window, row0, rows);      rows [row0, row0 + rows) of v
 *     ... write into v ...
 *     picture_store(r, &x, v, row0, rows);
 *     scratch_give_bytes(&r->mem, window);
 */
#ifndef REFINE_PICTURE_H
#define REFINE_PICTURE_H

#include "engine/model/forward.h"

typedef struct picture {
    tensor t;  /* its shape; data only on the device */
    size_t at; /* in the spill */
    bool spilled;
    tensor sums; /* op_groupnorm_sums of the rows stored so far; absent: nobody wants them */
} picture;

/* One image of the VAE's activation type.  groups: of the norm that reads it.  Lies no lower
 * than `floor` in scratch (engine/model/scratch.h). */
picture picture_take(run *r, int h, int w, int c, int groups, size_t floor);
void picture_give(run *r, picture p);

/* A tensor on the device as a picture, without sums. */
picture picture_of(tensor t);

/* The same memory with fewer channels, to be written row by row over what was read. */
picture picture_narrow(picture p, int c);
/* Gives back what narrowing left over. */
void picture_trim(run *r, const picture *wide, const picture *narrow);

void *picture_window(run *r, const picture *p, int rows);
tensor picture_view(const picture *p, void *window, int row0); /* not loaded: to be written */
tensor picture_load(run *r, const picture *p, void *window, int row0, int rows);
void picture_store(run *r, picture *p, tensor view, int row0, int rows);

/* The affine of GroupNorm over all of p, from scratch. */
tensor picture_affine(run *r, const picture *p, affine_ref norm, float eps);

/* y = conv(in), where in->a is to be x; x is loaded as the bands need it. */
void picture_conv(run *r, picture *y, const picture *x, matrix_input in, affine_ref w, int stride,
                  int pad);

/* Rows of the source that rows [row0, row0 + rows) of a convolution read: [*first, *end). */
void picture_rows_read(const matrix_input *in, int kh, int stride, int pad, int row0, int rows,
                       int *first, int *end);

#endif
