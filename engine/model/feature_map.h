/* engine/model/feature_map.h -- an image that is worked on band by band, wherever it lies.
 *
 * A feature map on the device is a tensor.  One that the device has no room for lies in the
 * spill (offload/spill.h): its rows are loaded into a window of device memory, worked on
 * there, and stored.  Code written for feature maps does the same with both, and the bits are
 * the same: an operator sees a tensor of the whole image of which it touches a band only.
 *
 * As rows are stored, their sums for GroupNorm are kept, so no norm reads the feature map again.
 *
 *     void *window = feature_map_window(r, &x, rows);              NULL on the device
 *     tensor v = feature_map_load(r, &x, window, row0, rows);      rows [row0, row0 + rows) of v
 *     ... write into v ...
 *     feature_map_store(r, &x, v, row0, rows);
 *     scratch_free_bytes(&r->mem, window);
 */
#ifndef REFINE_FEATURE_MAP_H
#define REFINE_FEATURE_MAP_H

#include "engine/model/forward.h"

typedef struct feature_map {
    tensor t;  /* its shape; data only on the device */
    size_t at; /* in the spill */
    bool spilled;
    tensor sums; /* op_groupnorm_sums of the rows stored so far; absent: nobody wants them */
} feature_map;

/* One image of the VAE's activation type.  groups: of the norm that reads it.  Lies no lower
 * than `floor` in scratch (engine/model/scratch.h). */
feature_map feature_map_alloc(forward_ctx *r, int h, int w, int c, int groups, size_t floor);
void feature_map_free(forward_ctx *r, feature_map p);

/* A tensor on the device as a feature map, without sums. */
feature_map feature_map_of(tensor t);

/* The same memory with fewer channels, to be written row by row over what was read. */
feature_map feature_map_narrow(feature_map p, int c);
/* Gives back what narrowing left over. */
void feature_map_trim(forward_ctx *r, const feature_map *wide, const feature_map *narrow);

void *feature_map_window(forward_ctx *r, const feature_map *p, int rows);
tensor feature_map_view(const feature_map *p, void *window,
                        int row0); /* not loaded: to be written */
tensor feature_map_load(forward_ctx *r, const feature_map *p, void *window, int row0, int rows);
void feature_map_store(forward_ctx *r, feature_map *p, tensor view, int row0, int rows);

/* The affine of GroupNorm over all of p, from scratch. */
tensor feature_map_affine(forward_ctx *r, const feature_map *p, affine_ref norm, float eps);

/* y = conv(in), where in->a is to be x; x is loaded as the bands need it. */
void feature_map_conv(forward_ctx *r, feature_map *y, const feature_map *x, matrix_input in,
                      affine_ref w, int stride, int pad);

#endif
