/* kernels/backend.h -- what a backend implements.  Private to kernels/ and tests.
 *
 * The front door (kernels/device.c, kernels/ops.c) has checked shapes and that the
 * device has not failed.  A backend reports failure with dev_fail() and may then
 * leave y undefined.  Argument meanings: kernels/ops.h.
 */
#ifndef REFINE_BACKEND_H
#define REFINE_BACKEND_H

#include "kernels/ops.h"

typedef struct linear_args {
    tensor y;
    prepared_input x;
    matrix_rows w;
    epilogue e;
} linear_args;
typedef struct conv_args {
    tensor y;
    prepared_input x;
    matrix_rows w;
    conv_geometry g;
    epilogue e;
} conv_args;
typedef struct attention_args {
    tensor y, q, k, v;
    int heads;
    float scale;
    bool causal;
} attention_args;

struct dev_ops {
    const char *name;

    void *(*alloc)(dev *d, size_t bytes, dev_mem kind);
    void (*free)(dev *d, void *p, size_t bytes, dev_mem kind);
    dev_event *(*event_open)(dev *d);
    void (*event_close)(dev *d, dev_event *e);
    void (*copy_in)(dev *d, void *dst, const void *src, size_t bytes);
    void (*put)(dev *d, void *dst, const void *src, size_t bytes);
    void (*get)(dev *d, void *dst, const void *src, size_t bytes);
    void (*record)(dev *d, dev_event *e, dev_queue q);
    void (*wait)(dev *d, dev_queue q, dev_event *e);
    void (*sync)(dev *d, dev_event *e);
    void (*close)(dev *d);
    /* Of devices with memory of their own, which run behind; else NULL. */
    size_t (*memory_free)(dev *d);
    double (*elapsed)(dev *d, dev_event *from, dev_event *to);

    /* Bytes of workspace an operator needs.  Never touches data; of a prepared_input only
     * `in` is looked at, so that a plan device may ask before anything is prepared. */
    size_t (*linear_workspace)(const dev *d, const linear_args *a);
    size_t (*conv2d_workspace)(const dev *d, const conv_args *a);
    size_t (*attention_workspace)(const dev *d, const attention_args *a);
    size_t (*groupnorm_workspace)(const dev *d, tensor a, tensor b); /* of its sums */
    size_t (*prepare_bytes)(const dev *d, const matrix_input *in, conv_geometry g);

    void (*linear)(dev *d, const linear_args *a);
    prepared_input (*prepare)(dev *d, void *p, const matrix_input *in, conv_geometry g);
    void (*conv2d)(dev *d, const conv_args *a);
    void (*attention)(dev *d, const attention_args *a);
    void (*groupnorm_sums)(dev *d, tensor sums, tensor a, tensor b, int row0, int rows);
    void (*groupnorm)(dev *d, tensor affine, tensor sums, int h, int w, tensor gain, tensor bias,
                      float eps);
    void (*apply_norm)(dev *d, tensor y, tensor a, tensor b, tensor affine, act act);
    void (*layernorm)(dev *d, tensor y, tensor x, tensor gain, tensor bias, float eps);
    void (*silu)(dev *d, tensor y, tensor x);
    void (*convert)(dev *d, tensor y, tensor x);
};

/* The operators of a backend whose functions are named after it, as cpu_linear is of `cpu`: the
 * prototypes for its header, and the part of its table. */
#define DECLARE_OPERATORS(b)                                                                       \
    size_t b##_linear_workspace(const dev *d, const linear_args *a);                               \
    size_t b##_conv2d_workspace(const dev *d, const conv_args *a);                                 \
    size_t b##_attention_workspace(const dev *d, const attention_args *a);                         \
    size_t b##_groupnorm_workspace(const dev *d, tensor x, tensor x2);                             \
    size_t b##_prepare_bytes(const dev *d, const matrix_input *in, conv_geometry g);               \
    void b##_linear(dev *d, const linear_args *a);                                                 \
    prepared_input b##_prepare(dev *d, void *p, const matrix_input *in, conv_geometry g);          \
    void b##_conv2d(dev *d, const conv_args *a);                                                   \
    void b##_attention(dev *d, const attention_args *a);                                           \
    void b##_groupnorm_sums(dev *d, tensor sums, tensor x, tensor x2, int row0, int rows);         \
    void b##_groupnorm(dev *d, tensor affine, tensor sums, int h, int w, tensor gain, tensor bias, \
                       float eps);                                                                 \
    void b##_apply_norm(dev *d, tensor y, tensor x, tensor x2, tensor affine, act f);              \
    void b##_layernorm(dev *d, tensor y, tensor x, tensor gain, tensor bias, float eps);           \
    void b##_silu(dev *d, tensor y, tensor x);                                                     \
    void b##_convert(dev *d, tensor y, tensor x);

#define OPERATORS_OF(b)                                                                            \
    .linear_workspace = b##_linear_workspace, .conv2d_workspace = b##_conv2d_workspace,            \
    .attention_workspace = b##_attention_workspace,                                                \
    .groupnorm_workspace = b##_groupnorm_workspace, .prepare_bytes = b##_prepare_bytes,            \
    .linear = b##_linear, .prepare = b##_prepare, .conv2d = b##_conv2d,                            \
    .attention = b##_attention, .groupnorm_sums = b##_groupnorm_sums,                              \
    .groupnorm = b##_groupnorm, .apply_norm = b##_apply_norm, .layernorm = b##_layernorm,          \
    .silu = b##_silu, .convert = b##_convert

/* Every backend embeds this as its first member. */
struct dev {
    const struct dev_ops *ops;
    void *lock; /* the claim to fail first (kernels/device.c) */
    refine_status status;
    char why[256], note[256];
    char model[96];
    char rounding[128]; /* "": as every device of its name */
    int threads;
    int blocks; /* of a matrix that it multiplies together; 0: 1 */
    size_t overhead; /* device memory it took for itself */
    void *workspace;
    size_t workspace_bytes;
    dev_told *told; /* of changes of kind (kernels/ops.c); or NULL */
    void *told_context;
    dev_kind kind; /* of the last operator */
};

#endif
