/* tests/bench/bench_onednn.c -- oneDNN's products of the shapes of the real UNet, to set
 * bench_kernels beside.
 *
 *     bench_onednn [SECONDS_PER_SHAPE [PART_OF_A_NAME]]
 *
 * Built where oneDNN 2 is found; the product does without it.  F32, one CFG step (two images) at
 * 512x512, weights laid out beforehand as it likes best, nothing fused but what a shape is: so it
 * is spared the decoding, the bias and the norms that bench_kernels counts.  OMP_NUM_THREADS says
 * how many threads.  Attention is left out.
 */
#define _POSIX_C_SOURCE 200809L
#include "tests/support/unet_shapes.h"

#include <dnnl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { BATCH = 2, TURNS = 5 };

static dnnl_engine_t engine;
static dnnl_stream_t stream;

static void check_dnnl(dnnl_status_t s)
{
    if (s == dnnl_success)
        return;
    fprintf(stderr, "bench_onednn: status %d\n", (int)s);
    exit(1);
}

static double monotonic_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static dnnl_memory_desc_t make_memory_desc(int n, const dnnl_dims_t dims, dnnl_format_tag_t tag)
{
    dnnl_memory_desc_t m;
    check_dnnl(dnnl_memory_desc_init_by_tag(&m, n, dims, dnnl_f32, tag));
    return m;
}

static dnnl_primitive_desc_t make_conv_desc(const unet_shape *s)
{
    const dnnl_dim_t size = s->size, in = size * s->stride, k = s->kind == UNET_CONV ? 3 : 1;
    const dnnl_dims_t x_dims = { BATCH, s->c_in, in, in }, w_dims = { s->c_out, s->c_in, k, k };
    const dnnl_dims_t y_dims = { BATCH, s->c_out, size, size };
    const dnnl_dims_t strides = { s->stride, s->stride }, before = { k / 2, k / 2 };
    const dnnl_dim_t last = (size - 1) * s->stride + k - in - k / 2;
    const dnnl_dims_t after = { last, last };
    const dnnl_memory_desc_t x = make_memory_desc(4, x_dims, dnnl_nhwc),
                             y = make_memory_desc(4, y_dims, dnnl_nhwc);
    const dnnl_memory_desc_t w = make_memory_desc(4, w_dims, dnnl_format_tag_any);
    dnnl_convolution_desc_t c;
    dnnl_primitive_desc_t out;
    check_dnnl(dnnl_convolution_forward_desc_init(&c, dnnl_forward_inference,
                                                  dnnl_convolution_direct, &x, &w, NULL, &y,
                                                  strides, before, after));
    check_dnnl(dnnl_primitive_desc_create(&out, &c, NULL, engine, NULL));
    return out;
}

static dnnl_primitive_desc_t make_matmul_desc(const unet_shape *s)
{
    const dnnl_dim_t m = (dnnl_dim_t)BATCH * s->size * s->size;
    const dnnl_dims_t x_dims = { m, s->c_in }, w_dims = { s->c_in, s->c_out };
    const dnnl_dims_t y_dims = { m, s->c_out };
    const dnnl_memory_desc_t x = make_memory_desc(2, x_dims, dnnl_ab),
                             y = make_memory_desc(2, y_dims, dnnl_ab);
    const dnnl_memory_desc_t w = make_memory_desc(2, w_dims, dnnl_format_tag_any);
    dnnl_matmul_desc_t d;
    dnnl_primitive_desc_t out;
    check_dnnl(dnnl_matmul_desc_init(&d, &x, &w, NULL, &y));
    check_dnnl(dnnl_primitive_desc_create(&out, &d, NULL, engine, NULL));
    return out;
}

static dnnl_memory_t make_dnnl_memory(const_dnnl_primitive_desc_t d, dnnl_query_t which)
{
    const dnnl_memory_desc_t *m = dnnl_primitive_desc_query_md(d, which, 0);
    const size_t n = dnnl_memory_desc_get_size(m) / sizeof(float);
    dnnl_memory_t out;
    void *data;
    check_dnnl(dnnl_memory_create(&out, m, engine, DNNL_MEMORY_ALLOCATE));
    check_dnnl(dnnl_memory_get_data_handle(out, &data));
    for (size_t i = 0; i < n; i++)
        ((float *)data)[i] = (float)(i * 2654435761u % 1000) / 1000.0f - 0.5f;
    return out;
}

static int compare_doubles(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Seconds of a run: the median of five turns. */
static double measure_primitive(const_dnnl_primitive_desc_t d, double budget)
{
    double took[TURNS];
    dnnl_primitive_t p;
    check_dnnl(dnnl_primitive_create(&p, d));
    dnnl_exec_arg_t args[] = { { DNNL_ARG_SRC, make_dnnl_memory(d, dnnl_query_src_md) },
                               { DNNL_ARG_WEIGHTS, make_dnnl_memory(d, dnnl_query_weights_md) },
                               { DNNL_ARG_DST, make_dnnl_memory(d, dnnl_query_dst_md) } };
    for (int i = -1; i < TURNS; i++) {
        const double begun = monotonic_now();
        int runs = 0;
        do {
            check_dnnl(dnnl_primitive_execute(p, stream, 3, args));
            check_dnnl(dnnl_stream_wait(stream));
            runs++;
        } while (i >= 0 && monotonic_now() < begun + budget / TURNS);
        if (i >= 0) /* the first makes the memory there */
            took[i] = (monotonic_now() - begun) / runs;
    }
    for (int i = 0; i < 3; i++)
        check_dnnl(dnnl_memory_destroy(args[i].memory));
    check_dnnl(dnnl_primitive_destroy(p));
    qsort(took, TURNS, sizeof *took, compare_doubles);
    return took[TURNS / 2];
}

int main(int argc, char **argv)
{
    const double budget = argc > 1 ? strtod(argv[1], NULL) : 0.5;
    const char *only = argc > 2 ? argv[2] : "";
    double wall = 0, gflop = 0;
    check_dnnl(dnnl_engine_create(&engine, dnnl_cpu, 0));
    check_dnnl(dnnl_stream_create(&stream, engine, dnnl_stream_default_flags));
    for (int i = 0; i < N_UNET_SHAPES; i++) {
        const unet_shape *s = &UNET_SHAPES[i];
        if (s->kind == UNET_SELF || s->kind == UNET_CROSS || !strstr(s->name, only))
            continue;
        const double k = s->kind == UNET_CONV ? 9 : 1;
        const double work = 2e-9 * BATCH * s->size * s->size * s->c_in * k * s->c_out;
        dnnl_primitive_desc_t d = unet_shape_is_conv(s) ? make_conv_desc(s) : make_matmul_desc(s);
        const double took = measure_primitive(d, budget);
        check_dnnl(dnnl_primitive_desc_destroy(d));
        printf("%-22s %8.2f GFLOP %9.1f GF/s\n", s->name, work, work / took);
        fflush(stdout);
        wall += s->times * took;
        gflop += s->times * work;
    }
    printf("a step, as far as listed: %.0f GFLOP, %.2f s, %.1f GF/s\n", gflop, wall, gflop / wall);
    check_dnnl(dnnl_stream_destroy(stream));
    check_dnnl(dnnl_engine_destroy(engine));
    return 0;
}
