/* kernels/cpu/cpu_linear.c -- a linear layer: one tap, an image is one row of pixels. */
#include "kernels/cpu/matrix.h"

static matrix_job linear_job(const cpu_dev *c, const linear_args *a)
{
    const int pixels = (int)tensor_pixels(a->y);
    const operand x = operand_of(c, &a->x.in);
    return (matrix_job){
        .y = a->y,
        .w = a->w,
        .e = a->e,
        .height = 1,
        .width = pixels,
        .pitch = pixels,
        .unit_rows = 1,
        .row0 = 0,
        .rows = 1,
        .x = x,
        .parts = 1,
        .part = { { .channels = a->w.c,
                    .k = x.k,
                    .input = tensor_present(a->x.ready) ? a->x.ready.data : a->x.in.a.data,
                    .image_bytes = (size_t)pixels * x.bytes,
                    .pixel_bytes = x.bytes } },
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
