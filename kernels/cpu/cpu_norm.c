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

/* What a unit leaves behind for each group. */
typedef struct group_sums {
    double sum, squares;
} group_sums;

static group_sums *group_sums_at(tensor sums, int n, int unit)
{
    group_sums *all = sums.data;
    return all + ((size_t)n * (size_t)sums.h + (size_t)unit) * (size_t)sums.w;
}

typedef struct group_state {
    const cpu_dev *c;
    tensor sums, a, b;
    int unit0, units;    /* of the band */
    carve_parts threads; /* channel_sums each */
} group_state;

/* A thread's, of one unit: [c] each. */
typedef struct channel_sums {
    int c;
    double *sum, *squares;
} channel_sums;

static void carve_channel_sums(carver *at, void *context)
{
    channel_sums *s = context;
    s->sum = carve_block(at, (size_t)s->c * sizeof *s->sum);
    s->squares = carve_block(at, (size_t)s->c * sizeof *s->squares);
}

static void carve_group_state(carver *at, void *context)
{
    group_state *s = context;
    channel_sums each = { .c = s->a.c + s->b.c };
    s->threads = carve_each(at, s->c->threads, carve_channel_sums, &each);
}

size_t cpu_groupnorm_workspace(const dev *d, tensor a, tensor b)
{
    group_state s = { .c = cpu_peek(d), .a = a, .b = b };
    return cpu_workspace_bytes(carve_group_state, &s);
}

static channel_sums sums_of_thread(const group_state *s, int thread)
{
    channel_sums mine = { .c = s->a.c + s->b.c };
    carver at = carve_part(s->threads, thread);
    carve_channel_sums(&at, &mine);
    return mine;
}

/* sum[i] and squares[i] of the channels of t over pixels [p0, p1). */
static void add_pixels(const vec *v, double *sum, double *squares, tensor t, size_t p0, size_t p1)
{
    float wide[PART];
    const bool plain = t.type == DT_F32 && t.exp2 == 0;

    for (size_t p = p0; p < p1; p++)
        for (int c = 0; c < t.c; c += PART) {
            const int n = t.c - c < PART ? t.c - c : PART;
            const float *row = wide;
            if (plain)
                row = (const float *)(const void *)element_address(t, p, c);
            else
                row_load(v, wide, t, p, c, n);
            v->moments(sum + c, squares + c, row, (size_t)n);
        }
}

static void sum_task(void *context, int task, int thread)
{
    const group_state *s = context;
    const int unit = s->unit0 + task % s->units, n = task / s->units;
    const channel_sums mine = sums_of_thread(s, thread);
    const int size = mine.c / s->sums.w;
    const int end = unit * BAND_UNIT + BAND_UNIT < s->a.h ? unit * BAND_UNIT + BAND_UNIT : s->a.h;
    const size_t w = (size_t)s->a.w, image = (size_t)n * tensor_pixels(s->a);
    const size_t p0 = image + (size_t)unit * BAND_UNIT * w, p1 = image + (size_t)end * w;
    group_sums *out = group_sums_at(s->sums, n, unit);

    memset(mine.sum, 0, (size_t)mine.c * sizeof *mine.sum);
    memset(mine.squares, 0, (size_t)mine.c * sizeof *mine.squares);
    add_pixels(s->c->v, mine.sum, mine.squares, s->a, p0, p1);
    if (tensor_present(s->b))
        add_pixels(s->c->v, mine.sum + s->a.c, mine.squares + s->a.c, s->b, p0, p1);
    for (int g = 0; g < s->sums.w; g++) {
        out[g] = (group_sums){ 0, 0 };
        for (int c = g * size; c < (g + 1) * size; c++) {
            out[g].sum += mine.sum[c];
            out[g].squares += mine.squares[c];
        }
    }
}

void cpu_groupnorm_sums(dev *d, tensor sums, tensor a, tensor b, int row0, int rows)
{
    group_state s = { .c = cpu_peek(d),
                      .sums = sums,
                      .a = a,
                      .b = b,
                      .unit0 = row0 / BAND_UNIT,
                      .units = band_units(rows) };
    if (!cpu_workspace_cut(cpu_of(d), carve_group_state, &s))
        return;
    pool_run(s.c->pool, a.n * s.units, sum_task, &s);
    cpu_workspace_check(cpu_of(d), "groupnorm_sums", carve_group_state, &s);
}

static group_sums fold_group_sums(tensor sums, int n, int g)
{
    group_sums all = { 0, 0 };
    for (int u = 0; u < sums.h; u++) {
        all.sum += group_sums_at(sums, n, u)[g].sum;
        all.squares += group_sums_at(sums, n, u)[g].squares;
    }
    return all;
}

void cpu_groupnorm(dev *d, tensor affine, tensor sums, int h, int w, tensor gain, tensor bias,
                   float eps)
{
    const int size = affine.c / sums.w;
    const double count = (double)h * (double)w * (double)size;
    (void)d;
    for (int n = 0; n < affine.n; n++) {
        float *slope = (float *)affine.data + (size_t)n * 2 * (size_t)affine.c;
        float *offset = slope + affine.c;
        for (int g = 0; g < sums.w; g++) {
            const group_sums all = fold_group_sums(sums, n, g);
            const double mean = all.sum / count;
            const double variance = fmax(all.squares / count - mean * mean, 0.0);
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
        else if (s->f == ACT_QUICK_GELU)
            s->v->quick_gelu(row, (size_t)n);
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
