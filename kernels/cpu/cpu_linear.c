/* kernels/cpu/cpu_linear.c -- a linear layer: one tap, an image is one row of pixels. */
#include "kernels/cpu/matrix.h"

/* Are these pixels what a product takes, as they lie? */
static bool is_dense(const cpu_dev *c, tensor t)
{
    return t.type == c->multiply && t.exp2 == 0 && t.stride == t.c && t.c % PRODUCT_ALIGN == 0;
}

static matrix_job linear_job(const cpu_dev *c, const linear_args *a)
{
    const int pixels = (int)tensor_pixels(a->x);
    return (matrix_job){
        .y = a->y,
        .w = a->w,
        .e = a->e,
        .taps = 1,
        .height = 1,
        .width = pixels,
        .pitch = pixels,
        .unit_rows = 1,
        .row0 = 0,
        .rows = 1,
        .gather = !is_dense(c, a->x),
        .a = a->x,
        .ready = a->x.data,
        .image_bytes = tensor_bytes(tensor_images(a->x, 0, 1)),
    };
}

size_t cpu_linear_workspace(const dev *d, const linear_args *a)
{
    const matrix_job j = linear_job(cpu_peek(d), a);
    return matrix_workspace(cpu_peek(d), &j);
}

void cpu_linear(dev *d, const linear_args *a)
{
    const matrix_job j = linear_job(cpu_of(d), a);
    matrix_run(cpu_of(d), &j);
}
