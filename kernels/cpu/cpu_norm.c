/* kernels/cpu/cpu_norm.c -- statistics in doubles, over fixed parts, folded in a fixed order.
 *
 * GroupNorm.  A part is BAND_UNIT rows of one image: sums and sums of squares per channel,
 * folded into the groups' there; then the parts of an image, top to bottom.  Products of
 * floats are exact in double, so squares minus mean squared lose nothing that matters.
 *
 * LayerNorm and the elementwise operators take a few pixels per task.
 */
#include "kernels/cpu/cpu.h"

#include "engine/base/num.h"
#include "kernels/cpu/rows.h"

#include <math.h>
#include <string.h>

enum { PART = 2048 }; /* channels handled at a time, on the stack */

/* ---- GroupNorm ---- */

typedef struct group_plan {
    int units, c, groups;
    size_t sums_bytes;   /* of all parts: [n][unit][group]{sum, squares} */
    size_t thread_bytes; /* [2][c] */
    size_t bytes;
} group_plan;

static group_plan plan_groups(const cpu_dev *c, tensor a, tensor b, int groups)
{
    group_plan p = { .units = (a.h + BAND_UNIT - 1) / BAND_UNIT, .c = a.c + b.c, .groups = groups };
    p.sums_bytes = (size_t)a.n * (size_t)p.units * (size_t)groups * 2 * sizeof(double);
    p.thread_bytes = num_align((size_t)p.c * 2 * sizeof(double), CPU_ALIGN);
    p.bytes = CPU_ALIGN + num_align(p.sums_bytes, CPU_ALIGN) + (size_t)c->threads * p.thread_bytes;
    return p;
}

size_t cpu_groupnorm_workspace(const dev *d, tensor a, tensor b, int groups)
{
    return plan_groups(cpu_peek(d), a, b, groups).bytes;
}

typedef struct group_state {
    cpu_dev *c;
    tensor a, b;
    group_plan p;
    double *sums;
    char *threads;
} group_state;

/* sum[i] and squares[i] of the channels of t over pixels [p0, p1). */
static void channel_sums(const vec *v, double *sum, double *squares, tensor t, size_t p0, size_t p1)
{
    float wide[PART];
    const bool plain = t.type == DT_F32 && t.exp2 == 0;

    for (size_t p = p0; p < p1; p++)
        for (int c = 0; c < t.c; c += PART) {
            const int n = t.c - c < PART ? t.c - c : PART;
            const float *row = wide;
            if (plain)
                row = (const float *)(const void *)row_at(t, p, c);
            else
                row_load(v, wide, t, p, c, n);
            v->moments(sum + c, squares + c, row, (size_t)n);
        }
}

static void sum_task(void *context, int task, int thread)
{
    const group_state *s = context;
    const int unit = task % s->p.units, n = task / s->p.units, size = s->p.c / s->p.groups;
    const int end = unit * BAND_UNIT + BAND_UNIT < s->a.h ? unit * BAND_UNIT + BAND_UNIT : s->a.h;
    const size_t w = (size_t)s->a.w, image = (size_t)n * tensor_pixels(s->a);
    const size_t p0 = image + (size_t)unit * BAND_UNIT * w, p1 = image + (size_t)end * w;
    double *sum = (double *)(void *)(s->threads + (size_t)thread * s->p.thread_bytes);
    double *squares = sum + s->p.c;
    double *out = s->sums + (size_t)task * (size_t)s->p.groups * 2;

    memset(sum, 0, (size_t)s->p.c * 2 * sizeof *sum);
    channel_sums(s->c->v, sum, squares, s->a, p0, p1);
    if (tensor_present(s->b))
        channel_sums(s->c->v, sum + s->a.c, squares + s->a.c, s->b, p0, p1);
    for (int g = 0; g < s->p.groups; g++) {
        out[2 * g] = out[2 * g + 1] = 0;
        for (int c = g * size; c < (g + 1) * size; c++) {
            out[2 * g] += sum[c];
            out[2 * g + 1] += squares[c];
        }
    }
}

static void fold(const group_state *s, int n, int g, double *mean, double *variance)
{
    const double count = (double)tensor_pixels(s->a) * (double)(s->p.c / s->p.groups);
    double sum = 0, squares = 0;
    for (int u = 0; u < s->p.units; u++) {
        const double *part = s->sums +
                             ((size_t)(n * s->p.units + u) * (size_t)s->p.groups + (size_t)g) * 2;
        sum += part[0];
        squares += part[1];
    }
    *mean = sum / count;
    *variance = fmax(squares / count - *mean * *mean, 0.0);
}

void cpu_groupnorm(dev *d, tensor affine, tensor a, tensor b, tensor gain, tensor bias, int groups,
                   float eps)
{
    group_state s = { cpu_of(d), a, b, plan_groups(cpu_of(d), a, b, groups), NULL, NULL };
    const int size = s.p.c / groups;
    char *space = cpu_workspace(s.c, s.p.bytes);
    if (!space)
        return;
    s.sums = (double *)(void *)space;
    s.threads = space + num_align(s.p.sums_bytes, CPU_ALIGN);
    pool_run(s.c->pool, a.n * s.p.units, sum_task, &s);

    for (int n = 0; n < a.n; n++) {
        float *slope = (float *)affine.data + (size_t)n * 2 * (size_t)affine.c;
        float *offset = slope + affine.c;
        for (int g = 0; g < groups; g++) {
            double mean, variance;
            fold(&s, n, g, &mean, &variance);
            for (int c = g * size; c < (g + 1) * size; c++) {
                const double by = (double)((const float *)gain.data)[c] /
                                  sqrt(variance + (double)eps);
                slope[c] = (float)by;
                offset[c] = (float)((double)((const float *)bias.data)[c] - mean * by);
            }
        }
    }
}

/* ---- pixel by pixel ---- */

enum { PIXELS_PER_TASK = 16 };

typedef struct pixel_state {
    const vec *v;
    tensor y, a, b;
    tensor affine; /* or absent */
    act f;
    const float *gain, *bias; /* of LayerNorm */
    float eps;
} pixel_state;

static void run_pixels(cpu_dev *c, pool_task *f, pixel_state *s)
{
    const size_t pixels = (size_t)s->y.n * tensor_pixels(s->y);
    pool_run(c->pool, (int)((pixels + PIXELS_PER_TASK - 1) / PIXELS_PER_TASK), f, s);
}

static void pixels_of_task(const pixel_state *s, int task, size_t *first, size_t *end)
{
    *first = (size_t)task * PIXELS_PER_TASK;
    *end = num_min(*first + PIXELS_PER_TASK, (size_t)s->y.n * tensor_pixels(s->y));
}

/* Channels [c0, ...) of y from those of t, which are t's [0, t.c). */
static void map_pixel(const pixel_state *s, tensor t, size_t p, int c0)
{
    const size_t n_image = p / tensor_pixels(s->y);
    float row[PART];

    for (int c = 0; c < t.c; c += PART) {
        const int n = t.c - c < PART ? t.c - c : PART;
        row_load(s->v, row, t, p, c, n);
        if (tensor_present(s->affine)) {
            const float *slope = (const float *)s->affine.data + 2 * n_image * (size_t)s->affine.c +
                                 (size_t)(c0 + c);
            s->v->affine(row, slope, slope + s->affine.c, (size_t)n);
        }
        if (s->f == ACT_SILU)
            s->v->silu(row, (size_t)n);
        else if (s->f == ACT_GELU)
            s->v->gelu(row, (size_t)n);
        row_store(s->v, s->y, p, c0 + c, n, row);
    }
}

static void map_task(void *context, int task, int thread)
{
    (void)thread;
    const pixel_state *s = context;
    size_t p, end;
    for (pixels_of_task(s, task, &p, &end); p < end; p++) {
        map_pixel(s, s->a, p, 0);
        if (tensor_present(s->b))
            map_pixel(s, s->b, p, s->a.c);
    }
}

void cpu_apply_norm(dev *d, tensor y, tensor a, tensor b, tensor affine, act f)
{
    pixel_state s = { .v = cpu_of(d)->v, .y = y, .a = a, .b = b, .affine = affine, .f = f };
    run_pixels(cpu_of(d), map_task, &s);
}

void cpu_silu(dev *d, tensor y, tensor x)
{
    pixel_state s = { .v = cpu_of(d)->v, .y = y, .a = x, .f = ACT_SILU };
    run_pixels(cpu_of(d), map_task, &s);
}

void cpu_convert(dev *d, tensor y, tensor x)
{
    pixel_state s = { .v = cpu_of(d)->v, .y = y, .a = x };
    run_pixels(cpu_of(d), map_task, &s);
}

/* ---- LayerNorm ---- */

/* Three passes over a row; a row longer than PART is loaded anew in each. */
static void normalise_pixel(const pixel_state *s, size_t p)
{
    const int c = s->a.c;
    double sum = 0, squares = 0;
    float row[PART];

    for (int i = 0; i < c; i += PART) {
        const int n = c - i < PART ? c - i : PART;
        row_load(s->v, row, s->a, p, i, n);
        sum += s->v->sum(row, (size_t)n);
    }
    const double mean = sum / c;
    for (int i = 0; i < c; i += PART) {
        const int n = c - i < PART ? c - i : PART;
        if (c > PART)
            row_load(s->v, row, s->a, p, i, n);
        squares += s->v->squares_about(row, mean, (size_t)n);
    }
    const float by = (float)(1.0 / sqrt(squares / c + (double)s->eps));
    for (int i = 0; i < c; i += PART) {
        const int n = c - i < PART ? c - i : PART;
        if (c > PART)
            row_load(s->v, row, s->a, p, i, n);
        s->v->normalise(row, (float)mean, by, s->gain + i, s->bias + i, (size_t)n);
        row_store(s->v, s->y, p, i, n, row);
    }
}

static void layernorm_task(void *context, int task, int thread)
{
    (void)thread;
    const pixel_state *s = context;
    size_t p, end;
    for (pixels_of_task(s, task, &p, &end); p < end; p++)
        normalise_pixel(s, p);
}

void cpu_layernorm(dev *d, tensor y, tensor x, tensor gain, tensor bias, float eps)
{
    pixel_state s = {
        .v = cpu_of(d)->v, .y = y, .a = x, .gain = gain.data, .bias = bias.data, .eps = eps
    };
    run_pixels(cpu_of(d), layernorm_task, &s);
}
