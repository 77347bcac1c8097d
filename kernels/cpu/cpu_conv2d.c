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
 * A 1x1 convolution reads its input where it lies, or fetches it, unless something has to
 * be done to it first.
 */
#include "kernels/cpu/matrix.h"
#include "kernels/cpu/rows.h"

#include <string.h>

typedef struct plane_layout {
    int stride, pad;
    int rows, pitch; /* of a plane */
    operand x;
    size_t plane_pixels, image_bytes;
} plane_layout;

static operand operand_for(const cpu_dev *c, const conv_input *in)
{
    return operand_of(c, in->a.type, in->quantised, in->a.c + in->b.c);
}

static plane_layout planes_of(const cpu_dev *c, const conv_input *in, conv_geometry g)
{
    const int reach = (g.kh - 1) / g.stride;
    const int width = g.stride == 1 ? in->w : (in->w + g.pad) / 2;
    plane_layout p = {
        .stride = g.stride,
        .pad = g.pad,
        .rows = g.rows + reach,
        .pitch = width + (g.kh > 1),
        .x = operand_for(c, in),
    };
    p.plane_pixels = (size_t)p.rows * (size_t)p.pitch + (g.kh > 1);
    p.image_bytes = (size_t)(g.stride * g.stride) * p.plane_pixels * p.x.bytes;
    return p;
}

static bool must_prepare(const conv_input *in, conv_geometry g)
{
    return g.kh > 1 || in->detach || in->silu || tensor_present(in->affine) || in->h != in->a.h ||
           in->w != in->a.w;
}

size_t cpu_conv_prepare_bytes(const dev *d, const conv_input *in, conv_geometry g)
{
    return must_prepare(in, g) ? (size_t)in->a.n * planes_of(cpu_peek(d), in, g).image_bytes : 0;
}

/* ---- preparing ---- */

typedef struct prepare_state {
    cpu_dev *c;
    const conv_input *in;
    conv_geometry g;
    plane_layout p;
    char *to;
} prepare_state;

/* A task is one row of one plane of one image. */
static void prepare_task(void *context, int task, int thread)
{
    (void)thread;
    const prepare_state *s = context;
    const conv_input *in = s->in;
    const int st = s->p.stride;
    const int row = task % s->p.rows, plane = task / s->p.rows % (st * st);
    const int n = task / s->p.rows / (st * st);
    const size_t pixel_bytes = s->p.x.bytes;
    char *to = s->to + (size_t)n * s->p.image_bytes +
               ((size_t)plane * s->p.plane_pixels + (size_t)row * (size_t)s->p.pitch) * pixel_bytes;
    const int y = (s->g.row0 + row) * st + plane / st - s->p.pad;
    const size_t source_row = (size_t)((int64_t)y * in->a.h / in->h);
    const size_t source = ((size_t)n * (size_t)in->a.h + source_row) * (size_t)in->a.w;
    const bool closes = row == s->p.rows - 1 && s->g.kh > 1;

    for (int q = 0; q < s->p.pitch + closes; q++, to += pixel_bytes) {
        const int x = q * st + plane % st - s->p.pad;
        if (y < 0 || y >= in->h || x < 0 || x >= in->w)
            memset(to, 0, pixel_bytes);
        else
            operand_fill(s->c, s->p.x, to, in, (size_t)n,
                         source + (size_t)((int64_t)x * in->a.w / in->w));
    }
}

conv_source cpu_conv_prepare(dev *d, void *p, const conv_input *in, conv_geometry g)
{
    conv_source out = { .in = *in };
    if (!must_prepare(in, g))
        return out;
    prepare_state s = { cpu_of(d), in, g, planes_of(cpu_of(d), in, g), p };
    pool_run(s.c->pool, in->a.n * g.stride * g.stride * s.p.rows, prepare_task, &s);
    out.ready = tensor_make(p, in->a.type, in->a.n, g.stride * g.stride * s.p.rows, s.p.pitch,
                            s.p.x.k);
    out.first = g.row0;
    return out;
}

/* ---- convolving ---- */

static void read_prepared(const cpu_dev *c, matrix_job *j, const conv_args *a)
{
    const plane_layout p = planes_of(c, &a->x.in, a->g);

    j->pitch = p.pitch;
    j->ready = a->x.ready.data;
    j->image_bytes = p.image_bytes;
    for (int t = 0; t < j->taps; t++) {
        const int u = t / a->g.kw, v = t % a->g.kw, s = p.stride;
        j->tap_at[t] = ((size_t)(u % s * s + v % s) * p.plane_pixels +
                        (size_t)(u / s) * (size_t)p.pitch + (size_t)(v / s)) *
                       p.x.bytes;
    }
}

static void read_in_place(matrix_job *j, const conv_args *a)
{
    const tensor x = a->x.in.a;
    j->pitch = a->y.w;
    j->gather = tensor_present(a->x.in.b) || !operand_is(j->x, x);
    j->in = a->x.in;
    j->image_bytes = tensor_bytes(tensor_images(x, 0, 1));
    if (x.data)
        j->ready = row_at(x, (size_t)a->g.row0 * (size_t)x.w, 0);
}

static matrix_job conv_job(const cpu_dev *c, const conv_args *a)
{
    matrix_job j = {
        .y = a->y,
        .w = a->w,
        .e = a->e,
        .taps = a->g.kh * a->g.kw,
        .x = operand_for(c, &a->x.in),
        .height = a->y.h,
        .width = a->y.w,
        .unit_rows = BAND_UNIT,
        .row0 = a->g.row0,
        .rows = a->g.rows,
    };
    if (must_prepare(&a->x.in, a->g))
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
