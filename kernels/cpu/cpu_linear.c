/* kernels/cpu/cpu_linear.c -- a linear layer: one part, all pixels in one row.
 *
 * Where images differ, in what is added to each, they are rows of their own.
 */
#include "kernels/cpu/matrix.h"

static matrix_job linear_job(const cpu_dev *c, const linear_args *a)
{
    const int images = tensor_present(a->e.per_image) ? a->y.n : 1;
    const int pixels = (int)tensor_pixels(a->y) * (a->y.n / images);
    const gemm_operand x = operand_of(c, &a->x.in);
    matrix_job j = {
        .y = a->y,
        .w = a->w.all,
        .e = a->e,
        .height = 1,
        .width = pixels,
        .pitch = pixels,
        .unit_rows = 1,
        .row0 = 0,
        .rows = 1,
        .x = x,
        .parts = 1,
        .part = { { .channels = a->w.all.c,
                    .k = x.k,
                    .input = tensor_present(a->x.ready) ? a->x.ready.data : a->x.in.a.data,
                    .image_bytes = (size_t)pixels * x.bytes,
                    .pixel_bytes = x.bytes } },
    };
    j.y.n = images;
    return j;
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
