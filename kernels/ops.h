/* kernels/ops.h -- the dozen operators the refiner needs.  The output comes first.
 *
 * Shapes are NHWC (kernels/tensor.h).  Activations are of the device's compute
 * type unless said otherwise (the VAE's are F16 with exp2 != 0, or F32); small
 * vectors (biases, norms, affines, embeddings) are always F32; sums, softmax and
 * statistics are computed in F32 or better.  An output never overlaps an input
 * unless the operator says so.
 *
 * Results do not depend on the number of threads, on how a matrix was cut into
 * chunks (whole tiles, tensor.h), on how an image was cut into bands (multiples
 * of BAND_UNIT rows), or on how many images are in one call.
 */
#ifndef REFINE_OPS_H
#define REFINE_OPS_H

#include "kernels/device.h"
#include "kernels/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Rows of an image that are always computed together. */
enum { BAND_UNIT = 8 };

/* What happens to a product before it is stored, in this order:
 *     v = product + bias[c] + per_image[n][c];  v = act(v);  y = v + residual
 * GEGLU: rows of w alternate value, gate, value, gate...; bias likewise; then
 * y = value * gelu(gate) has half as many channels as w has rows. */
/* gelu: exact, by erf; quick: x / (1 + exp(-1.702 x)), as CLIP ViT-L was trained. */
typedef enum act { ACT_NONE, ACT_SILU, ACT_GELU, ACT_GEGLU, ACT_QUICK_GELU } act;

typedef struct epilogue {
    tensor bias;      /* (1,1,1,rows of w), or absent */
    tensor per_image; /* F32 (n,1,1,c): one value per image and channel, or absent */
    tensor residual;  /* shape of y, or absent; may be y itself */
    act act;
} epilogue;

/* Statistics of GroupNorm, in two parts so that the rows may come in bands.
 *
 * op_groupnorm_sums sums rows [row0, row0 + rows), multiples of BAND_UNIT unless the image
 * ends, over the channels of a followed by those of b (b absent: a alone), so a group may
 * straddle the two.  sums: F32 (n, units, groups, 4) for units of BAND_UNIT rows, 16 bytes
 * whose meaning is the device's.
 *
 * op_groupnorm folds all units into the affine that the norm of h x w images amounts to:
 *     norm(x)[n][c] = x * affine[n][0][c] + affine[n][1][c]
 * affine: F32 (n,1,2,c).  gain, bias: (1,1,1,c). */
void op_groupnorm_sums(dev *d, tensor sums, tensor a, tensor b, int row0, int rows);
void op_groupnorm(dev *d, tensor affine, tensor sums, int h, int w, tensor gain, tensor bias,
                  float eps);

/* Units of an image of h rows. */
static inline int band_units(int h) { return (h + BAND_UNIT - 1) / BAND_UNIT; }

/* y = act(x * affine), elementwise: GroupNorm where no convolution follows.
 * y: any activation type, shape of [a | b]. */
void op_apply_norm(dev *d, tensor y, tensor a, tensor b, tensor affine, act act);

/* What a matrix is multiplied with: [a | b] along channels, normalised by `affine` and
 * through silu if said so, nearest-resampled to h x w when that differs from the
 * source (source row = floor(row * a.h / h)). */
typedef struct matrix_input {
    tensor a, b;
    tensor affine; /* absent: as it is */
    bool silu;
    bool detach; /* prepare a copy in any case: y overwrites a, or the norm is to be taken once */
    int h, w;
    bool quantised; /* the weights to come are DT_I8G64: what is prepared may depend on it */
} matrix_input;

/* Output rows [row0, row0 + rows) of a convolution, row0 a multiple of
 * BAND_UNIT, rows too unless the image ends there. */
typedef struct conv_geometry {
    int kh, kw;      /* 3x3 or 1x1 */
    int stride, pad; /* pad is in front (top, left); reads past the end see zero */
    int row0, rows;
} conv_geometry;

/* Rows [first, end) of an image. */
typedef struct conv_rows {
    int first, end;
} conv_rows;

/* What `g` reads of the input as it is resampled, less what lies outside it and is zero. */
static inline conv_rows conv_rows_resampled(const matrix_input *in, conv_geometry g)
{
    const int first = g.row0 * g.stride - g.pad;
    const int end = (g.row0 + g.rows - 1) * g.stride - g.pad + g.kh;
    const conv_rows r = { first > 0 ? first : 0, end < in->h ? end : in->h };
    return r;
}

/* The same rows of the source, through the map of nearest resampling. */
static inline conv_rows conv_rows_read(const matrix_input *in, conv_geometry g)
{
    const conv_rows to = conv_rows_resampled(in, g);
    const int64_t first = (int64_t)to.first * in->a.h / in->h;
    const int64_t last = (int64_t)(to.end - 1) * in->a.h / in->h;
    const conv_rows r = { (int)first, (int)last + 1 };
    return r;
}

/* A device may want its input prepared first, once for all chunks of a matrix.  Ask
 * how many bytes that takes (0: it reads the input as it lies), take them, and pass
 * them on; then multiply any number of times.  Only the input rows that `g` needs
 * are prepared. */
typedef struct prepared_input {
    matrix_input in;
    tensor ready; /* prepared rows, or absent */
    int first;    /* row of the image that ready's row 0 is */
} prepared_input;

size_t op_prepare_bytes(dev *d, const matrix_input *in, conv_geometry g);
prepared_input op_prepare(dev *d, void *p, const matrix_input *in, conv_geometry g);

/* A linear layer takes x as it is, all of it. */
static inline matrix_input linear_input(tensor x, bool quantised)
{
    const tensor none = tensor_make(NULL, DT_F32, 0, 0, 0, 0);
    const matrix_input in = { x, none, none, false, false, x.h, x.w, quantised };
    return in;
}

static inline conv_geometry linear_geometry(tensor x)
{
    const conv_geometry g = { 1, 1, 1, 0, 0, x.h };
    return g;
}

/* Rows of a matrix.  They come in pieces that lie anywhere: each is dense, and of whole tiles
 * (tile_rows) but the last.  A device takes dev_max_blocks() of them at most. */
enum { MATRIX_BLOCKS_MAX = 8 };

typedef struct matrix_rows {
    tensor all; /* (rows, kh, kw, channels of the input); its data is that of the first piece */
    int blocks;
    int row0[MATRIX_BLOCKS_MAX]; /* of all, the first of each piece */
    const void *data[MATRIX_BLOCKS_MAX];
} matrix_rows;

int dev_max_blocks(const dev *d);

/* Rows that lie together. */
static inline matrix_rows one_block(tensor w)
{
    const matrix_rows m = { w, 1, { 0 }, { w.data } };
    return m;
}

/* y[.., r] = sum_k x[.., k] * w[r][k].  Rows are pixels; y and x.in.a agree in n,h,w.
 * w.all is (rows,1,1,k), y the matching channel view. */
void op_linear(dev *d, tensor y, const prepared_input *x, const matrix_rows *w, const epilogue *e);

/* y is the whole image (or a channel view of it); only rows of `g` are written.  y may overlap
 * in.a when the input was prepared with in.detach; e.residual may be y itself. */
void op_conv2d(dev *d, tensor y, const prepared_input *x, const matrix_rows *w, conv_geometry g,
               const epilogue *e);

/* softmax(q k^T * scale) v per head.  q, y: (n,1,tq,heads*hd) or (n,h,w,..) views,
 * k, v: (n,1,tk,heads*hd) views.  causal: query i sees keys 0..i. */
void op_attention(dev *d, tensor y, tensor q, tensor k, tensor v, int heads, float scale,
                  bool causal);

/* y = (x - mean) / sqrt(var + eps) * gain + bias over the channels of each pixel. */
void op_layernorm(dev *d, tensor y, tensor x, tensor gain, tensor bias, float eps);

/* y = silu(x), elementwise; y may be x. */
void op_silu(dev *d, tensor y, tensor x);

/* y = x, converting the type. */
void op_convert(dev *d, tensor y, tensor x);

#ifdef __cplusplus
}
#endif
#endif
