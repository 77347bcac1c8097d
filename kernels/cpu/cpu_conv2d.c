/* kernels/cpu/cpu_conv2d.c -- convolution as a sum of shifted products.
 *
 * The prepared input is cut into stride * stride planes by the parity of padded row and
 * column, so that each tap reads pixels that lie densely behind one another:
 *
 *     padded row Y = y + pad, column X = x + pad
 *     plane (Y % s, X % s), row Y / s - row0, column X / s
 *     output (i, j), tap (u, v): plane (u % s, v % s), row i + u / s, column j + v / s
 *
 * Rows of a plane are `pitch` = output width + 1 pixels.  With stride 1 the zero in front
 * of a row is also the one behind the row before, and one more pixel closes the last; the
 * product over a unit of rows then computes one pixel per row for nothing.
 *
 * An input of 1x1 that is operands already is read where it lies, and so are two.
 */
#include "kernels/cpu/matrix.h"
#include "kernels/cpu/rows.h"

#include <assert.h>
#include <string.h>

enum { RUN = 32 }; /* pixels that are prepared by one task, at most */

typedef struct plane_layout {
    int stride, pad;
    int rows, pitch; /* of a plane */
    operand x;
    size_t plane_pixels, image_bytes;
} plane_layout;

static plane_layout planes_of(const cpu_dev *c, const matrix_input *in, conv_geometry g)
{
    const int reach = (g.kh - 1) / g.stride;
    const int width = g.stride == 1 ? in->w : (in->w + g.pad) / 2;
    plane_layout p = {
        .stride = g.stride,
        .pad = g.pad,
        .rows = g.rows + reach,
        .pitch = width + (g.kh > 1),
        .x = operand_of(c, in),
    };
    p.plane_pixels = (size_t)p.rows * (size_t)p.pitch + (g.kh > 1);
    p.image_bytes = (size_t)(g.stride * g.stride) * p.plane_pixels * p.x.bytes;
    return p;
}

/* Each of two begins with a group of its own. */
static bool is_ready(operand x, const matrix_input *in)
{
    return operand_is(x, in->a) &&
           (!tensor_present(in->b) || (in->a.c % I8_GROUP == 0 && operand_is(x, in->b)));
}

static bool must_prepare(const cpu_dev *c, const matrix_input *in, conv_geometry g)
{
    return g.kh > 1 || in->detach || in->silu || tensor_present(in->affine) || in->h != in->a.h ||
           in->w != in->a.w || !is_ready(operand_of(c, in), in);
}

size_t cpu_prepare_bytes(const dev *d, const matrix_input *in, conv_geometry g)
{
    const cpu_dev *c = cpu_peek(d);
    return must_prepare(c, in, g) ? (size_t)in->a.n * planes_of(c, in, g).image_bytes : 0;
}

/* ---- preparing ---- */

typedef struct prepare_state {
    cpu_dev *c;
    const matrix_input *in;
    conv_geometry g;
    plane_layout p;
    char *to;
    int runs; /* of a row */
} prepare_state;

/* A task is a run of pixels in one row of one plane of one image. */
static void prepare_task(void *context, int task, int thread)
{
    (void)thread;
    const prepare_state *s = context;
    const matrix_input *in = s->in;
    const int st = s->p.stride, first = task % s->runs * RUN;
    const int row = task / s->runs % s->p.rows, plane = task / s->runs / s->p.rows % (st * st);
    const int n = task / s->runs / s->p.rows / (st * st);
    const size_t pixel_bytes = s->p.x.bytes;
    char *to = s->to + (size_t)n * s->p.image_bytes +
               ((size_t)plane * s->p.plane_pixels + (size_t)row * (size_t)s->p.pitch +
                (size_t)first) *
                   pixel_bytes;
    const int y = (s->g.row0 + row) * st + plane / st - s->p.pad;
    const size_t source_row = (size_t)((int64_t)y * in->a.h / in->h);
    const size_t source = ((size_t)n * (size_t)in->a.h + source_row) * (size_t)in->a.w;
    const bool closes = row == s->p.rows - 1 && s->g.kh > 1;
    const int end = s->p.pitch + closes < first + RUN ? s->p.pitch + closes : first + RUN;

    for (int q = first; q < end; q++, to += pixel_bytes) {
        const int x = q * st + plane % st - s->p.pad;
        if (y < 0 || y >= in->h || x < 0 || x >= in->w)
            memset(to, 0, pixel_bytes);
        else
            operand_fill(s->c, s->p.x, to, in, (size_t)n,
                         source + (size_t)((int64_t)x * in->a.w / in->w));
    }
}

prepared_input cpu_prepare(dev *d, void *p, const matrix_input *in, conv_geometry g)
{
    prepared_input out = { .in = *in };
    if (!must_prepare(cpu_of(d), in, g))
        return out;
    assert(p);
    prepare_state s = { cpu_of(d), in, g, planes_of(cpu_of(d), in, g), p, 0 };
    s.runs = (s.p.pitch + (g.kh > 1) + RUN - 1) / RUN;
    pool_run(s.c->pool, in->a.n * g.stride * g.stride * s.p.rows * s.runs, prepare_task, &s);
    out.ready = tensor_make(p, in->a.type, in->a.n, g.stride * g.stride * s.p.rows, s.p.pitch,
                            s.p.x.k);
    out.first = g.row0;
    return out;
}

/* ---- convolving ---- */

/* While planning there is no memory. */
static const char *row_or_null(const char *memory, size_t at)
{
    return memory ? memory + at : NULL;
}

static void read_prepared(const cpu_dev *c, matrix_job *j, const conv_args *a)
{
    const plane_layout p = planes_of(c, &a->x.in, a->g);

    j->pitch = p.pitch;
    j->parts = a->g.kh * a->g.kw;
    for (int t = 0; t < j->parts; t++) {
        const int u = t / a->g.kw, v = t % a->g.kw, s = p.stride;
        const size_t pixel = (size_t)(u % s * s + v % s) * p.plane_pixels +
                             (size_t)(u / s) * (size_t)p.pitch + (size_t)(v / s);
        j->part[t] = (matrix_part){ .tap = t,
                                    .channels = a->w.c,
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
        .w = a->w,
        .e = a->e,
        .x = operand_of(c, &a->x.in),
        .height = a->y.h,
        .width = a->y.w,
        .unit_rows = BAND_UNIT,
        .row0 = a->g.row0,
        .rows = a->g.rows,
    };
    if (must_prepare(c, &a->x.in, a->g))
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
