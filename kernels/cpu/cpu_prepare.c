/* kernels/cpu/cpu_prepare.c -- inputs of matrices become operands, a run of pixels at a time. */
#include "kernels/cpu/prepare.h"

#include <assert.h>
#include <string.h>

enum { RUN = 32 }; /* pixels of a task, at most */

plane_layout prepare_layout(const cpu_dev *c, const matrix_input *in, conv_geometry g)
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
static bool is_ready(gemm_operand x, const matrix_input *in)
{
    return operand_is(x, in->a) &&
           (!tensor_present(in->b) || (in->a.c % I8_GROUP == 0 && operand_is(x, in->b)));
}

bool prepare_must(const cpu_dev *c, const matrix_input *in, conv_geometry g)
{
    return g.kh > 1 || in->detach || in->silu || tensor_present(in->affine) || in->h != in->a.h ||
           in->w != in->a.w || !is_ready(operand_of(c, in), in);
}

size_t cpu_prepare_bytes(const dev *d, const matrix_input *in, conv_geometry g)
{
    const cpu_dev *c = cpu_peek(d);
    return prepare_must(c, in, g) ? (size_t)in->a.n * prepare_layout(c, in, g).image_bytes : 0;
}

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
    if (!prepare_must(cpu_of(d), in, g))
        return out;
    assert(p);
    prepare_state s = { cpu_of(d), in, g, prepare_layout(cpu_of(d), in, g), p, 0 };
    s.runs = (s.p.pitch + (g.kh > 1) + RUN - 1) / RUN;
    pool_run(s.c->pool, in->a.n * g.stride * g.stride * s.p.rows * s.runs, prepare_task, &s);
    out.ready = tensor_make(p, in->a.type, in->a.n, g.stride * g.stride * s.p.rows, s.p.pitch,
                            s.p.x.k);
    out.first = g.row0;
    return out;
}
