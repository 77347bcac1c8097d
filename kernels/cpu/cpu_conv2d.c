/* kernels/cpu/cpu_conv2d.c -- convolution as a sum of shifted products.
 *
 * Each tap is a product over a plane of the prepared input (kernels/cpu/prepare.h), or over what is
 * read where it lies.  The product over a unit of rows computes one pixel per row for nothing,
 * where rows of a plane are longer than the output's.
 */
#include "kernels/cpu/matrix.h"
#include "kernels/cpu/prepare.h"

/* While planning there is no memory. */
static const char *row_or_null(const char *memory, size_t at)
{
    return memory ? memory + at : NULL;
}

static void read_prepared(const cpu_dev *c, matrix_job *j, const conv_args *a)
{
    const plane_layout p = prepare_layout(c, &a->x.in, a->g);

    j->pitch = p.pitch;
    j->parts = a->g.kh * a->g.kw;
    for (int t = 0; t < j->parts; t++) {
        const int u = t / a->g.kw, v = t % a->g.kw, s = p.stride;
        const size_t pixel = (size_t)(u % s * s + v % s) * p.plane_pixels +
                             (size_t)(u / s) * (size_t)p.pitch + (size_t)(v / s);
        j->part[t] = (matrix_part){ .tap = t,
                                    .channels = a->w.all.c,
                                    .k = p.x.k,
                                    .input = row_or_null(a->x.ready.data, pixel * p.x.bytes),
                                    .image_bytes = p.image_bytes,
                                    .pixel_bytes = p.x.bytes };
    }
}

static void add_part(matrix_job *j, tensor x, int c0)
{
    const size_t row_bytes = (size_t)x.w * (size_t)x.stride * dtype_bytes(x.type);
    if (!tensor_present(x))
        return;
    j->part[j->parts++] = (matrix_part){
        .c0 = c0,
        .channels = x.c,
        .k = x.c,
        .input = row_or_null(x.data, (size_t)j->row0 * row_bytes),
        .image_bytes = (size_t)x.h * row_bytes,
        .pixel_bytes = (size_t)x.stride * dtype_bytes(x.type),
    };
}

static void read_in_place(matrix_job *j, const conv_args *a)
{
    j->pitch = a->y.w;
    add_part(j, a->x.in.a, 0);
    add_part(j, a->x.in.b, a->x.in.a.c);
}

static matrix_job conv_job(const cpu_dev *c, const conv_args *a)
{
    matrix_job j = {
        .y = a->y,
        .w = a->w.all,
        .e = a->e,
        .x = operand_of(c, &a->x.in),
        .height = a->y.h,
        .width = a->y.w,
        .unit_rows = BAND_UNIT,
        .row0 = a->g.row0,
        .rows = a->g.rows,
    };
    if (prepare_must(c, &a->x.in, a->g))
        read_prepared(c, &j, a);
    else
        read_in_place(&j, a);
    return j;
}

size_t cpu_conv2d_workspace(const dev *d, const conv_args *a)
{
    const matrix_job j = conv_job(cpu_peek(d), a);
    return matrix_workspace(cpu_peek(d), &j);
}

void cpu_conv2d(dev *d, const conv_args *a)
{
    const matrix_job j = conv_job(cpu_of(d), a);
    matrix_run(cpu_of(d), &j);
}
