/* tests/bench/bench_kernels.c -- speed of the CPU device on the shapes of the real UNet.
 *
 *     bench_kernels [SECONDS_PER_SHAPE [THREADS [f32|bf16|w8a16|w8a8 [PART_OF_A_NAME]]]]
 *
 * One CFG step (two images) at 512x512.  Weights are fp16, or int8 with activations in f32
 * (w8a16) or in bf16 and rounded to int8 too (w8a8).  They are decoded anew in every run, as in
 * a streamed step.  `wall` is the rate by the clock, `cpu` by the processor time it took, which
 * other programs disturb less, both the median of five turns; `of peak` is the median of `wall` as
 * a share of what the loops of tests/bench/peak.h reach, each turn beside its own; `decode` is what
 * the same weights cost on an image of one pixel, as a share of the whole.  Attention in w8a8 is
 * bf16's, and compared with that.
 */
#define _POSIX_C_SOURCE 200809L
#include "kernels/ops.h"
#include "quant/f16.h"
#include "tests/bench/peak.h"
#include "tests/support/unet_shapes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { BATCH = 2 };

typedef struct operands {
    dev *d;
    tensor x, y, w, kv, affine;
    void *space; /* for the prepared input */
    size_t bytes;
} operands;

static double read_clock(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static bool is_attention_kind(const unet_shape *s)
{
    return s->kind == UNET_SELF || s->kind == UNET_CROSS;
}

static conv_geometry geometry_of(const operands *o, const unet_shape *s)
{
    const int k = s->kind == UNET_CONV ? 3 : 1;
    return (conv_geometry){ k, k, s->stride, k / 2, 0, o->y.h };
}

static matrix_input operands_input(const operands *o, const unet_shape *s)
{
    const bool norm = s->kind == UNET_CONV;
    return (matrix_input){ .a = o->x,
                           .h = o->x.h,
                           .w = o->x.w,
                           .silu = norm,
                           .affine = norm ? o->affine : (tensor){ 0 },
                           .quantised = o->w.type == DT_I8G64 };
}

static void run_operands(const operands *o, const unet_shape *s)
{
    const epilogue plain = { .act = ACT_NONE }, pairs = { .act = ACT_GEGLU };
    const int heads = s->c_in / 64;

    if (is_attention_kind(s)) {
        op_attention(o->d, o->y, o->x, o->kv, o->kv, heads, 0.125f, false);
        return;
    }
    const matrix_input in = operands_input(o, s);
    const conv_geometry g = geometry_of(o, s);
    const prepared_input x = op_prepare(o->d, o->space, &in, g);
    const matrix_rows w = one_block(o->w);
    if (unet_shape_is_conv(s))
        op_conv2d(o->d, o->y, &x, &w, g, &plain);
    else
        op_linear(o->d, o->y, &x, &w, s->kind == UNET_GEGLU ? &pairs : &plain);
}

static void *take_bytes(dev *d, size_t bytes)
{
    void *p = dev_alloc(d, bytes, DEV_VRAM);
    if (!p) {
        fprintf(stderr, "bench_kernels: out of memory\n");
        exit(1);
    }
    return p;
}

/* Codes of all sizes; their bytes read as fp16 scales are finite. */
static tensor take_int8(dev *d, int n, int h, int w, int c)
{
    tensor t = tensor_make(NULL, DT_I8G64, n, h, w, c);
    int8_t *q = t.data = take_bytes(d, tensor_bytes(t));
    for (size_t i = 0; i < tensor_bytes(t); i++)
        q[i] = (int8_t)(i * 2654435761u % 97 - 48);
    return t;
}

static tensor make_operand(dev *d, dtype type, int n, int h, int w, int c)
{
    tensor t = tensor_make(NULL, type, n, h, w, c);
    t.data = take_bytes(d, tensor_bytes(t));
    for (size_t i = 0; i < tensor_bytes(t) / dtype_bytes(type); i++) {
        const float v = (float)(i * 2654435761u % 1000) / 1000.0f - 0.5f;
        if (type == DT_F32)
            ((float *)t.data)[i] = v;
        else
            ((uint16_t *)t.data)[i] = type == DT_F16 ? f32_to_f16(v) : f32_to_bf16(v);
    }
    return t;
}

static void free_operand(dev *d, tensor t)
{
    if (t.data)
        dev_free(d, t.data, tensor_bytes(t), DEV_VRAM);
}

/* As a pack has it: the first and the last convolution are never int8. */
static bool is_int8(const unet_shape *s, bool wanted)
{
    return wanted && s->c_in >= I8_GROUP && s->c_out >= I8_GROUP;
}

typedef struct kernel_mode {
    const char *name;
    dtype type;
    bool int8, int8_math;
    peak_kind peak;
} kernel_mode;

static const kernel_mode MODES[] = {
    { "f32", DT_F32, false, false, PEAK_F32 },
    { "bf16", DT_BF16, false, false, PEAK_BF16 },
    { "w8a16", DT_F32, true, false, PEAK_F32 },
    { "w8a8", DT_BF16, true, true, PEAK_INT8 },
};

static operands make_operands(dev *d, const kernel_mode *m, const unet_shape *s, int size)
{
    const int in = size * s->stride, k = s->kind == UNET_CONV ? 3 : 1;
    const dtype type = m->type;
    operands o = { .d = d };

    o.x = make_operand(d, type, BATCH, in, in, s->c_in);
    o.y = make_operand(d, type, BATCH, size, size, s->kind == UNET_GEGLU ? s->c_out / 2 : s->c_out);
    if (is_attention_kind(s))
        o.kv = make_operand(d, type, BATCH, 1, s->kind == UNET_CROSS ? 77 : size * size, s->c_in);
    else
        o.w = is_int8(s, m->int8) ? take_int8(d, s->c_out, k, k, s->c_in)
                                  : make_operand(d, DT_F16, s->c_out, k, k, s->c_in);
    o.affine = make_operand(d, DT_F32, BATCH, 1, 2, s->c_in);
    if (!is_attention_kind(s)) {
        const matrix_input input = operands_input(&o, s);
        o.bytes = op_prepare_bytes(d, &input, geometry_of(&o, s));
        o.space = o.bytes ? take_bytes(d, o.bytes) : NULL;
    }
    return o;
}

static void free_operands(operands *o)
{
    free_operand(o->d, o->x);
    free_operand(o->d, o->y);
    free_operand(o->d, o->w);
    free_operand(o->d, o->kv);
    free_operand(o->d, o->affine);
    dev_free(o->d, o->space, o->bytes, DEV_VRAM);
}

enum { TURNS = 5 };

/* Seconds of a run, and what of the peak it reached, turn by turn; then in order. */
typedef struct timing {
    double wall[TURNS], cpu[TURNS], share[TURNS];
    double gflop;
    size_t workspace;
} timing;

static int compare_turns(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median_turn(double v[TURNS])
{
    qsort(v, TURNS, sizeof *v, compare_turns);
    return v[TURNS / 2];
}

/* Asks the plan for work and workspace. */
static timing plan_operands(const operands *o, const unet_shape *s)
{
    operands p = *o;
    p.d = dev_open_plan(o->d, NULL);
    if (!p.d)
        exit(1);
    run_operands(&p, s);
    const timing t = { .gflop = 2e-9 * (double)dev_work_macs(dev_plan_work(p.d)),
                       .workspace = dev_workspace_needed(p.d) };
    dev_close(p.d);
    return t;
}

static peak_kind peak_of(const kernel_mode *m, const unet_shape *s)
{
    if (m->peak == PEAK_INT8 && (is_attention_kind(s) || !is_int8(s, true)))
        return PEAK_BF16;
    return m->peak;
}

/* Runs for so long and, of a whole shape, as long at its peak. */
static void measure_turn(timing *t, int i, const operands *o, const unet_shape *s, double budget,
                         const kernel_mode *m, int threads)
{
    const double wall = read_clock(CLOCK_MONOTONIC), cpu = read_clock(CLOCK_PROCESS_CPUTIME_ID);
    int runs = 0;
    do {
        run_operands(o, s);
        runs++;
    } while (read_clock(CLOCK_MONOTONIC) < wall + budget);
    t->wall[i] = (read_clock(CLOCK_MONOTONIC) - wall) / runs;
    t->cpu[i] = (read_clock(CLOCK_PROCESS_CPUTIME_ID) - cpu) / runs;
    const double peak = 1e-9 * peak_rate(peak_of(m, s), threads, budget / 20);
    t->share[i] = peak > 0 ? t->gflop / t->wall[i] / peak : 0;
}

/* After a run that makes the memory there. */
static timing measure_shape(dev *d, const kernel_mode *m, const unet_shape *s, int size,
                            double budget)
{
    operands o = make_operands(d, m, s, size);
    timing t = plan_operands(&o, s);
    void *workspace = dev_alloc(d, t.workspace, DEV_VRAM);

    dev_workspace_set(d, workspace, t.workspace);
    run_operands(&o, s);
    for (int i = 0; i < TURNS; i++)
        measure_turn(&t, i, &o, s, budget / TURNS, m, dev_threads(d));
    dev_workspace_set(d, NULL, 0);
    dev_free(d, workspace, t.workspace, DEV_VRAM);
    free_operands(&o);
    return t;
}

static const kernel_mode *find_mode(const char *name)
{
    for (size_t i = 0; i < sizeof MODES / sizeof MODES[0]; i++)
        if (strcmp(name, MODES[i].name) == 0)
            return &MODES[i];
    fprintf(stderr, "bench_kernels: no mode '%s'; there are f32, bf16, w8a16, w8a8\n", name);
    exit(2);
}

int main(int argc, char **argv)
{
    const double budget = argc > 1 ? strtod(argv[1], NULL) : 0.5;
    const kernel_mode *m = find_mode(argc > 3 ? argv[3] : "f32");
    const dev_options options = {
        .compute = m->type,
        .int8_math = m->int8_math,
        .threads = argc > 2 ? (int)strtol(argv[2], NULL, 10) : 0,
    };
    const char *only = argc > 4 ? argv[4] : "";
    double wall = 0, gflop = 0, cpu = 0, at_peak = 0;
    refine_error err = { 0 };
    dev *d = dev_open_cpu(&options, &err);

    if (!d) {
        fprintf(stderr, "bench_kernels: %s\n", err.text);
        return 1;
    }
    printf("%s; peak: %s\n%-22s %8s %9s %9s %8s %7s %9s\n", dev_model(d), peak_instruction(m->peak),
           "shape", "GFLOP", "GF/s wall", "GF/s cpu", "of peak", "decode", "workspace");
    for (int i = 0; i < N_UNET_SHAPES; i++) {
        const unet_shape *s = &UNET_SHAPES[i];
        if (!strstr(s->name, only))
            continue;
        timing t = measure_shape(d, m, s, s->size, budget);
        timing one = measure_shape(d, m, s, 1, budget / 4);
        const double took = median_turn(t.wall), used = median_turn(t.cpu),
                     share = median_turn(t.share);
        printf("%-22s %8.2f %9.1f %9.1f %8.3f %6.1f%% %8.1fM\n", s->name, t.gflop, t.gflop / took,
               t.gflop / used, share, is_attention_kind(s) ? 0 : 100 * median_turn(one.cpu) / used,
               (double)t.workspace / 1048576);
        fflush(stdout);
        wall += s->times * took;
        cpu += s->times * used;
        at_peak += s->times * took * share;
        gflop += s->times * t.gflop;
    }
    printf("a step, as far as listed: %.0f GFLOP, %.2f s, %.1f GF/s wall, %.1f GF/s per cpu "
           "second, %.3f of the peak of each\n",
           gflop, wall, gflop / wall, gflop / cpu, at_peak / wall);
    dev_close(d);
    return 0;
}
