/* tests/bench/bench_cuda_kernels.c -- speed of the CUDA device's kernels on the shapes of the real
 * UNet and VAE, beside cuBLAS.
 *
 *     bench_cuda_kernels [PICTURE [RUNS [PART_OF_A_NAME [CHUNK_MIB [plain|norm|int8]]]]]
 *
 * A line of JSON for each shape and way: fp16 or int8 weights, a convolution with the norm in front
 * applied as it reads and without.  Both halves of the guidance are in one call, as in a step.
 * With CHUNK_MIB a matrix has only the rows that one chunk of a pack holds of it: what the engine
 * launches when it does not take several chunks at once.
 * Asked for one way alone, it shows a profiler that starts when it is told (ncu
 * --profile-from-start off) our launches that are timed, and no others.
 * Times are medians between events of the compute stream, after something else has filled the
 * card's caches.
 *
 * cuBLAS multiplies fp16 and sums in F32, as our kernels do, and has as much to multiply: a
 * convolution is the product that its windows, written out beforehand, would be; attention is its
 * two products without the softmax between them.
 */
#include "kernels/cuda/cuda.h"
#include "kernels/ops.h"
#include "quant/f16.h"
#include "tests/bench/cublas.h"
#include "tests/support/linear_case.h"
#include "tests/support/unet_shapes.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if __has_include(<cuda_profiler_api.h>) /* a package of its own in some toolkits */
#include <cuda_profiler_api.h>
#else
static cudaError_t cudaProfilerStart(void) { return cudaSuccess; }
static cudaError_t cudaProfilerStop(void) { return cudaSuccess; }
#endif

enum { PATTERN = 1 << 20, FLUSH = 256 << 20, WARM_UP = 3, RUNS_MAX = 101, BASE = 512 };

/* Products from here on should reach their share of cuBLAS. */
static const double LARGE_GFLOP = 20;

/* Of the VAE's middle: one head, one image. */
static const unet_shape VAE_SELF = { UNET_SELF, "self 512, one head (VAE)", 64, 512, 512, 1, 0 };

/* How a shape is computed. */
typedef struct kernel_way {
    bool int8, norm;
} kernel_way;

typedef struct kernels_bench {
    dev *d;
    cublas *g;
    void *flush; /* FLUSH bytes */
    char *pattern;
    dev_event *from, *to;
    int runs, chunk;  /* MiB; 0: whole matrices */
    const char *only; /* way; "": all */
} kernels_bench;

typedef struct problem {
    kernels_bench *b;
    const unet_shape *s;
    kernel_way way;
    int size, images, heads;
    tensor x, y, w, kv, affine;
    void *windows, *product; /* cuBLAS's: a convolution's input, written out; pairs, or q k^T */
    size_t windows_bytes, product_bytes;
} problem;

static bool is_attention_shape(const unet_shape *s)
{
    return s->kind == UNET_SELF || s->kind == UNET_CROSS;
}
static int filter_size(const unet_shape *s) { return s->kind == UNET_CONV ? 3 : 1; }

/* ---- operands ---- */

static void *alloc_patterned(kernels_bench *b, size_t bytes)
{
    void *p = dev_alloc(b->d, bytes, DEV_VRAM);
    for (size_t at = 0; p && at < bytes; at += PATTERN)
        dev_put(b->d, (char *)p + at, b->pattern, bytes - at < PATTERN ? bytes - at : PATTERN);
    return p;
}

static tensor take_tensor(kernels_bench *b, dtype type, int n, int h, int w, int c)
{
    tensor t = tensor_make(NULL, type, n, h, w, c);
    t.data = alloc_patterned(b, tensor_bytes(t));
    return t;
}

static void free_problem_tensor(const kernels_bench *b, tensor t)
{
    if (t.data)
        dev_free(b->d, t.data, tensor_bytes(t), DEV_VRAM);
}

/* What cuBLAS needs besides; what there is no room for it does not get. */
static void take_beside(problem *p)
{
    const unet_shape *s = p->s;
    const size_t pixels = (size_t)p->size * (size_t)p->size;
    if (!p->b->g)
        return;
    if (unet_shape_is_conv(s)) {
        p->windows_bytes = 2 * (size_t)p->images * pixels *
                           (size_t)(filter_size(s) * filter_size(s) * s->c_in);
        p->windows = alloc_patterned(p->b, p->windows_bytes);
    } else if (is_attention_shape(s) || s->kind == UNET_GEGLU) {
        p->product_bytes = is_attention_shape(s)
                               ? 2 * (size_t)p->heads * pixels * tensor_pixels(p->kv)
                               : 2 * (size_t)p->images * pixels * (size_t)s->c_out;
        p->product = alloc_patterned(p->b, p->product_bytes);
    }
}

static bool make_problem(problem *p)
{
    const unet_shape *s = p->s;
    const int in = p->size * s->stride, k = filter_size(s);
    kernels_bench *b = p->b;

    p->x = take_tensor(b, DT_F16, p->images, in, in, s->c_in);
    p->y = take_tensor(b, DT_F16, p->images, p->size, p->size,
                       s->kind == UNET_GEGLU ? s->c_out / 2 : s->c_out);
    if (is_attention_shape(s))
        p->kv = take_tensor(b, DT_F16, p->images, 1, s->kind == UNET_CROSS ? 77 : in * in, s->c_in);
    else
        p->w = take_tensor(b, p->way.int8 ? DT_I8G64 : DT_F16, s->c_out, k, k, s->c_in);
    p->affine = take_tensor(b, DT_F32, p->images, 1, 2, s->c_in);
    take_beside(p);
    return p->x.data && p->y.data && (p->w.data || p->kv.data) && p->affine.data;
}

static void free_problem(const problem *p)
{
    free_problem_tensor(p->b, p->x);
    free_problem_tensor(p->b, p->y);
    free_problem_tensor(p->b, p->w);
    free_problem_tensor(p->b, p->kv);
    free_problem_tensor(p->b, p->affine);
    dev_free(p->b->d, p->windows, p->windows_bytes, DEV_VRAM);
    dev_free(p->b->d, p->product, p->product_bytes, DEV_VRAM);
}

/* ---- the two sides ---- */

static bool run_problem_conv(dev *d, const problem *p)
{
    const epilogue plain = { .act = ACT_NONE };
    const int k = filter_size(p->s);
    const conv_geometry g = { k, k, p->s->stride, k / 2, 0, p->y.h };
    const matrix_input in = { .a = p->x,
                              .h = p->x.h,
                              .w = p->x.w,
                              .silu = p->way.norm,
                              .affine = p->way.norm ? p->affine : (tensor){ 0 },
                              .quantised = p->way.int8 };
    const prepared_input src = op_prepare(d, NULL, &in, g);
    const matrix_rows w = one_block(p->w);
    op_conv2d(d, p->y, &src, &w, g, &plain);
    return true;
}

static bool run_problem(dev *d, const problem *p)
{
    const epilogue plain = { .act = ACT_NONE }, pairs = { .act = ACT_GEGLU };
    const float scale = 1 / sqrtf((float)(p->s->c_in / p->heads));

    if (unet_shape_is_conv(p->s))
        return run_problem_conv(d, p);
    if (is_attention_shape(p->s))
        op_attention(d, p->y, p->x, p->kv, p->kv, p->heads, scale, false);
    else
        linear_once(d, p->y, p->x, p->w, p->s->kind == UNET_GEGLU ? &pairs : &plain);
    return true;
}

static bool run_ours(const problem *p)
{
    (void)run_problem(p->b->d, p);
    return dev_status(p->b->d) == REFINE_OK;
}

/* Of each image: S = q k^T, y = S v, for all heads at once. */
static bool run_attention_beside(const problem *p)
{
    const int c = p->s->c_in, hd = c / p->heads, tq = (int)tensor_pixels(p->x);
    const int tk = (int)tensor_pixels(p->kv);
    bool ran = p->product != NULL;
    for (int i = 0; ran && i < p->images; i++) {
        const void *kv = tensor_images(p->kv, i, 1).data;
        const cublas_args scores = { .a = tensor_images(p->x, i, 1).data,
                                     .b = kv,
                                     .c = p->product,
                                     .m = tq,
                                     .n = tk,
                                     .k = hd,
                                     .lda = c,
                                     .ldb = c,
                                     .ldc = tk,
                                     .batch = p->heads,
                                     .a_step = hd,
                                     .b_step = hd,
                                     .c_step = (long long)tq * tk };
        const cublas_args values = { .a = p->product,
                                     .b = kv,
                                     .c = tensor_images(p->y, i, 1).data,
                                     .m = tq,
                                     .n = hd,
                                     .k = tk,
                                     .lda = tk,
                                     .ldb = c,
                                     .ldc = c,
                                     .b_transposed = true,
                                     .batch = p->heads,
                                     .a_step = (long long)tq * tk,
                                     .b_step = hd,
                                     .c_step = hd };
        ran = cublas_multiply(p->b->g, &scores) && cublas_multiply(p->b->g, &values);
    }
    return ran;
}

static bool run_beside(const problem *p)
{
    const int k = filter_size(p->s) * filter_size(p->s) * p->s->c_in;
    const void *a = unet_shape_is_conv(p->s) ? p->windows : p->x.data;
    void *c = p->s->kind == UNET_GEGLU ? p->product : p->y.data;
    if (!p->b->g)
        return false;
    if (is_attention_shape(p->s))
        return run_attention_beside(p);
    const cublas_args args = { .a = a,
                               .b = p->w.data,
                               .c = c,
                               .m = p->images * p->size * p->size,
                               .n = p->s->c_out,
                               .k = k,
                               .lda = k,
                               .ldb = k,
                               .ldc = p->s->c_out,
                               .batch = 1 };
    return a && c && cublas_multiply(p->b->g, &args);
}

/* ---- timing ---- */

static int compare_run_times(const void *pa, const void *pb)
{
    const double a = *(const double *)pa, b = *(const double *)pb;
    return (a > b) - (a < b);
}

/* Seconds; 0: it does not run. */
static double time_one(const kernels_bench *b, bool (*run)(const problem *p), const problem *p)
{
    const cudaStream_t s = cuda_of(b->d)->stream[DEV_COMPUTE];
    (void)cudaMemsetAsync(b->flush, 0, FLUSH, s);
    dev_record(b->d, b->from, DEV_COMPUTE);
    if (!run(p))
        return 0;
    dev_record(b->d, b->to, DEV_COMPUTE);
    dev_sync(b->d, b->to);
    return dev_elapsed(b->d, b->from, b->to);
}

static double median_run_time(const kernels_bench *b, bool (*run)(const problem *p),
                              const problem *p)
{
    const bool profiled = run == run_ours && b->only[0] != '\0';
    double t[RUNS_MAX];
    for (int i = 0; i < WARM_UP && b->runs > 1; i++)
        if (time_one(b, run, p) <= 0)
            return 0;
    if (profiled)
        (void)cudaProfilerStart();
    for (int i = 0; i < b->runs; i++)
        t[i] = time_one(b, run, p);
    if (profiled)
        (void)cudaProfilerStop();
    qsort(t, (size_t)b->runs, sizeof *t, compare_run_times);
    return t[b->runs / 2];
}

/* ---- one line ---- */

/* The plan's count, and its workspace. */
static double work_of(const problem *p, size_t *workspace)
{
    dev *plan = dev_open_plan(p->b->d, NULL);
    if (!plan)
        return 0;
    (void)run_problem(plan, p);
    const double gflop = 2e-9 * (double)dev_work_macs(dev_plan_work(plan));
    *workspace = dev_workspace_needed(plan);
    dev_close(plan);
    return gflop;
}

static void print_problem_rates(const problem *p, int input_image, double gflop, double ours,
                                double theirs)
{
    static const char *const KINDS[] = { "linear", "geglu", "conv3", "conv1", "self", "cross" };
    printf(
        "{\"stage\":\"kernel\",\"picture\":%d,\"name\":\"%s\",\"kind\":\"%s\",\"weights\":\"%s\","
        "\"norm\":%s,\"times\":%d,\"chunk_mib\":%d,\"rows\":%d,\"gflop\":%.3f,\"large\":%s,"
        "\"us\":%.2f,\"tflops\":%.2f",
        input_image, p->s->name, KINDS[p->s->kind],
        is_attention_shape(p->s) ? "none"
        : p->way.int8            ? "int8"
                                 : "fp16",
        p->way.norm ? "true" : "false", p->s->times, p->b->chunk, p->s->c_out, gflop,
        gflop >= LARGE_GFLOP ? "true" : "false", 1e6 * ours, 1e-3 * gflop / ours);
    if (theirs > 0)
        printf(",\"cublas_us\":%.2f,\"cublas_tflops\":%.2f,\"of_cublas\":%.3f", 1e6 * theirs,
               1e-3 * gflop / theirs, theirs / ours);
    printf("}\n");
    fflush(stdout);
}

/* Weights of int8 have no counterpart in cuBLAS: fp16 ones of the same shape are multiplied. */
static double time_beside(const problem *p)
{
    problem q = *p;
    if (!p->way.int8)
        return median_run_time(p->b, run_beside, p);
    q.w = take_tensor(p->b, DT_F16, p->w.n, p->w.h, p->w.w, p->w.c);
    const double seconds = q.w.data ? median_run_time(p->b, run_beside, &q) : 0;
    free_problem_tensor(p->b, q.w);
    return seconds;
}

static bool measure_problem(kernels_bench *b, const unet_shape *s, int input_image, kernel_way w)
{
    const bool vae = s == &VAE_SELF;
    problem p = { .b = b,
                  .s = s,
                  .way = w,
                  .size = s->size * input_image / BASE,
                  .images = vae ? 1 : 2,
                  .heads = vae ? 1 : s->c_in / 64 };
    size_t bytes = 0;
    bool done = false;

    p.heads = p.heads > 0 ? p.heads : 1;
    if (make_problem(&p)) {
        const double gflop = work_of(&p, &bytes);
        void *workspace = bytes ? dev_alloc(b->d, bytes, DEV_VRAM) : NULL;
        dev_workspace_set(b->d, workspace, bytes);
        const double ours = median_run_time(b, run_ours, &p);
        done = ours > 0;
        if (done)
            print_problem_rates(&p, input_image, gflop, ours, time_beside(&p));
        dev_workspace_set(b->d, NULL, 0);
        dev_free(b->d, workspace, bytes, DEV_VRAM);
    }
    free_problem(&p);
    return done;
}

/* Rows of a matrix that a chunk holds: whole tiles, one at least (tools/packer/pack_cut.c). */
static int rows_of_chunk(const kernels_bench *b, const unet_shape *s, bool int8)
{
    const int k = filter_size(s), tile = tile_rows(k, k);
    const size_t bytes = int8 ? i8_bytes(tile, k * k, s->c_in)
                              : 2 * (size_t)tile * (size_t)(k * k * s->c_in);
    const size_t tiles = ((size_t)b->chunk << 20) / bytes;
    const size_t rows = (tiles > 0 ? tiles : 1) * (size_t)tile;
    return rows < (size_t)s->c_out ? (int)rows : s->c_out;
}

static bool measure_cut(kernels_bench *b, const unet_shape *s, int input_image, kernel_way w)
{
    unet_shape cut = *s;
    if (b->chunk == 0 || is_attention_shape(s))
        return measure_problem(b, s, input_image, w);
    cut.c_out = rows_of_chunk(b, s, w.int8);
    return measure_problem(b, &cut, input_image, w);
}

/* As a pack has it: the first and the last convolution are never int8. */
static bool may_be_int8(const unet_shape *s)
{
    return !is_attention_shape(s) && s->c_in >= I8_GROUP && s->c_out >= I8_GROUP;
}

static bool is_kernel_selected(const kernels_bench *b, const char *name)
{
    return b->only[0] == '\0' || strcmp(b->only, name) == 0;
}

static bool measure_ways(kernels_bench *b, const unet_shape *s, int input_image)
{
    const bool norm = s->kind == UNET_CONV && s->stride == 1;
    bool done = true;
    if (is_kernel_selected(b, "plain"))
        done = measure_cut(b, s, input_image, (kernel_way){ false, false });
    if (done && norm && is_kernel_selected(b, "norm"))
        done = measure_cut(b, s, input_image, (kernel_way){ false, true });
    if (done && may_be_int8(s) && is_kernel_selected(b, "int8"))
        done = measure_cut(b, s, input_image, (kernel_way){ true, norm });
    return done;
}

/* ---- all of it ---- */

/* Halves from 0 to 1/2; as bytes, codes of int8 and scales that are numbers. */
static bool make_pattern(kernels_bench *b)
{
    uint16_t *h = malloc(PATTERN);
    b->pattern = (char *)h;
    for (size_t i = 0; h && i < PATTERN / 2; i++)
        h[i] = f32_to_f16((float)(i * 2654435761u >> 9 & 0xffff) * 0x1p-17f);
    return h != NULL;
}

static bool open_kernels_bench(kernels_bench *b, refine_error *err)
{
    const dev_options o = { .compute = DT_F16 };
    b->d = dev_open_cuda(&o, 0, err);
    if (!b->d)
        return false;
    b->g = cublas_open(cuda_of(b->d)->stream[DEV_COMPUTE]);
    b->flush = dev_alloc(b->d, FLUSH, DEV_VRAM);
    b->from = dev_event_open(b->d);
    b->to = dev_event_open(b->d);
    return b->flush && b->from && b->to && make_pattern(b);
}

static void close_kernels_bench(kernels_bench *b)
{
    cublas_close(b->g);
    if (b->d) {
        dev_event_close(b->d, b->from);
        dev_event_close(b->d, b->to);
        dev_free(b->d, b->flush, FLUSH, DEV_VRAM);
    }
    dev_close(b->d);
    free(b->pattern);
}

static int parse_int_argument(int argc, char **argv, int i, int otherwise)
{
    return argc > i ? (int)strtol(argv[i], NULL, 10) : otherwise;
}

int main(int argc, char **argv)
{
    const int input_image = parse_int_argument(argc, argv, 1, 1024),
              runs = parse_int_argument(argc, argv, 2, 15);
    const char *only = argc > 3 ? argv[3] : "";
    kernels_bench b = { .runs = runs < 1          ? 1
                                : runs > RUNS_MAX ? RUNS_MAX
                                                  : runs,
                        .chunk = parse_int_argument(argc, argv, 4, 0),
                        .only = argc > 5 ? argv[5] : "" };
    refine_error err = { 0 };
    bool done = open_kernels_bench(&b, &err);

    for (int i = 0; done && i <= N_UNET_SHAPES; i++) {
        const unet_shape *s = i < N_UNET_SHAPES ? &UNET_SHAPES[i] : &VAE_SELF;
        if (strstr(s->name, only) && (s->times > 0 || s == &VAE_SELF) &&
            s->size * input_image >= BASE)
            done = measure_ways(&b, s, input_image);
    }
    if (!done)
        fprintf(stderr, "bench_cuda_kernels: %s\n",
                err.text[0]                           ? err.text
                : b.d && dev_status(b.d) != REFINE_OK ? dev_why(b.d)
                                                      : "out of memory");
    close_kernels_bench(&b);
    return !done;
}
