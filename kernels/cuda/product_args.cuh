/* kernels/cuda/product_args.cuh -- what the product kernels are told (kernels/cuda/product.cuh). */
#ifndef REFINE_CUDA_PRODUCT_ARGS_CUH
#define REFINE_CUDA_PRODUCT_ARGS_CUH

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/normed.cuh"

enum { STEP = 64 }; /* k of a stage, at most */

struct product_args {
    /* The input.  Of the image's source_h rows the memory holds held_h, from row `first` on; read
     * as if resampled to in_h x in_w.  Where nothing is normalised, it is read in units of
     * `scale`. */
    normed in;
    const int8_t *q;      /* the same as int8 (kernels/cuda/quantise.cuh), or NULL */
    const float *q_scale;
    int groups; /* of a pixel of q */
    int source_h, source_w, held_h, first, in_h, in_w;

    /* The matrix: n rows of k = taps * c, in pieces, each with its first row. */
    const void *block[MATRIX_BLOCKS_MAX];
    int block_row0[MATRIX_BLOCKS_MAX], blocks;
    int w_type, n, k, kh, kw;
    bool half_vectors; /* the rows are F16 in whole vectors */
    int tile;          /* rows of a tile of DT_I8G64, */
    size_t tile_bytes; /* and of a full one */
    int steps;         /* stages of k: taps * ceil(c / STEP) */

    /* The output: rows [row0, row0 + rows) of images of y_h x y_w. */
    int stride, pad, row0, rows, y_h, y_w;
    int pixels; /* images * rows * y_w */
    view y;
    float scale;        /* 2^exp2 of what was multiplied */
    const float *bias;  /* or NULL */
    const float *per_image; /* or NULL */
    size_t per_image_stride;
    view residual;
    int act;
};

/* Everything but the input; all rows of y. */
product_args product_begin(tensor y, const matrix_rows *w, const epilogue *e);
/* The input, which holds rows [first, ...) of images of h rows.  Called last. */
void product_source(product_args *p, tensor a, tensor b, tensor affine, bool silu, int h,
                    int first);
/* Likewise: pixels as int8, of rows of the shape of `ready`. */
void product_source_int8(product_args *p, tensor ready, int h, int first);

/* Enqueues it. */
void product_run(dev *d, const product_args &p);

/* The kernels of a tile for some kinds of operands. */
struct product_way {
    void (*run)(dev *d, const product_args &p);
    int (*load)(dev *d); /* returns the blocks that a multiprocessor holds */
    int m, n;            /* pixels and rows of a block */
    bool norms;          /* does it normalise? */
};
/* What product.cu calls in vectors; and everything. */
extern const product_way product_large, product_medium, product_small, product_halves;
extern const product_way product_int8; /* both sides int8, on tensor cores */
extern const product_way product_small_any, product_halves_any, product_floats;

#endif
