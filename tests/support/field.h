/* tests/support/field.h -- tensors of a test: host memory, copied to any device.
 *
 * A field is a channel view of a buffer that the test owns.  Failing to get memory fails
 * the test.
 */
#ifndef TEST_FIELD_H
#define TEST_FIELD_H

#include "kernels/ops.h"

#include <stdint.h>

typedef struct field {
    void *data; /* the whole buffer, `stride` channels wide */
    size_t bytes;
    dtype type;
    int n, h, w, c, c0, stride, exp2;
} field;

/* Uniform in [-amplitude, amplitude], reproducible; stored in `type` * 2^exp2.  Of DT_I8G64 it
 * is a matrix of n rows, whose elements cannot be asked for. */
field field_random(uint32_t seed, dtype type, int n, int h, int w, int c, float amplitude);

/* Channels that lie to either side of a view: none; `odd` of them, so that nothing is in whole
 * vectors; or such that all is. */
typedef enum { VIEW_NONE, VIEW_ODD, VIEW_VECTORS } view_kind;
static inline int view_margin(int kind, int odd)
{
    return kind == VIEW_VECTORS ? 16 : kind == VIEW_ODD ? odd : 0;
}

/* The same as channels [c0, c0 + c) of something `stride` channels wide, and scaled. */
field field_view(uint32_t seed, dtype type, int n, int h, int w, int c, int c0, int stride,
                 int exp2, float amplitude);

/* Rows [row, row + rows) of a matrix, row being the first of a tile. */
tensor field_matrix_rows(tensor w, int row, int rows);

/* Rows of a matrix from `row` on, in n pieces of so many that lie apart, the last one first, in
 * memory of their own. */
typedef struct field_blocks {
    matrix_rows w;
    void *space;
    size_t bytes;
} field_blocks;

field_blocks field_blocks_of(dev *d, tensor w, int row, const int *rows, int n);
void field_blocks_free(dev *d, field_blocks *p);

/* Rounds the channels of every pixel, in groups of 64, to what int8 with a power-of-two scale
 * holds exactly. */
void field_make_exact(field *f);

field field_copy(const field *f);
/* The channels of `to` become those of `from`, of one shape and type. */
void field_fill(field *to, const field *from);
void field_free(field *f);

/* Pixel p, images, rows and columns flattened. */
float field_at(const field *f, size_t p, int c);
void field_set(field *f, size_t p, int c, float v);
size_t field_pixels(const field *f); /* of all images */

/* Largest difference between two fields of one shape; infinite when one is not a number. */
double field_distance(const field *a, const field *b);

/* Largest absolute value. */
double field_peak(const field *a);

/* Are all bytes of the buffers the same, outside the view too? */
bool field_same_bytes(const field *a, const field *b);

/* Devices of a test; one that cannot be opened fails it. */
dev *field_cpu(dtype compute, int threads);
dev *field_cpu_ints(dtype compute, int threads); /* products of int8 in integers */
dev *field_ref(void);
#ifdef REFINE_WITH_CUDA
dev *field_cuda(dtype compute);
void field_needs_gpu(void); /* without one the test is skipped; field_cuda asks too */
#endif

/* Half an ulp of what `type` can hold of a value up to `peak`. */
double field_rounding(dtype type, double peak);

/* Fills memory of a device (not a plan's) with NaN, so that a read before a write shows. */
void field_poison(dev *d, void *p, size_t bytes);

/* Something done with tensors on a device; it may also be replayed on a plan device. */
typedef void field_body(dev *d, const tensor *t, const void *context);

/* Puts fields f[0], f[1], ... on d (an absent one, c == 0, is an absent tensor), runs body
 * with the very workspace that a plan device asks for, poisoned, and fetches f[0] back.  Fields and
 * workspace lie apart, NaN between them.  A device that has failed, or has written beside f[0]'s
 * channels, beside a field, or more workspace than planned, fails the test. */
void field_run(dev *d, field *const *f, int n, field_body *body, const void *context);

#endif
