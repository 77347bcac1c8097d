/* kernels/cpu/cpu_linear.c -- a linear layer: one tap, an image is one row of pixels. */
#include "kernels/cpu/matrix.h"

static matrix_job linear_job(const cpu_dev *c, const linear_args *a)
{
    const int pixels = (int)tensor_pixels(a->x);
    const operand x = operand_of(c, a->x.type, a->w.type == DT_I8G64, a->w.c);
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
        .x = x,
        .gather = !operand_is(x, a->x),
        .in = { .a = a->x },
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
